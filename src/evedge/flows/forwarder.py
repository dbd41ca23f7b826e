"""The forwarder: from the journal's lanes to Kafka, and back into the lane whatever was not confirmed.

One task per lane, so that a topic that is missing, forbidden or slow holds up nobody else. A lane has one send in
flight and the producer one batch per partition, so the records of a key stay in order whatever fails. Nothing is
forgotten before Kafka confirmed it; a record that Kafka refuses for its own fault becomes a dead letter and the rest
goes on.

Does not know files, sockets or what a record means.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from evedge.core.backoff import Backoff
from evedge.core.cloudevents import ce_id
from evedge.core.dead_letters import letter_for, mqtt_topic_of
from evedge.core.delivery import RefusedRecord, SendOutage, SendResult, TopicUnavailable
from evedge.core.lanes import DeadLetter, LaneCounts
from evedge.core.model import Record, Severity
from evedge.flows.clock import Clock

log = structlog.get_logger()

MAX_SEND_RECORDS = 4000
MAX_SEND_BYTES = 2 * 1024 * 1024
WAKE_EVERY_S = 2.0
"""How often a lane that works may hurry on those that lost Kafka."""
GATHER_S = 0.03
"""How long records gather before a send: a lone alert, result or routed message is on its way in that time."""
DRAIN_RETRY_S = 0.25
RESTAMPED_FOR_S = 60.0
"""How long no timestamp must have been refused until the alert about it is over."""
GATHER_TELEMETRY_S = 0.2
"""Polls may wait longer: fewer, larger batches cost a third (a measurement is promised within a second)."""


class Journal(Protocol):
    """The lanes."""

    async def wait(self, lane: str) -> None: ...

    async def take(self, lane: str, max_records: int, max_bytes: int) -> list[Record]: ...

    def confirm(self, lane: str, records: Iterable[Record]) -> None: ...

    def give_back(self, lane: str, records: Iterable[Record]) -> None: ...

    def refuse(self, dead: DeadLetter, letter: Record | None) -> asyncio.Future[None] | None: ...

    def lanes(self) -> Mapping[str, LaneCounts]: ...


class Producer(Protocol):
    """Kafka. Raises SendOutage for what must be sent again."""

    async def send(self, topic: str, records: Sequence[Record]) -> SendResult: ...


class Alerts(Protocol):
    """Where trouble is told."""

    def raise_alert(self, kind: str, message: str, *, severity: Severity = ...) -> None: ...

    def clear_alert(self, kind: str) -> None: ...


class Forwarder:
    """Runs until cancelled. `lanes` are the topics to serve; those left by an earlier configuration are served too.

    lost_alert: what it is called that nothing can be sent. An agent's one lane goes to its gateway's broker instead.
    """

    def __init__(
        self,
        journal: Journal,
        producer: Producer,
        alerts: Alerts,
        *,
        lanes: Iterable[str],
        telemetry_lanes: frozenset[str],
        dead_letters: str,
        clock: Clock,
        lost_alert: str = "kafka_lost",
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.blocked: dict[str, str] = {}
        """Lanes whose last send failed, and why."""
        self._journal = journal
        self._producer = producer
        self._alerts = alerts
        self._lanes = tuple(dict.fromkeys((*lanes, dead_letters, *journal.lanes())))
        self._telemetry_lanes = telemetry_lanes
        self._dead_letters = dead_letters
        self._lost_alert = lost_alert
        self._clock = clock
        self._chance = chance
        self._draining = asyncio.Event()
        self._lost: set[str] = set()  # lanes whose last send did not reach Kafka at all
        self._woken_s = float("-inf")
        self._worth_a_try = asyncio.Event()  # set, and replaced, when lanes that wait should not wait any longer
        self._restamped_s = float("-inf")

    async def run(self) -> None:
        """Forward every lane until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(self._forward(lane), name=f"forwarder[{lane}]")

    async def drain(self, deadline_s: float) -> bool:
        """Send without gathering until nothing waits or the time is up. True: everything was confirmed."""
        self._draining.set()
        self._worth_a_try.set()
        ends = self._clock.monotonic_s() + deadline_s
        while any(counts.waiting for counts in self._journal.lanes().values()):
            if self._clock.monotonic_s() >= ends:
                return False
            await asyncio.sleep(0.02)
        return True

    def wake(self) -> None:
        """The other side is there again: lanes that wait try at once."""
        self._worth_a_try.set()
        self._worth_a_try = asyncio.Event()

    async def _forward(self, lane: str) -> None:
        backoff = Backoff(first_s=0.5, longest_s=10.0)
        gather_s = GATHER_TELEMETRY_S if lane in self._telemetry_lanes else GATHER_S
        while True:
            await self._journal.wait(lane)
            await self._gather(gather_s)
            records = await self._journal.take(lane, MAX_SEND_RECORDS, MAX_SEND_BYTES)
            if not records:
                continue
            try:
                result = await self._producer.send(lane, records)
            except SendOutage as outage:
                self._settle(lane, outage.settled)
                self._give_back(lane, records, outage.settled)
                wait_s = backoff.failed(self._chance())
                self._block(lane, outage, wait_s)
                await self._pause(wait_s)
            except BaseException:
                self._journal.give_back(lane, records)
                raise
            else:
                self._settle(lane, result)
                backoff.succeeded()
                self._unblock(lane)

    async def _gather(self, gather_s: float) -> None:
        """Wait while records gather, or not at all when draining."""
        try:
            async with asyncio.timeout(gather_s):
                await self._draining.wait()
        except TimeoutError:
            return

    async def _pause(self, wait_s: float) -> None:
        """Wait before the next try; less when Kafka answers another lane, or when draining leaves no time to lose."""
        if self._draining.is_set():
            await asyncio.sleep(min(wait_s, DRAIN_RETRY_S))
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._worth_a_try.wait()
        except TimeoutError:
            return

    def _settle(self, lane: str, result: SendResult) -> None:
        if result.confirmed:
            self._journal.confirm(lane, result.confirmed)
        for refused in result.refused:
            self._refuse(lane, refused)
        if result.restamped:
            self._alerts.raise_alert(
                "timestamp_refused",
                f"Kafka refuses timestamps on {lane}: the clock of this machine is probably wrong; "
                "records go with the present time, ce_time is unchanged",
            )
            self._restamped_s = self._clock.monotonic_s()
        elif self._clock.monotonic_s() - self._restamped_s >= RESTAMPED_FOR_S:
            self._alerts.clear_alert("timestamp_refused")

    def _refuse(self, lane: str, refused: RefusedRecord) -> None:
        record = refused.record
        log.error(
            "record_refused",
            kafka_topic=lane,
            ce_id=ce_id(record.number),
            reason=str(refused.reason),
            error=refused.error,
        )
        dead = DeadLetter(
            at_ms=self._clock.wall_ms(),
            kafka_topic=lane,
            mqtt_topic=mqtt_topic_of(record),
            reason=str(refused.reason),
            error=refused.error,
            record=record,
        )
        # A dead letter that is refused itself has nowhere left to go: people find it in the journal.
        letter = None
        if lane != self._dead_letters:
            letter = letter_for(dead, self._dead_letters, ce_id(record.number))
        self._journal.refuse(dead, letter)

    def _give_back(self, lane: str, records: Sequence[Record], settled: SendResult) -> None:
        done = {record.number for record in settled.confirmed}
        done.update(refused.record.number for refused in settled.refused)
        self._journal.give_back(lane, (record for record in records if record.number not in done))

    def _block(self, lane: str, outage: SendOutage, wait_s: float) -> None:
        reason = str(outage)
        if self.blocked.get(lane) != reason:
            log.warning("lane_blocked", kafka_topic=lane, error=reason, retry_in_s=round(wait_s, 1))
        self.blocked[lane] = reason
        if isinstance(outage, TopicUnavailable):
            self._found(lane)
            self._alerts.raise_alert(f"topic_unavailable:{lane}", reason, severity=Severity.ERROR)
        else:
            self._lost.add(lane)
            self._alerts.raise_alert(self._lost_alert, reason, severity=Severity.ERROR)

    def _unblock(self, lane: str) -> None:
        if self.blocked.pop(lane, None) is not None:
            log.info("lane_unblocked", kafka_topic=lane)
            self._alerts.clear_alert(f"topic_unavailable:{lane}")
            self._found(lane)
        elif self._lost:
            self._found(lane)

    def _found(self, lane: str) -> None:
        """Kafka answered for this lane."""
        self._lost.discard(lane)
        if not self._lost:
            self._alerts.clear_alert(self._lost_alert)
            return
        now_s = self._clock.monotonic_s()
        if now_s - self._woken_s >= WAKE_EVERY_S:  # the others need not wait until their own time has come
            self._woken_s = now_s
            self.wake()
