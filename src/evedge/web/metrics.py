"""Prometheus' view: plain figures become metric families when somebody scrapes.

Names and labels are a promise. What is not known has no sample: an age of a recharge point that was never read, a link
to Kafka where none is configured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from evedge.core.histogram import Histogram
from evedge.core.lanes import DropReason
from evedge.core.model import Link
from evedge.core.status import Queue, RechargePointNow, Status


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is shown. commands: how often each (action, state) was reached."""

    status: Status
    commands: Mapping[tuple[str, str], int]
    request_seconds: Histogram
    command_seconds: Histogram
    loop_lag_s: float


def render(figures: Figures, accept: str) -> tuple[bytes, str]:
    """The answer to a scrape and its content type, in the format that the Accept header asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(figures))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Families(Collector):
    """One scrape's."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def describe(self) -> list[Metric]:
        """Nothing to check for names that come twice: there is one collector."""
        return []

    def collect(self) -> Iterator[Metric]:
        figures, status = self._figures, self._figures.status
        build = InfoMetricFamily("evedge_build", "The version that runs.")
        build.add_metric([], {"version": status.gateway.version})
        yield build
        yield from _recharge_points(status.recharge_points)
        yield _histogram(
            "evedge_modbus_request_seconds", "How long Modbus requests took, failed ones too.", figures.request_seconds
        )
        yield from _messages(status.queues)
        journal = status.links.journal
        yield _gauge("evedge_journal_bytes", "Keys, headers and payloads that wait.", journal.bytes)
        yield _gauge("evedge_journal_max_bytes", "What evedge_journal_bytes may reach.", journal.max_bytes)
        if status.links.kafka is not None:
            yield _gauge("evedge_kafka_up", "Whether Kafka answered the last time.", int(status.links.kafka.up))
        if status.links.broker is not None:
            yield _gauge("evedge_mqtt_up", "Whether an agent's broker is connected.", int(status.links.broker.up))
        if status.links.mqtt is not None:
            yield _gauge("evedge_mqtt_clients", "MQTT clients connected now.", status.links.mqtt.clients)
        commands = CounterMetricFamily("evedge_commands", "Steps of commands' lives.", labels=["action", "state"])
        for (action, state), count in figures.commands.items():
            commands.add_metric([action, state], count)
        yield commands
        yield _histogram("evedge_command_seconds", "From a command's acceptance to its end.", figures.command_seconds)
        yield _gauge("evedge_loop_lag_seconds", "How late the event loop ran, the largest of 15 s.", figures.loop_lag_s)


def _recharge_points(recharge_points: list[RechargePointNow]) -> Iterator[Metric]:
    labels = ["recharge_point"]
    up = GaugeMetricFamily("evedge_recharge_point_up", "Whether any of its values can be read.", labels=labels)
    age = GaugeMetricFamily("evedge_telemetry_age_seconds", "How old the last values are.", labels=labels)
    requests = CounterMetricFamily(
        "evedge_modbus_requests", "Modbus requests by how they ended.", labels=[*labels, "outcome"]
    )
    for point in recharge_points:
        up.add_metric([point.id], int(point.state is not Link.OFFLINE))
        if point.age_s is not None:
            age.add_metric([point.id], point.age_s)
        if point.polling is not None:
            for outcome, count in point.polling.requests.items():
                requests.add_metric([point.id, outcome], count)
    yield up
    yield age
    yield requests


def _messages(queues: list[Queue]) -> Iterator[Metric]:
    accepted = CounterMetricFamily("evedge_messages_accepted", "Records accepted for Kafka.", labels=["route"])
    confirmed = CounterMetricFamily("evedge_messages_confirmed", "Records that Kafka confirmed.", labels=["route"])
    dropped = CounterMetricFamily(
        "evedge_messages_dropped", "Records that will never be sent, by reason.", labels=["route", "reason"]
    )
    waiting = GaugeMetricFamily("evedge_messages_waiting", "Records on their way to Kafka.", labels=["route"])
    for queue in queues:
        accepted.add_metric([queue.kafka_topic], queue.accepted)
        confirmed.add_metric([queue.kafka_topic], queue.confirmed)
        waiting.add_metric([queue.kafka_topic], queue.waiting)
        # Zeros too: a series that appears with its first drop hides that drop from rate().
        for reason, count in (dict.fromkeys(map(str, DropReason), 0) | queue.dropped).items():
            dropped.add_metric([queue.kafka_topic, reason], count)
    yield accepted
    yield confirmed
    yield dropped
    yield waiting


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets = [(_bound(bound), float(count)) for bound, count in histogram.cumulative()]
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.sum_s)


def _bound(seconds: float) -> str:
    return "+Inf" if math.isinf(seconds) else repr(float(seconds))
