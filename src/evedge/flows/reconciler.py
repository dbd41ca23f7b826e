"""Brings one recharge point to its desired state, and reports what that means for each command.

Commands change the desired state (on disk first); this task compares it with the device: write, read back, watch leases
end, refresh in the device's rhythm, write again what the device lost. A command's life is what happens to its part.

Invariants:
- An intent is on disk before a command's write. A command with an intent is never written again: it is read back, and
  ends by what is there.
- No command is written after its `expires_at`; one that waits for a dead device ends when it expires.
- Writes keep the device's pace by coalescing: what came meanwhile goes out as one write.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from evedge.core import desired as wish
from evedge.core.backoff import Backoff
from evedge.core.commands import Action, Command, Step
from evedge.core.desired import Bounds, Desired, Target
from evedge.core.errors import Outage, Refused
from evedge.core.life import CommandChange, OpenCommand
from evedge.core.model import Severity, Value
from evedge.core.profile import Failsafe, Limit, Write
from evedge.core.verify import Expectation, expectations
from evedge.flows.clock import Clock
from evedge.flows.lives import Lives, Told

log = structlog.get_logger()
T = TypeVar("T")

SETTLE_S = 5.0
"""How long a device may take to show what was written."""
LOOK_AGAIN_S = 0.5
TURN_DEADLINE_S = 15.0
WAIT_AT_MOST_S = 3600.0


class Access(Protocol):
    """The device while a job has it alone. Raises Outage and Refused."""

    async def write(self, write: Write, /) -> None: ...

    async def read(self, register: str, /) -> Value | None: ...


class Device(Protocol):
    """The way to one recharge point."""

    async def run(self, job: Callable[[Access], Awaitable[T]], *, deadline_s: float = TURN_DEADLINE_S) -> T: ...


class Alerts(Protocol):
    """Where trouble is told."""

    def raise_alert(
        self, kind: str, message: str, *, recharge_point: str | None = None, severity: Severity = ...
    ) -> None: ...

    def clear_alert(self, kind: str, *, recharge_point: str | None = None) -> None: ...


@dataclass(slots=True)
class _Open:
    """A command that has not ended."""

    command: Command
    step: Step
    intent: bool


class Reconciler:
    """One recharge point's. `serve` is its task. `limit_now_a` gives the limit in force as telemetry last saw it."""

    def __init__(
        self,
        recharge_point: str,
        *,
        limit: Limit,
        failsafe: Failsafe | None,
        bounds: Bounds,
        device: Device,
        lives: Lives,
        alerts: Alerts,
        clock: Clock,
        forget_after_s: float,
        limit_now_a: Callable[[], float | None],
        desired: Desired | None = None,
        opened: Sequence[OpenCommand] = (),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.recharge_point = recharge_point
        self.bounds = bounds
        self.desired = desired if desired is not None else Desired()
        self._limit = limit
        self._failsafe = failsafe
        self._device = device
        self._lives = lives
        self._alerts = alerts
        self._clock = clock
        self._forget_after_ms = round(forget_after_s * 1000)
        self._limit_now_a = limit_now_a
        self._chance = chance
        self._open: dict[str, _Open] = {one.command.id: _Open(one.command, one.step, one.intent) for one in opened}
        self._applied: Target | None = None  # what this process knows the device to hold
        self._written_s = float("-inf")
        self._refused: str | None = None  # why the device will not take the target; until the target changes
        self._backoff = Backoff(first_s=1.0, longest_s=10.0)
        self._wake = asyncio.Event()

    @property
    def target(self) -> Target | None:
        """What the device is being brought to."""
        return wish.target(self.desired, self.bounds)

    async def accept(self, command: Command) -> None:
        """Make a command part of the desired state; on disk when this returns."""
        now_ms = self._clock.wall_ms()
        desired = wish.apply(self.desired, command, now_ms, limit_before_a=self._limit_now_a())
        replaced = [one for one in self._open.values() if _supersedes(command, one.command)]
        steps = [self._told(command, Step.ACCEPTED)]
        steps += [
            self._told(one.command, Step.SUPERSEDED, reason=f"{command.action} {command.id} came first")
            for one in replaced
        ]
        for one in replaced:
            del self._open[one.command.id]
        self.desired = desired
        self._refused = None
        self._open[command.id] = _Open(command, Step.ACCEPTED, intent=False)
        await self._lives.tell(steps, [(self.recharge_point, desired)])
        self._wake.set()

    async def serve(self) -> None:
        """Reconcile until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._expire()
                await self._lapse()
                await self._bring()
                self._backoff.succeeded()
                wait_s = self._idle_s()
            except Outage as outage:
                wait_s = self._backoff.failed(self._chance())
                log.info("limit_waiting", recharge_point=self.recharge_point, reason=str(outage))
            wait_s = min(wait_s, self._next_end_s(), WAIT_AT_MOST_S)
            try:
                async with asyncio.timeout(max(wait_s, 0.0)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    # The steps of a round.

    async def _expire(self) -> None:
        now_ms = self._clock.wall_ms()
        late = [one for one in self._open.values() if not one.intent and one.command.expires_at_ms <= now_ms]
        if not late:
            return
        desired = self.desired
        for one in late:
            desired = wish.without(desired, one.command.id)
        self.desired = desired
        await self._end(late, Step.EXPIRED, reason="expired before the device could be reached", desired=desired)

    async def _lapse(self) -> None:
        desired, lapsed = wish.lapse(self.desired, self.bounds, self._clock.wall_ms())
        if not lapsed:
            return
        holds = {hold.command_id: hold for hold in (*self.desired.limits, self.desired.pause) if hold is not None}
        self.desired = desired
        self._refused = None
        target = self.target
        told = [
            Told(
                Step.LAPSED,
                command_id,
                str(Action.PAUSE if holds[command_id].current_a is None else Action.SET_CURRENT_LIMIT),
                self.recharge_point,
                forget_at_ms=0,
                final=False,
                reason=f"the lease ran out; on_lapse is {follows}: {target.why if target else 'nothing to restore'}",
            )
            for command_id, follows in lapsed
        ]
        await self._lives.tell(told, [(self.recharge_point, desired)])

    async def _bring(self) -> None:
        target = self.target
        if target is None:
            return
        cut = [one for one in self._open.values() if one.intent]
        if cut:
            await self._end_by_reading(cut, target, "its write was cut off; it is not made twice")
            return
        waiting = list(self._open.values())
        if waiting:
            if self._pace_s() > 0:
                return
            await self._execute(waiting, target)
        elif self._refused is None and (self._applied is None or not _same(self._applied, target) or self._stale()):
            await self._upkeep(target)

    async def _execute(self, waiting: Sequence[_Open], target: Target) -> None:
        """Write the target for the commands that wait, and end them by what is read back."""
        try:
            writes = self._writes(target, waiting)

            async def write(access: Access) -> None:
                await self._write_once(access, waiting, writes)

            await self._device.run(write, deadline_s=TURN_DEADLINE_S)
        except Refused as refused:
            await self._fail(waiting, f"the device refuses: {refused}")
            return
        done = [one for one in waiting if one.intent and one.command.id in self._open]
        if not done:
            return
        await self._step(done, Step.WRITTEN, final=not expectations(writes, self._limit, target.current_a))
        if any(one.command.id in self._open for one in done):
            await self._end_by_reading(done, target, None)

    async def _write_once(self, access: Access, waiting: Sequence[_Open], writes: Sequence[Write]) -> None:
        now_ms = self._clock.wall_ms()
        if any(one.command.expires_at_ms <= now_ms for one in waiting):
            return  # the next round ends the late ones and writes for the others
        await self._intend(waiting)
        self._applied = None
        for write in writes:
            await access.write(write)
            self._written_s = self._clock.monotonic_s()
            if write.then_wait_s:
                await asyncio.sleep(write.then_wait_s)

    async def _end_by_reading(self, waiting: Sequence[_Open], target: Target, cut: str | None) -> None:
        expected = expectations(self._writes(target, waiting), self._limit, target.current_a)
        try:
            unmet = await self._unmet(expected)
        except Refused as refused:
            unmet = f"it cannot be read back: {refused}"
        if unmet is None:
            self._applied = target
            self._alerts.clear_alert("limit_not_held", recharge_point=self.recharge_point)
            details = _details(target, waiting, self._limit)
            for one in waiting:
                await self._end([one], Step.VERIFIED, reason=_granted(one, target, cut), details=details)
            return
        self._alerts.raise_alert("limit_not_held", unmet, recharge_point=self.recharge_point, severity=Severity.ERROR)
        await self._fail(waiting, f"{unmet}; {cut}" if cut else unmet)

    async def _upkeep(self, target: Target) -> None:
        """Bring the device to what holds without a new command: after a lease, a restart, or in its own rhythm."""
        if self._pace_s() > 0:
            return
        writes = self._writes(target, ())
        expected = expectations(writes, self._limit, target.current_a)

        async def bring(access: Access) -> bool:
            if self._applied is None and expected and not await _first_unmet(access, expected):
                return False  # the device holds it: nothing to write
            self._applied = None
            for write in writes:
                await access.write(write)
                self._written_s = self._clock.monotonic_s()
                if write.then_wait_s:
                    await asyncio.sleep(write.then_wait_s)
            return True

        try:
            wrote = await self._device.run(bring, deadline_s=TURN_DEADLINE_S)
            unmet = await self._unmet(expected) if wrote else None
        except Refused as refused:
            unmet = f"the device refuses: {refused}"
        if unmet is None:
            if wrote:
                log.info("limit_kept", recharge_point=self.recharge_point, current_a=target.current_a, why=target.why)
            self._applied = target
            self._alerts.clear_alert("limit_not_held", recharge_point=self.recharge_point)
            return
        self._alerts.raise_alert("limit_not_held", unmet, recharge_point=self.recharge_point, severity=Severity.ERROR)
        raise Outage(unmet)

    async def _unmet(self, expected: Sequence[Expectation]) -> str | None:
        """What the device holds instead of what is expected, after it had time to settle; None: all is as expected."""
        ends_s = self._clock.monotonic_s() + SETTLE_S
        while True:
            unmet = await self._device.run(lambda access: _first_unmet(access, expected), deadline_s=TURN_DEADLINE_S)
            if unmet is None or self._clock.monotonic_s() >= ends_s:
                return unmet
            await asyncio.sleep(LOOK_AGAIN_S)

    # Lives.

    async def _intend(self, waiting: Sequence[_Open]) -> None:
        for one in waiting:
            one.intent = True
        await self._lives.save(
            [
                CommandChange(
                    id=one.command.id,
                    forget_at_ms=self._forget_at_ms(one.command),
                    recharge_point=self.recharge_point,
                    step=one.step,
                    final=False,
                    intent=True,
                    command=one.command,
                )
                for one in waiting
            ]
        )

    async def _step(self, waiting: Sequence[_Open], step: Step, *, final: bool) -> None:
        reason = "the device offers nothing to read back" if final else None
        for one in waiting:
            one.step = step
            if final:
                self._open.pop(one.command.id, None)
        await self._lives.tell(
            [self._told(one.command, step, final=final, reason=reason, intent=True) for one in waiting]
        )

    async def _end(
        self,
        ended: Sequence[_Open],
        step: Step,
        *,
        reason: str | None,
        details: dict[str, Value] | None = None,
        desired: Desired | None = None,
    ) -> None:
        still = [one for one in ended if self._open.pop(one.command.id, None) is not None]
        changed = () if desired is None else ((self.recharge_point, desired),)
        await self._lives.tell(
            [self._told(one.command, step, final=True, reason=reason, details=details) for one in still], changed
        )

    async def _fail(self, waiting: Sequence[_Open], reason: str) -> None:
        desired = self.desired
        for one in waiting:
            desired = wish.without(desired, one.command.id)
        self.desired = desired
        self._refused = reason
        await self._end(waiting, Step.FAILED, reason=reason, desired=desired)

    def _told(
        self,
        command: Command,
        step: Step,
        *,
        final: bool | None = None,
        reason: str | None = None,
        details: dict[str, Value] | None = None,
        intent: bool = False,
    ) -> Told:
        return Told(
            step,
            command.id,
            command.action,
            self.recharge_point,
            self._forget_at_ms(command),
            final=final,
            reason=reason,
            details=details or {},
            command=command,
            intent=intent,
        )

    def _forget_at_ms(self, command: Command) -> int:
        return command.expires_at_ms + self._forget_after_ms

    # What to write, and when.

    def _writes(self, target: Target, waiting: Sequence[_Open]) -> tuple[Write, ...]:
        if target.current_a is None:
            return self._limit.pause_writes()
        resumes = any(one.command.action is Action.RESUME for one in waiting)
        if resumes or self._applied is None or self._applied.pauses:
            return self._limit.resume_writes(target.current_a)
        return self._limit.writes_for(target.current_a)

    def _pace_s(self) -> float:
        """Seconds until the device bears another write."""
        return self._written_s + self._limit.min_write_interval_s - self._clock.monotonic_s()

    def _stale(self) -> bool:
        """Whether the device wants to be told again what holds."""
        return self._refresh_s() <= 0

    def _refresh_s(self) -> float:
        if self._failsafe is None or not self._failsafe.refreshed_by_limit or self._limit.wears_out:
            return WAIT_AT_MOST_S
        interval_s = self._failsafe.refresh_interval_s()
        if interval_s is None:
            return WAIT_AT_MOST_S
        return self._written_s + interval_s - self._clock.monotonic_s()

    def _idle_s(self) -> float:
        if self._open:
            return max(self._pace_s(), LOOK_AGAIN_S)
        if self.target is None:
            return WAIT_AT_MOST_S
        if self._refused is None and (self._applied is None or not _same(self._applied, self.target)):
            return max(self._pace_s(), LOOK_AGAIN_S)
        return max(self._refresh_s(), LOOK_AGAIN_S)

    def _next_end_s(self) -> float:
        """Seconds until a lease ends or a command that waits expires."""
        ends = [one.command.expires_at_ms for one in self._open.values() if not one.intent]
        lease = wish.next_end_ms(self.desired)
        if lease is not None:
            ends.append(lease)
        return (min(ends) - self._clock.wall_ms()) / 1000 + 0.001 if ends else WAIT_AT_MOST_S


async def _first_unmet(access: Access, expected: Sequence[Expectation]) -> str | None:
    for expectation in expected:
        value = await access.read(expectation.register.name)
        if not expectation.met(value):
            return expectation.seen(value)
    return None


def _supersedes(command: Command, older: Command) -> bool:
    """Whether a newer command makes an older one that has not ended pointless."""
    if command.action is Action.SET_CURRENT_LIMIT:
        return older.action is Action.SET_CURRENT_LIMIT and older.purpose is command.purpose
    return older.action in {Action.PAUSE, Action.RESUME}


def _same(one: Target, other: Target) -> bool:
    return one.current_a == other.current_a


def _details(target: Target, waiting: Sequence[_Open], limit: Limit) -> dict[str, Value]:
    if target.current_a is None:
        return {"why": target.why}
    granted_a = limit.round_down(target.current_a)
    asked = {one.command.current_a for one in waiting if one.command.current_a is not None}
    shown: dict[str, Value] = {"current_a": granted_a, "why": target.why}
    if any(current_a != granted_a for current_a in asked):
        shown["granted_a"] = granted_a
    return shown


def _granted(one: _Open, target: Target, cut: str | None) -> str | None:
    if cut is not None:
        return f"{cut}; the device holds what was asked"
    if one.command.action is not Action.SET_CURRENT_LIMIT or target.command_id == one.command.id:
        return None
    return f"{target.why} applies"
