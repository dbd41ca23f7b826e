"""How much will leave: sample telemetry as a profile gives it, and what many of its records amount to on Kafka.

The samples are of a car that charges, with a little noise, so that their size and how well they compress is that of the
real thing; numbers have the resolution of the device's registers. Records gather for a moment before they are sent, so
what a batch holds follows from when polls start; that is played through for a while and taken for the whole day.

Knows neither Kafka's format nor compression: whoever does is passed in.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evedge.core import codec
from evedge.core.measurands import MEASURANDS, State
from evedge.core.model import Quality, Record, Stream, Telemetry, Value
from evedge.core.profile import Profile
from evedge.core.times import to_rfc3339
from evedge.core.topics import Leaf, OwnTopics

DAY_S = 86_400
SAMPLE_RECORDS = 1000
SAMPLE_ROUNDS = 20
_SAMPLE_MS = 1_767_225_600_000  # a moment like any other
_SAMPLE_SEQ = 1_000_000  # as many digits as the numbers have for years

BatchBytes = Callable[[Sequence[Record]], int]
"""How long a batch of these records is as Kafka stores it."""

Gathered = tuple[float, Record]
"""When a record is there (s), and the record."""

_SAMPLES: Mapping[str, tuple[float, float]] = {
    "active_power_w": (11_040.0, 60.0),
    **{f"active_power_l{phase}_w": (3_680.0, 20.0) for phase in (1, 2, 3)},
    **{f"current_l{phase}_a": (15.9, 0.2) for phase in (1, 2, 3)},
    **{f"voltage_l{phase}_v": (230.3, 1.5) for phase in (1, 2, 3)},
    "energy_import_wh": (1_234_567.0, 3.0),
    "session_energy_wh": (12_345.0, 3.0),
    "session_duration_s": (4_000.0, 1.0),
    "current_limit_a": (16.0, 0.0),
    "power_limit_w": (11_040.0, 0.0),
    "current_max_a": (32.0, 0.0),
    "temperature_c": (31.5, 0.5),
    "soc_percent": (57.0, 0.0),
}
"""A number of a car that charges with 11 kW, and by how much it varies."""


@dataclass(frozen=True, slots=True)
class Source:
    """Messages that come by themselves: the nth (from 0) at first_s + n x interval_s, on one MQTT topic."""

    mqtt_topic: str
    interval_s: float
    first_s: float
    make: Callable[[int], Record]

    @property
    def records_per_day(self) -> float:
        return DAY_S / self.interval_s


@dataclass(frozen=True, slots=True)
class LaneForecast:
    """One Kafka topic's day. Bytes are those of record batches, without the requests around them.

    journal_bytes: what the same records count against `[journal] max_bytes` when nothing can be sent.
    """

    kafka_topic: str
    records: float
    record_bytes: float
    batches: float
    plain_bytes: float
    compressed_bytes: float
    journal_bytes: float


def telemetry_source(
    profile: Profile, *, own: OwnTopics, recharge_point: str, kafka_topic: str, interval_s: float, first_s: float
) -> Source:
    """The telemetry of one recharge point as its poller will publish it."""
    topic = own.recharge_point(recharge_point, Leaf.TELEMETRY)
    headers = codec.headers(
        codec.STREAM_TYPES[Stream.TELEMETRY],
        own.gateway,
        recharge_point,
        mqtt_topic=topic,
        mqtt_qos=1,
        mqtt_retain=False,
    )
    key = codec.key(own.gateway, recharge_point)

    def make(n: int) -> Record:
        at_ms = _SAMPLE_MS + round((first_s + n * interval_s) * 1000)
        values, derived = sample_values(profile, recharge_point, n)
        telemetry = Telemetry(
            gateway=own.gateway,
            recharge_point=recharge_point,
            seq=_SAMPLE_SEQ + n,
            measured_at=to_rfc3339(at_ms),
            quality=Quality.GOOD,
            values=values,
            errors={},
            derived=derived,
        )
        return Record(kafka_topic, key, codec.encode(telemetry), headers, at_ms, durable=False, number=_SAMPLE_SEQ + n)

    return Source(topic, interval_s, first_s, make)


def sample_values(profile: Profile, recharge_point: str, n: int) -> tuple[dict[str, Value], list[str]]:
    """Every measurand the profile offers in the nth poll, and which of them it computes."""
    values: dict[str, Value] = {}
    derived = []
    for name in profile.measurands:
        values[name] = _sample(profile, name, recharge_point, n)
        if name not in profile.registers and any(rule.derived for rule in profile.values.get(name, ())):
            derived.append(name)
    return values, derived


def _sample(profile: Profile, name: str, recharge_point: str, n: int) -> Value:
    register = profile.registers.get(name)
    if name == "state":
        return str(State.CHARGING)
    if name == "plugged":
        return True
    if name not in _SAMPLES:
        return register.label(0) if register is not None else "none"
    middle, spread = _SAMPLES[name]
    level = 1 + _chance(f"{name}/{recharge_point}") / 10 if spread else 1.0  # or all would compress into one
    value = round(middle * level + spread * _chance(f"{name}/{recharge_point}/{n}"), 3)
    if register is None or register.unit != MEASURANDS[name].unit:
        return value
    try:
        return register.decode(register.encode(value)) or value  # what the device's resolution leaves of it
    except ValueError:
        return value


def _chance(text: str) -> float:
    """From -1 to 1, always the same for the same text."""
    return zlib.crc32(text.encode()) / 2**31 - 1


def lane_forecast(
    kafka_topic: str,
    sources: Sequence[Source],
    *,
    gather_s: float,
    partition_of: Callable[[bytes], int],
    plain: BatchBytes,
    compressed: BatchBytes,
) -> LaneForecast:
    """What these sources bring to one topic. gather_s: how long records gather before a send."""
    played = list(_play(sources))
    batches = list(_batches(played, gather_s, partition_of))
    records = sum(source.records_per_day for source in sources)
    scale = records / len(played) if played else 0.0
    plain_bytes = sum(map(plain, batches)) * scale
    return LaneForecast(
        kafka_topic=kafka_topic,
        records=records,
        record_bytes=plain_bytes / records if records else 0.0,
        batches=len(batches) * scale,
        plain_bytes=plain_bytes,
        compressed_bytes=sum(map(compressed, batches)) * scale,
        journal_bytes=sum(record.size for _, record in played) * scale,
    )


def _play(sources: Sequence[Source]) -> Iterator[Gathered]:
    """Records in the order in which they come, of a few rounds of the slowest source, but not endlessly many.

    Where that is too many for a round, the rare ones are missing: they are rare.
    """
    if not sources:
        return
    end_s = SAMPLE_ROUNDS * max(source.interval_s for source in sources)
    due = [(source.first_s, place, 0) for place, source in enumerate(sources)]
    heapq.heapify(due)
    for _ in range(max(SAMPLE_RECORDS, 2 * len(sources))):
        at_s, place, n = due[0]
        if at_s >= end_s:
            return
        source = sources[place]
        yield at_s, source.make(n)
        heapq.heapreplace(due, (source.first_s + (n + 1) * source.interval_s, place, n + 1))


def _batches(
    played: Sequence[Gathered], gather_s: float, partition_of: Callable[[bytes], int]
) -> Iterator[Sequence[Record]]:
    """As the forwarder sends them: what came within `gather_s` of the first, one batch for each partition."""
    start = 0
    while start < len(played):
        end = start
        by_partition: dict[int, list[Record]] = {}
        while end < len(played) and played[end][0] <= played[start][0] + gather_s:
            record = played[end][1]
            by_partition.setdefault(partition_of(record.key), []).append(record)
            end += 1
        yield from by_partition.values()
        start = end


def publish_bytes(mqtt_topic: str, payload: bytes) -> int:
    """Length of an MQTT PUBLISH with QoS 1."""
    remaining = 2 + len(mqtt_topic.encode()) + 2 + len(payload)
    length_bytes = -(-remaining.bit_length() // 7)  # MQTT 3.1.1, section 2.2.3: seven bits a byte
    return 1 + length_bytes + remaining
