"""What a configuration will send by itself: local MQTT messages, and records and bytes to Kafka.

Only what this process makes at a known pace: telemetry of the recharge points it polls, and its own. What agents and
other clients publish, alerts and results come on top, and nobody can foretell them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from evedge.config import Config
from evedge.config_kafka import kafka_topics
from evedge.core import codec
from evedge.core.forecast import EndpointForecast
from evedge.core.forecast_records import LaneForecast, Source, lane_forecast, publish_bytes, telemetry_source
from evedge.core.machine import GatewayTelemetry, MachineReading
from evedge.core.model import Record, Stream
from evedge.core.times import to_rfc3339
from evedge.flows.forwarder import GATHER_TELEMETRY_S
from evedge.flows.housekeeping import TELEMETRY_EVERY_S
from evedge.flows.schedule import SLOT_MS
from evedge.links.kafka_partitions import partition_of
from evedge.links.kafka_settings import Compression
from evedge.links.kafka_size import batch_bytes

_DAY_S = 86_400
_SAMPLE_MS = 1_767_225_600_000
_SAMPLE_MACHINE = MachineReading(
    cpu_percent=12.5,
    load_1m=0.42,
    memory_used_percent=37.5,
    memory_available_bytes=2_468_013_579,
    disk_used_percent=21.5,
    disk_free_bytes=24_680_135_790,
    temperature_c=48.5,
    process_cpu_percent=3.5,
    process_rss_bytes=86_420_135,
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What leaves by itself. MQTT is what each subscriber to all of it gets.

    lanes: by Kafka topic; empty without Kafka. compression: the configuration's. journal_full_after_s: how long Kafka
    may be away before `[journal] max_bytes` is reached; None without Kafka or without anything to send.
    """

    mqtt_messages_per_s: float
    mqtt_bytes_per_s: float
    lanes: tuple[LaneForecast, ...]
    compression: Compression | None
    journal_full_after_s: float | None

    @property
    def records_per_day(self) -> float:
        return sum(lane.records for lane in self.lanes)

    @property
    def plain_bytes_per_day(self) -> float:
        return sum(lane.plain_bytes for lane in self.lanes)

    @property
    def compressed_bytes_per_day(self) -> float:
        return sum(lane.compressed_bytes for lane in self.lanes)


def forecast_traffic(config: Config, endpoints: Sequence[EndpointForecast]) -> Traffic:
    """From what is polled how often to what leaves."""
    telemetry = _telemetry(config, endpoints)
    sources = [*telemetry, *_own_telemetry(config)]
    rates = [(1 / source.interval_s, publish_bytes(source.mqtt_topic, source.make(0).value)) for source in sources]
    compression = None if config.kafka is None else Compression(config.kafka.compression)
    lanes = () if compression is None else tuple(_lanes(config, sources, compression))
    journal_per_day = sum(lane.journal_bytes for lane in lanes)
    return Traffic(
        mqtt_messages_per_s=sum(rate for rate, _ in rates),
        mqtt_bytes_per_s=sum(rate * size for rate, size in rates),
        lanes=lanes,
        compression=compression,
        journal_full_after_s=config.journal.max_bytes / journal_per_day * _DAY_S if journal_per_day else None,
    )


def _lanes(config: Config, sources: Sequence[Source], compression: Compression) -> list[LaneForecast]:
    partitions = {spec.name: spec.partitions for spec in kafka_topics(config)}
    by_topic: dict[str, list[Source]] = {}
    for source in sources:
        by_topic.setdefault(source.make(0).lane, []).append(source)
    return [
        lane_forecast(
            topic,
            of_topic,
            gather_s=GATHER_TELEMETRY_S,
            partition_of=partial(partition_of, partitions=partitions[topic]),
            plain=batch_bytes,
            compressed=partial(batch_bytes, compression=compression),
        )
        for topic, of_topic in by_topic.items()
    ]


def _topics(config: Config) -> Mapping[Stream, str]:
    """Without Kafka the records' topics are of no matter, but what they hold is what MQTT carries."""
    return {} if config.kafka is None else config.kafka.topics.resolved(config.gateway.id)


def _telemetry(config: Config, endpoints: Sequence[EndpointForecast]) -> list[Source]:
    """Each endpoint has a slot of its own to start polls in, as `build.pollers` gives them."""
    topic = _topics(config).get(Stream.TELEMETRY, "")
    found = []
    for slot, endpoint in enumerate(endpoints):
        after_s = 0.0
        for point in endpoint.points:
            after_s += endpoint.busy_s(point)
            found.append(
                telemetry_source(
                    point.plan.profile,
                    own=config.own_topics,
                    recharge_point=point.recharge_point,
                    kafka_topic=topic,
                    interval_s=point.interval_s,
                    first_s=slot * SLOT_MS / 1000 % point.interval_s + after_s,
                )
            )
    return found


def _own_telemetry(config: Config) -> list[Source]:
    """The gateway's own, as housekeeping makes it; an agent publishes nothing of the gateway's."""
    if config.role == "agent":
        return []
    topics = _topics(config)
    lane = topics.get(Stream.GATEWAY_TELEMETRY, "")
    gateway = config.gateway.id
    mqtt_topic = config.own_topics.telemetry
    headers = codec.headers(
        codec.STREAM_TYPES[Stream.GATEWAY_TELEMETRY],
        gateway,
        None,
        mqtt_topic=mqtt_topic,
        mqtt_qos=1,
        mqtt_retain=False,
    )
    written = [spec.name for spec in kafka_topics(config) if spec.name != topics.get(Stream.COMMANDS)]

    def make(n: int) -> Record:
        at_ms = _SAMPLE_MS + round(n * TELEMETRY_EVERY_S * 1000)
        telemetry = GatewayTelemetry(
            gateway=gateway,
            measured_at=to_rfc3339(at_ms),
            machine=_SAMPLE_MACHINE,
            loop_lag_s=0.0012,
            journal_bytes=4096,
            journal_max_bytes=config.journal.max_bytes,
            waiting=dict.fromkeys(written, 0),
            mqtt_clients=3,
            kafka_up=None if config.kafka is None else True,
        )
        return Record(lane, codec.key(gateway, None), codec.encode(telemetry), headers, at_ms, False, 1_000_000 + n)

    return [Source(mqtt_topic, TELEMETRY_EVERY_S, TELEMETRY_EVERY_S, make)]
