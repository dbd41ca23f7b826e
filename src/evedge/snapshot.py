"""What is true now, gathered from the living parts: for the page, the metrics, the health checks and `evedge journal`.

Looks and changes nothing. Every question is answered from what the parts hold in memory; only dead letters are read
from disk. No secret is in any answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evedge import __version__
from evedge.config import Config, RechargePoint
from evedge.config_profiles import timeout_s
from evedge.core.counters import MqttCounters
from evedge.core.histogram import Histogram
from evedge.core.model import Link
from evedge.core.profile import Profile
from evedge.core.status import (
    BrokerNow,
    GatewayNow,
    JournalNow,
    JournalStat,
    KafkaNow,
    Letter,
    LinksNow,
    MqttNow,
    PollingNow,
    RechargePointNow,
    Status,
    journal_of,
    letters_of,
    limit_of,
    queues_of,
)
from evedge.core.times import to_rfc3339
from evedge.flows.clock import Clock
from evedge.flows.forwarder import Forwarder
from evedge.flows.housekeeping import Housekeeping
from evedge.flows.lives import Lives
from evedge.flows.poll_stats import BUCKETS_S, PollStats
from evedge.flows.poller import Device, Poller
from evedge.flows.reconciler import Reconciler
from evedge.flows.reporter import RechargePointView, Reporter
from evedge.links.journal import Journal
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.mqtt_client import MqttClient
from evedge.links.state import State
from evedge.web.metrics import Figures

STALLED_S = 60.0
"""How long a poller may go without progress, beyond what a slow device may take."""
MAX_ANSWERS = 10
"""How many answers of one poll may each take nearly a time-out."""
HOUSEKEEPING_STALLED_S = 15.0
BLOCKED_S = 5.0
"""An event loop that was held up this long kept nothing of what is promised in milliseconds."""


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """The parts. mqtt_address: where the broker listens, None while it does not; mqtt: None with a broker elsewhere.

    not_ready: why the gateway is not ready whatever the parts say: set it while starting and stopping.
    """

    config: Config
    profiles: Mapping[str, Profile]
    clock: Clock
    reporter: Reporter
    journal: Journal
    state: State
    lives: Lives
    housekeeping: Housekeeping
    pollers: Sequence[Poller] = ()
    reconcilers: Mapping[str, Reconciler] = field(default_factory=dict)
    mqtt: MqttCounters | None = None
    mqtt_address: Callable[[], str | None] = lambda: None
    producer: KafkaProducer | None = None
    broker: MqttClient | None = None
    forwarder: Forwarder | None = None
    not_ready: str | None = None

    # For the web.

    def status(self) -> Status:
        """Everything, as it is now."""
        return Status(
            gateway=self._gateway(),
            recharge_points=self._recharge_points(),
            links=LinksNow(mqtt=self._mqtt(), kafka=self._kafka(), journal=self._journal(), broker=self._broker()),
            queues=queues_of(self.journal.lanes()),
            alerts=list(self.reporter.alerts.open()),
        )

    def figures(self) -> Figures:
        """The same, with what only a graph can show."""
        return Figures(
            status=self.status(),
            commands=self.lives.counts,
            request_seconds=_together([device.stats for poller in self.pollers for device in poller.devices.values()]),
            command_seconds=self.lives.seconds,
            loop_lag_s=self.housekeeping.lag.largest_s,
        )

    def ready(self) -> str | None:
        """None: the gateway does its work. Otherwise why it does not; neither Kafka nor a device is a reason."""
        if self.not_ready is not None:
            return self.not_ready
        if self.mqtt is not None and self.mqtt_address() is None:
            return "the MQTT broker does not listen"
        for name, database in (("journal", self.journal.database), ("state", self.state.database)):
            if database.trouble is not None:
                return f"the {name} cannot be written: {database.trouble}"
        return self.stalled()

    def stalled(self) -> str | None:
        """What makes no progress, None when all does: what systemd's watchdog asks. A full disk is no reason."""
        now_s = self.clock.monotonic_s()
        timeouts_s = self._timeouts_s()
        for poller in self.pollers:
            answers_s = max((timeouts_s.get(name, 0.0) for name in poller.devices), default=0.0)
            behind_s = poller.behind_s(now_s)
            if behind_s > STALLED_S + MAX_ANSWERS * answers_s:
                return f"{poller.name} has made no progress for {behind_s:.0f} s"
        silent_s = now_s - self.housekeeping.last_look_s
        if silent_s > HOUSEKEEPING_STALLED_S:
            return f"housekeeping has made no progress for {silent_s:.0f} s"
        lag_s = self.housekeeping.lag.largest_s
        return f"the event loop was held up for {lag_s:.1f} s" if lag_s > BLOCKED_S else None

    # For `evedge journal`.

    def journal_stat(self) -> JournalStat:
        """What waits, by topic."""
        return JournalStat(running=True, journal=self._journal(), queues=queues_of(self.journal.lanes()))

    async def dead_letters(self) -> list[Letter]:
        """What could not be delivered, oldest first. Raises Outage where the file cannot be read."""
        return letters_of(await self.journal.dead_letters())

    # Inside.

    def _timeouts_s(self) -> dict[str, float]:
        return {
            point.id: timeout_s(point, self.profiles[point.id])
            for point in self.config.recharge_points
            if point.id in self.profiles
        }

    def _gateway(self) -> GatewayNow:
        reason = self.ready()
        started_at_ms = self.reporter.started_at_ms
        return GatewayNow(
            id=self.config.gateway.id,
            version=__version__,
            role=self.config.role,
            state=Link.ONLINE if reason is None else Link.DEGRADED,
            reason=reason,
            started_at=to_rfc3339(started_at_ms),
            uptime_s=self._age_s(started_at_ms),
        )

    def _recharge_points(self) -> list[RechargePointNow]:
        devices = {name: device for poller in self.pollers for name, device in poller.devices.items()}
        views = self.reporter.recharge_points
        return [
            self._recharge_point(point, views[point.id], devices.get(point.id))
            for point in self.config.recharge_points
            if point.id in views
        ]

    def _recharge_point(self, point: RechargePoint, view: RechargePointView, device: Device | None) -> RechargePointNow:
        reconciler = self.reconcilers.get(point.id)
        return RechargePointNow(
            id=point.id,
            state=view.state.state,
            reason=view.state.reason,
            since=to_rfc3339(view.since_ms) if view.since_ms else None,
            quality=view.quality,
            measured_at=None if view.measured_at_ms is None else to_rfc3339(view.measured_at_ms),
            age_s=None if view.measured_at_ms is None else self._age_s(view.measured_at_ms),
            identity=view.state.identity,
            values=dict(view.values),
            agent=point.agent,
            limit=None if reconciler is None else limit_of(reconciler.desired, reconciler.target),
            polling=None if device is None else _polling(device.stats),
        )

    def _mqtt(self) -> MqttNow | None:
        if self.mqtt is None:
            return None
        return MqttNow(
            bind=self.mqtt_address(),
            clients=self.mqtt.clients,
            sessions=self.mqtt.sessions,
            received=self.mqtt.received,
            delivered=self.mqtt.delivered,
            dropped=dict(self.mqtt.dropped),
        )

    def _kafka(self) -> KafkaNow | None:
        if self.config.kafka is None or self.producer is None:
            return None
        return KafkaNow(
            bootstrap_servers=list(self.config.kafka.bootstrap_servers),
            up=self.producer.up,
            last_error=self.producer.last_error,
            blocked={} if self.forwarder is None else dict(self.forwarder.blocked),
        )

    def _broker(self) -> BrokerNow | None:
        if self.broker is None:
            return None
        return BrokerNow(
            url=str(self.broker.settings),
            agent=self.config.agent_name,
            up=self.broker.up,
            last_error=self.broker.last_error,
            blocked={} if self.forwarder is None else dict(self.forwarder.blocked),
        )

    def _journal(self) -> JournalNow:
        return journal_of(self.journal, self.journal.database.trouble)

    def _age_s(self, then_ms: int) -> float:
        return max(self.clock.wall_ms() - then_ms, 0) / 1000  # a clock that was set back gives no negative age


def _polling(stats: PollStats) -> PollingNow:
    return PollingNow(
        polls=stats.polls,
        overruns=stats.overruns,
        writes=stats.writes,
        requests={str(outcome): count for outcome, count in stats.requests.items()},
        last_poll_s=stats.last_poll_s,
    )


def _together(stats: Sequence[PollStats]) -> Histogram:
    """All recharge points' requests in one histogram: the promised name has no labels."""
    if not stats:
        return Histogram(BUCKETS_S)
    counts = [sum(bucket) for bucket in zip(*(one.request_buckets for one in stats), strict=True)]
    return Histogram(BUCKETS_S, counts, sum(one.request_seconds for one in stats))
