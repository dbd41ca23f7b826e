"""What somebody has to look after: the journal's memory and disk, the machine, and how late the event loop runs.

Once a second the journal: records that live in memory go to disk when Kafka does not confirm them, and alerts say when
the journal fills up or the disk takes nothing. Now and then the machine's readings and the depths of the queues go out
as the gateway's own telemetry. Nothing here waits for Kafka, and nothing here stops the gateway.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from evedge.core import codec
from evedge.core.errors import Outage
from evedge.core.lanes import LaneCounts, WhenFull
from evedge.core.machine import GatewayTelemetry, MachineReading
from evedge.core.model import Severity
from evedge.core.times import to_rfc3339
from evedge.flows.clock import Clock
from evedge.flows.loop_lag import LoopLag

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
TELEMETRY_EVERY_S = 30.0
MACHINE_DEADLINE_S = 10.0
DOWN_FOR_S = 2.0
"""How long Kafka may be away before what is in memory goes to disk."""
LOOKS_TO_WAIT = 5
"""How many looks a record may wait in memory while Kafka confirms others."""
FULL, NOT_FULL = 0.9, 0.8
"""Parts of `max_bytes`: from here it is nearly full, and below there it is not any more."""


class Journal(Protocol):
    """What waits."""

    max_bytes: int
    when_full: WhenFull
    bytes: int

    def lanes(self) -> Mapping[str, LaneCounts]: ...

    def spill(self) -> None: ...


class Disk(Protocol):
    """A file that is written. `trouble`: why that fails now."""

    @property
    def trouble(self) -> str | None: ...


class Producer(Protocol):
    """Kafka. `up`: it answered the last time it was asked."""

    @property
    def up(self) -> bool: ...


class Machine(Protocol):
    """The machine's readings. Raises Outage where they cannot be taken."""

    async def read(self) -> MachineReading: ...


class Reports(Protocol):
    """Where it is told."""

    def gateway_telemetry(self, payload: bytes, now_ms: int) -> None: ...

    def raise_alert(self, kind: str, message: str, *, severity: Severity = ...) -> None: ...

    def clear_alert(self, kind: str) -> None: ...


class Housekeeping:
    """`run` is its task. `disks`: the files that must be writable, by what is in them.

    producer: None without Kafka. mqtt_clients: how many there are; None where the broker is elsewhere.
    """

    def __init__(
        self,
        *,
        gateway: str,
        journal: Journal,
        disks: Mapping[str, Disk],
        producer: Producer | None,
        machine: Machine,
        reports: Reports,
        clock: Clock,
        mqtt_clients: Callable[[], int | None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.lag = LoopLag(clock, sleep=sleep)
        self.last_look_s = clock.monotonic_s()
        """When the journal was looked after last."""
        self._gateway = gateway
        self._journal = journal
        self._disks = disks
        self._producer = producer
        self._machine = machine
        self._reports = reports
        self._clock = clock
        self._mqtt_clients = mqtt_clients
        self._sleep = sleep
        self._waits = _Waits()
        self._up_s = clock.monotonic_s()
        self._unreadable: str | None = None

    async def run(self) -> None:
        """Keep house until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.lag.run(), name="housekeeping[lag]")
            tasks.create_task(self._look_after_journal(), name="housekeeping[journal]")
            tasks.create_task(self._report_telemetry(), name="housekeeping[telemetry]")

    async def _look_after_journal(self) -> None:
        while True:
            self.look()
            await self._sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """One look at the journal and the disks."""
        now_s = self._clock.monotonic_s()
        self.last_look_s = now_s
        if self._producer is None or self._producer.up:
            self._up_s = now_s
        waited = self._waits.look(self._journal.lanes())
        if waited or now_s - self._up_s >= DOWN_FOR_S:
            self._journal.spill()
        self._judge_room()
        self._judge_disks()

    def _judge_room(self) -> None:
        part = self._journal.bytes / self._journal.max_bytes
        if part >= FULL:
            then = (
                "publishers wait, polls and QoS 0 are dropped"
                if self._journal.when_full is WhenFull.BLOCK
                else "the oldest records are dropped"
            )
            self._reports.raise_alert(
                "journal_full",
                f"{part:.0%} of journal.max_bytes ({self._journal.max_bytes}) are taken; at 100 % {then}",
                severity=Severity.ERROR,
            )
        elif part < NOT_FULL:
            self._reports.clear_alert("journal_full")

    def _judge_disks(self) -> None:
        troubles = [f"{name}: {disk.trouble}" for name, disk in self._disks.items() if disk.trouble]
        if troubles:
            self._reports.raise_alert(
                "disk_failed", f"the disk takes nothing ({'; '.join(troubles)})", severity=Severity.ERROR
            )
        else:
            self._reports.clear_alert("disk_failed")

    async def _report_telemetry(self) -> None:
        while True:
            await self._sleep(TELEMETRY_EVERY_S)
            machine = await self._read_machine()
            now_ms = self._clock.wall_ms()
            telemetry = GatewayTelemetry(
                gateway=self._gateway,
                measured_at=to_rfc3339(now_ms),
                machine=machine,
                loop_lag_s=round(self.lag.largest_s, 4),
                journal_bytes=self._journal.bytes,
                journal_max_bytes=self._journal.max_bytes,
                waiting={name: counts.waiting for name, counts in self._journal.lanes().items()},
                mqtt_clients=self._mqtt_clients(),
                kafka_up=None if self._producer is None else self._producer.up,
            )
            self._reports.gateway_telemetry(codec.encode(telemetry), now_ms)

    async def _read_machine(self) -> MachineReading | None:
        try:
            async with asyncio.timeout(MACHINE_DEADLINE_S):
                reading = await self._machine.read()
        except (Outage, TimeoutError) as error:
            reason = str(error) or f"no answer within {MACHINE_DEADLINE_S:g} s"
            if reason != self._unreadable:
                log.warning("machine_not_read", error=reason)
            self._unreadable = reason
            return None
        self._unreadable = None
        return reading


class _Waits:
    """Finds out whether a record waits longer than it should, from the lanes' counts.

    A lane is first in, first out: while fewer are settled now than were accepted some looks ago, one of those waits.
    Timestamps would not tell: they are the publishers', whose clocks may be anything.
    """

    def __init__(self) -> None:
        self._accepted: dict[str, deque[int]] = {}

    def look(self, lanes: Mapping[str, LaneCounts]) -> bool:
        """Whether in any lane a record waits that waited already LOOKS_TO_WAIT looks ago."""
        found = False
        for name, counts in lanes.items():
            seen = self._accepted.setdefault(name, deque(maxlen=LOOKS_TO_WAIT))
            settled = counts.accepted - counts.waiting
            found = found or (len(seen) == LOOKS_TO_WAIT and settled < seen[0])
            seen.append(counts.accepted)
        return found
