"""What the gateway says of itself and its recharge points: telemetry, status, alerts, results.

Turns readings into payloads with their numbers and times, keeps what is true now for the pages, and raises and clears
the alerts that follow from it. Pollers, commander and housekeeping report here; everything leaves by the intake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from evedge.core import codec
from evedge.core.alerts import AlertBook
from evedge.core.commands import CommandResult
from evedge.core.model import (
    Alert,
    AlertState,
    GatewayStatus,
    Link,
    Quality,
    RechargePointStatus,
    Severity,
    Stream,
    Telemetry,
    Value,
)
from evedge.core.plan import Reading
from evedge.core.reading import Identity, LinkState
from evedge.core.times import to_rfc3339
from evedge.core.topics import Leaf, OwnTopics
from evedge.flows.clock import Clock

log = structlog.get_logger()


class Publisher(Protocol):
    """Where messages leave."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        stream: Stream,
        recharge_point: str | None,
        timestamp_ms: int,
        durable: bool,
        retain: bool = False,
    ) -> asyncio.Future[None] | None: ...


class Sequences(Protocol):
    """Numbers the telemetry of each recharge point."""

    def next_seq(self, recharge_point: str) -> int: ...


@dataclass(slots=True)
class RechargePointView:
    """What is known of one recharge point now."""

    state: LinkState = field(default_factory=lambda: LinkState(Link.OFFLINE, "not read yet"))
    since_ms: int = 0
    values: Mapping[str, Value] = field(default_factory=dict)
    measured_at_ms: int | None = None
    quality: Quality | None = None


class Reporter:
    """Implements what pollers and the commander report to."""

    def __init__(
        self,
        publisher: Publisher,
        sequences: Sequences,
        *,
        own: OwnTopics,
        recharge_points: Sequence[str],
        clock: Clock,
        version: str,
    ) -> None:
        self.alerts = AlertBook(own.gateway)
        self.recharge_points = {name: RechargePointView() for name in recharge_points}
        self.started_at_ms = clock.wall_ms()
        self.last_progress_s = clock.monotonic_s()
        self._publisher = publisher
        self._sequences = sequences
        self._own = own
        self._clock = clock
        self._version = version

    # Recharge points.

    def telemetry(self, recharge_point: str, *, measured_at_ms: int, reading: Reading) -> None:
        """One poll's values, numbered and published. Volatile: polls live in memory while Kafka confirms."""
        quality = _quality(reading)
        view = self.recharge_points[recharge_point]
        view.quality = quality
        if reading.values:
            view.values = reading.values
            view.measured_at_ms = measured_at_ms
            self.clear_alert("poller_failed", recharge_point=recharge_point)
        telemetry = Telemetry(
            gateway=self._own.gateway,
            recharge_point=recharge_point,
            seq=self._sequences.next_seq(recharge_point),
            measured_at=to_rfc3339(measured_at_ms),
            quality=quality,
            values=reading.values,
            errors=reading.errors,
            derived=reading.derived,
        )
        self._publisher.publish(
            self._own.recharge_point(recharge_point, Leaf.TELEMETRY),
            codec.encode(telemetry),
            stream=Stream.TELEMETRY,
            recharge_point=recharge_point,
            timestamp_ms=measured_at_ms,
            durable=False,
        )

    def status(self, recharge_point: str, state: LinkState) -> None:
        """The link to a recharge point changed, or its identity became known."""
        now_ms = self._clock.wall_ms()
        view = self.recharge_points[recharge_point]
        if not view.since_ms or state.state is not view.state.state:
            view.since_ms = now_ms
        if state.identity == Identity() and view.state.identity != Identity():
            state = LinkState(state.state, state.reason, view.state.identity)  # who it is does not change with the link
        view.state = state
        identity = state.identity
        self._send(
            Leaf.STATUS,
            Stream.STATUS,
            recharge_point,
            codec.encode(
                RechargePointStatus(
                    gateway=self._own.gateway,
                    recharge_point=recharge_point,
                    state=state.state,
                    reason=state.reason,
                    since=to_rfc3339(view.since_ms),
                    vendor=identity.vendor,
                    model=identity.model,
                    serial_number=identity.serial_number,
                    firmware=identity.firmware,
                )
            ),
            now_ms,
            retain=True,
        )
        for link in (Link.OFFLINE, Link.DEGRADED):
            if state.state is link:
                severity = Severity.ERROR if link is Link.OFFLINE else Severity.WARNING
                self.raise_alert(link, state.reason or link, recharge_point=recharge_point, severity=severity)
            else:
                self.clear_alert(link, recharge_point=recharge_point)
        log.info("status_changed", recharge_point=recharge_point, state=str(state.state), reason=state.reason)

    # What agents told of theirs: it is on its way already, and only looked at here.

    def agent_telemetry(
        self, recharge_point: str, values: Mapping[str, Value], *, measured_at_ms: int, quality: Quality
    ) -> None:
        """An agent's poll."""
        view = self.recharge_points[recharge_point]
        view.quality = quality
        if values:
            view.values = values
            view.measured_at_ms = measured_at_ms

    def agent_status(self, recharge_point: str, state: LinkState, *, since_ms: int | None) -> None:
        """An agent says how it reaches its recharge point; so it is there, and tells the alerts about that itself."""
        view = self.recharge_points[recharge_point]
        view.since_ms = since_ms if since_ms is not None else self._clock.wall_ms()
        view.state = state
        self.clear_alert(Link.OFFLINE, recharge_point=recharge_point)

    def tell_again(self) -> None:
        """Publish every recharge point's status once more: whoever listens may have lost it, or replaced it."""
        for name, view in self.recharge_points.items():
            if view.since_ms:
                self.status(name, view.state)

    def progress(self) -> None:
        """A poller is alive; the watchdog asks."""
        self.last_progress_s = self._clock.monotonic_s()

    def failed(self, recharge_points: Sequence[str], error: str) -> None:
        """A poller met a defect and starts again."""
        for name in recharge_points:
            self.raise_alert("poller_failed", error, recharge_point=name, severity=Severity.ERROR)

    # Commands.

    def result(self, result: CommandResult, now_ms: int) -> asyncio.Future[None] | None:
        """One step of a command's life. Resolves when it is kept."""
        recharge_point = result.recharge_point if result.recharge_point in self.recharge_points else None
        topic = self._own.result if recharge_point is None else self._own.recharge_point(recharge_point, Leaf.RESULT)
        log.info("command_stepped", id=result.id, action=result.action, state=str(result.state), reason=result.reason)
        return self._publisher.publish(
            topic,
            codec.encode(result),
            stream=Stream.COMMAND_RESULTS,
            recharge_point=recharge_point,
            timestamp_ms=now_ms,
            durable=True,
        )

    # Alerts.

    def raise_alert(
        self,
        kind: str,
        message: str,
        *,
        recharge_point: str | None = None,
        severity: Severity = Severity.WARNING,
        details: Mapping[str, Value] | None = None,
    ) -> None:
        """Raise a condition; nothing happens where it is raised already."""
        alert = self.alerts.raise_alert(
            kind,
            message,
            self._clock.wall_ms(),
            recharge_point=recharge_point,
            severity=severity,
            details=details,
        )
        if alert is not None:
            self._alert(alert)

    def clear_alert(self, kind: str, *, recharge_point: str | None = None) -> None:
        """The condition is over; nothing happens where it was not raised."""
        alert = self.alerts.clear(kind, self._clock.wall_ms(), recharge_point=recharge_point)
        if alert is not None:
            self._alert(alert)

    def _alert(self, alert: Alert) -> None:
        say = log.info if alert.severity is Severity.INFO else log.warning
        if alert.severity is Severity.ERROR and alert.state is AlertState.RAISED:
            say = log.error
        say(
            "alert_raised" if alert.state is AlertState.RAISED else "alert_cleared",
            kind=alert.kind,
            recharge_point=alert.recharge_point,
            message=alert.message,
        )
        self._send(Leaf.ALERT, Stream.ALERTS, alert.recharge_point, codec.encode(alert), self._clock.wall_ms())

    # The gateway.

    def gateway_status(self, state: Link) -> None:
        """The gateway is there, or is about to stop."""
        now_ms = self._clock.wall_ms()
        status = GatewayStatus(
            gateway=self._own.gateway,
            state=state,
            version=self._version,
            started_at=to_rfc3339(self.started_at_ms),
        )
        self._publisher.publish(
            self._own.status,
            codec.encode(status),
            stream=Stream.GATEWAY_STATUS,
            recharge_point=None,
            timestamp_ms=now_ms,
            durable=True,
            retain=True,
        )

    def gateway_telemetry(self, payload: bytes, now_ms: int) -> None:
        """The machine's own measurements, as JSON."""
        self._publisher.publish(
            self._own.telemetry,
            payload,
            stream=Stream.GATEWAY_TELEMETRY,
            recharge_point=None,
            timestamp_ms=now_ms,
            durable=False,
        )

    def _send(
        self,
        leaf: Leaf,
        stream: Stream,
        recharge_point: str | None,
        payload: bytes,
        now_ms: int,
        *,
        retain: bool = False,
    ) -> None:
        topic = self._own.alert if recharge_point is None else self._own.recharge_point(recharge_point, leaf)
        self._publisher.publish(
            topic,
            payload,
            stream=stream,
            recharge_point=recharge_point,
            timestamp_ms=now_ms,
            durable=True,
            retain=retain,
        )


def _quality(reading: Reading) -> Quality:
    if not reading.errors:
        return Quality.GOOD
    return Quality.PARTIAL if reading.values else Quality.BAD
