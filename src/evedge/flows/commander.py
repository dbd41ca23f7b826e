"""Takes commands, from Kafka and from local users, judges them, and hands them to the recharge points' reconcilers.

Every value is settled before its offset is committed: its first step is on disk, or its dead letter is, or it is not
for this gateway. So a crash takes the same values again, and ids that were seen are answered with `duplicate`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from evedge.core.backoff import Backoff
from evedge.core.commands import Action, Command, Foreign, Rejection, Rules, Step, judge
from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import Outage
from evedge.core.life import OpenCommand
from evedge.core.model import Severity, Value
from evedge.flows.clock import Clock
from evedge.flows.lives import Lives, Told

log = structlog.get_logger()

MAX_LOCAL_WAITING = 1000
READ_TIMEOUT_S = 1.0
FORGET_EVERY_S = 600.0


class Consumer(Protocol):
    """The command topic. Raises Outage for what is tried again, Refused for what ends the process."""

    async def read(self, timeout_s: float) -> Sequence[ConsumedRecord]: ...

    async def commit(self, records: Sequence[ConsumedRecord]) -> None: ...


class Ids(Protocol):
    """Which commands were seen."""

    async def known(self, command_id: str) -> bool: ...

    def forget_commands(self, now_ms: int) -> None: ...


class Executes(Protocol):
    """One recharge point: makes a command part of its desired state."""

    async def accept(self, command: Command) -> None: ...


class DeadLetters(Protocol):
    """Where values go that are for this gateway and cannot be understood."""

    def refuse_foreign(
        self, value: bytes, key: bytes, headers: tuple[tuple[str, bytes], ...], kafka_topic: str, reason: str
    ) -> asyncio.Future[None] | None: ...


class Alerts(Protocol):
    """Where trouble is told."""

    def raise_alert(self, kind: str, message: str, *, severity: Severity = ...) -> None: ...

    def clear_alert(self, kind: str) -> None: ...


class Commander:
    """`serve_kafka` and `serve_local` are its tasks. `unable`: recharge points that take no commands, and why.

    tells_duplicates: False for an agent, whose gateway sends a command again until it has an answer.
    """

    def __init__(
        self,
        *,
        rules: Rules,
        executors: Mapping[str, Executes],
        unable: Mapping[str, str],
        lives: Lives,
        ids: Ids,
        dead_letters: DeadLetters,
        alerts: Alerts,
        clock: Clock,
        about: Callable[[], dict[str, Value]],
        tells_duplicates: bool = True,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.repeated = 0
        """How often a command came again and nothing was told of it."""
        self._rules = rules
        self._executors = executors
        self._unable = unable
        self._lives = lives
        self._ids = ids
        self._dead_letters = dead_letters
        self._alerts = alerts
        self._clock = clock
        self._about = about
        self._tells_duplicates = tells_duplicates
        self._chance = chance
        self._local: asyncio.Queue[tuple[bytes, str | None, str]] = asyncio.Queue(MAX_LOCAL_WAITING)
        self._one_at_a_time = asyncio.Lock()
        self._forgotten_s = clock.monotonic_s()

    # From Kafka.

    async def serve_kafka(self, consumer: Consumer) -> None:
        """Take commands from Kafka until cancelled. Refused ends it: another gateway with this id took over."""
        backoff = Backoff(first_s=0.5, longest_s=10.0)
        unsettled: deque[ConsumedRecord] = deque()
        read: Sequence[ConsumedRecord] = ()
        while True:
            try:
                if not unsettled:
                    read = await consumer.read(READ_TIMEOUT_S)
                    unsettled.extend(read)
                while unsettled:  # what an outage of ours interrupts is not read again: it is settled before the next
                    await self.take(unsettled[0])
                    unsettled.popleft()
                if read:
                    await consumer.commit(read)
                backoff.succeeded()
                self._alerts.clear_alert("commands_unavailable")
            except Outage as outage:
                wait_s = backoff.failed(self._chance())
                self._alerts.raise_alert("commands_unavailable", str(outage))
                await asyncio.sleep(wait_s)
            self._forget()

    async def take(self, record: ConsumedRecord) -> None:
        """Settle one record of the command topic."""
        value = record.value if record.value is not None else b""
        judged = judge(value, self._rules, self._clock.wall_ms())
        if isinstance(judged, Foreign):
            key = record.key if record.key is not None else b""
            if _names(key, self._rules.gateway):
                kept = self._dead_letters.refuse_foreign(value, key, record.headers, record.topic, judged.reason)
                if kept is not None:
                    await kept
            else:
                log.debug("command_skipped", reason=judged.reason)
            return
        await self._settle(judged)

    # From local users.

    def submit(self, payload: bytes, issuer: str | None, recharge_point: str) -> bool:
        """A local user published a command on a recharge point's topic. False: too many wait already.

        issuer None: the gateway sent it to its agent, and the value says whose it is.
        """
        try:
            self._local.put_nowait((payload, issuer, recharge_point))
        except asyncio.QueueFull:
            return False
        return True

    async def serve_local(self) -> None:
        """Take local users' commands until cancelled."""
        while True:
            payload, issuer, recharge_point = await self._local.get()
            judged = judge(payload, self._rules, self._clock.wall_ms(), issuer=issuer, only_for=recharge_point)
            if isinstance(judged, Foreign):
                log.warning("command_refused", user=issuer, recharge_point=recharge_point, reason=judged.reason)
                continue
            await self._settle(judged)

    # After a start.

    async def end_orphans(self, opened: Sequence[OpenCommand]) -> None:
        """End commands that an earlier run left open and nobody here can execute any more."""
        for one in opened:
            name = one.command.recharge_point or ""
            if name not in self._executors:
                reason = self._unable.get(name, "its recharge point is not configured any more")
                await self._lives.tell([self._told(one.command, Step.FAILED, reason)])

    # Both.

    async def _settle(self, judged: Command | Rejection) -> None:
        async with self._one_at_a_time:  # two with the same id must not both find it unknown
            if await self._ids.known(judged.id):
                if not self._tells_duplicates:
                    self.repeated += 1
                    log.debug("command_repeated", id=judged.id)
                    return
                await self._lives.tell([self._told(judged, Step.DUPLICATE, "this id was seen", final=False)])
            elif isinstance(judged, Rejection):
                await self._reject(judged, judged.reason, expired=judged.expired)
            elif judged.action is Action.PING:
                await self._ping(judged)
            else:
                await self._execute(judged)

    async def _execute(self, command: Command) -> None:
        name = command.recharge_point or ""
        executor = self._executors.get(name)
        if executor is not None:
            await executor.accept(command)
        else:
            await self._reject(command, self._unable.get(name, "it takes no commands"))

    async def _reject(self, judged: Command | Rejection, reason: str, *, expired: bool = False) -> None:
        await self._lives.tell([self._told(judged, Step.EXPIRED if expired else Step.REJECTED, reason)])

    async def _ping(self, command: Command) -> None:
        # Together: no crash comes between them.
        await self._lives.tell(
            [
                self._told(command, Step.ACCEPTED, None),
                self._told(command, Step.VERIFIED, None, final=True, details=self._about()),
            ]
        )

    def _told(
        self,
        judged: Command | Rejection,
        step: Step,
        reason: str | None,
        *,
        final: bool | None = None,
        details: dict[str, Value] | None = None,
    ) -> Told:
        now_ms = self._clock.wall_ms()
        expires_at_ms = judged.expires_at_ms if isinstance(judged, Command) else now_ms
        return Told(
            step,
            judged.id,
            judged.action,
            judged.recharge_point,
            forget_at_ms=max(expires_at_ms, now_ms) + round(self._rules.max_age_s * 1000),
            final=final,
            reason=reason,
            details=details or {},
            command=judged if isinstance(judged, Command) else None,
        )

    def _forget(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._forgotten_s >= FORGET_EVERY_S:
            self._forgotten_s = now_s
            self._ids.forget_commands(self._clock.wall_ms())


def _names(key: bytes, gateway: str) -> bool:
    """Whether a record's key is this gateway's: `<gateway>` or `<gateway>/…`."""
    name = gateway.encode()
    return key == name or key.startswith(name + b"/")
