"""Brings one recharge point to its desired state, and reports what that means for each command.

Commands that wait stand on top of what is settled; this task compares the sum with the device: write, read back, watch
leases end, refresh in the device's rhythm, write again what the device lost. A command that ends well becomes part of
what is settled; one that fails, expires or is superseded leaves nothing behind, so that what held before holds again.

Invariants:
- An intent is on disk before a command's write. A command with an intent is never written again: it is read back, and
  ends by what is there.
- No command is written after its `expires_at`, nor when nothing of its lease is left; one that waits for a dead device
  ends then.
- Writes keep the device's pace by coalescing: what came meanwhile goes out as one write.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from evedge.core import desired as wish
from evedge.core.backoff import Backoff
from evedge.core.commands import Action, Command, Step
from evedge.core.desired import Bounds, Desired, Target
from evedge.core.errors import Outage, Refused
from evedge.core.life import OpenCommand
from evedge.core.model import Severity, Value
from evedge.core.profile import Failsafe, Limit, Write
from evedge.core.verify import Expectation, Look, expectations
from evedge.flows.clock import Clock
from evedge.flows.lives import Lives
from evedge.flows.rhythm import Rhythm
from evedge.flows.waiting import Open, WaitingCommands

log = structlog.get_logger()
T = TypeVar("T")

SETTLE_S = 5.0
"""How long a device may take to show what was written."""
LOOK_AGAIN_S = 0.5
PATIENCE_S = 60.0
"""How long a command that was cut off is waited for beyond its `expires_at`, or beyond a restart."""
NOTHING_TO_READ = "the device offers nothing to read back"
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
        self._limit = limit
        self._rhythm = Rhythm(limit, failsafe, clock)
        self._device = device
        self._waiting = WaitingCommands(
            recharge_point,
            lives,
            forget_after_ms=round(forget_after_s * 1000),
            settled=desired if desired is not None else Desired(),
            opened=opened,
        )
        self._alerts = alerts
        self._clock = clock
        self._limit_now_a = limit_now_a
        self._chance = chance
        self._started_s = clock.monotonic_s()
        self._backoff = Backoff(first_s=1.0, longest_s=10.0)
        self._unreached: str | None = None
        self._wake = asyncio.Event()

    @property
    def desired(self) -> Desired:
        """What is settled, and on top of it what the commands that wait ask for."""
        return self._waiting.desired()

    @property
    def target(self) -> Target | None:
        """What the device is being brought to."""
        return wish.target(self.desired, self.bounds)

    async def accept(self, command: Command) -> None:
        """Make a command one that waits; on disk when this returns."""
        await self._waiting.accept(command, self._clock.wall_ms(), limit_before_a=self._limit_now_a())
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
                self._unreached = None
                wait_s = self._idle_s()
            except Outage as outage:
                wait_s = self._backoff.failed(self._chance())
                if str(outage) != self._unreached:
                    self._unreached = str(outage)
                    log.info("limit_waiting", recharge_point=self.recharge_point, reason=self._unreached)
            wait_s = min(wait_s, self._next_end_s(), WAIT_AT_MOST_S)
            try:
                async with asyncio.timeout(max(wait_s, 0.0)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    # The steps of a round.

    async def _expire(self) -> None:
        now_ms = self._clock.wall_ms()
        await self._waiting.end(self._waiting.late(now_ms), Step.EXPIRED, lambda command: _why_late(command, now_ms))

    async def _lapse(self) -> None:
        if await self._waiting.lapse(self.bounds, self._clock.wall_ms()):
            self._rhythm.target_changed()

    async def _bring(self) -> None:
        cut = self._waiting.cut()
        if cut:
            await self._end_cut(cut)
            return
        target = self.target
        if target is None:
            return
        waiting = self._waiting.all()
        if self._rhythm.pace_s(target) > 0:
            return
        if waiting:
            await self._execute(waiting, target)
        elif self._rhythm.upkeep_s(target) <= 0:
            await self._upkeep(target)

    async def _execute(self, waiting: Sequence[Open], target: Target) -> None:
        """Bring the device to the target for the commands that wait, and end them by what is read back."""
        writes = self._writes(target, waiting)
        expected = expectations(writes, self._limit, target.current_a)
        try:
            if await self._held_already(target, expected):
                await self._verified(waiting, target, cut=None)
                return

            async def write(access: Access) -> bool:
                return await self._write_once(access, waiting, writes, target)

            wrote = await self._device.run(write, deadline_s=TURN_DEADLINE_S)
        except Refused as refused:
            await self._fail(waiting, f"the device refuses: {refused}")
            return
        if not wrote:
            return  # the next round ends the late ones and writes for the others
        if await self._can_be_seen(expected):
            await self._waiting.step(waiting, Step.WRITTEN)
            await self._end_by_reading(waiting, target, expected, cut=None)
        else:
            self._hold(target)
            await self._waiting.end(waiting, Step.WRITTEN, lambda _: NOTHING_TO_READ, settle=True)

    async def _can_be_seen(self, expected: Sequence[Expectation]) -> bool:
        """Whether the device offers anything to read back; where that is not certain, it is asked."""
        if not expected or any(one.certain for one in expected):
            return bool(expected)
        look = await self._device.run(lambda access: _look(access, expected), deadline_s=TURN_DEADLINE_S)
        return not look.nothing

    async def _held_already(self, target: Target, expected: Sequence[Expectation]) -> bool:
        """Whether there is nothing to write: this process brought the device here, and it still shows it."""
        if not self._rhythm.is_at(target):
            return False
        look = await self._device.run(lambda access: _look(access, expected), deadline_s=TURN_DEADLINE_S)
        return look.held

    async def _write_once(
        self, access: Access, waiting: Sequence[Open], writes: Sequence[Write], target: Target
    ) -> bool:
        """Write, with the intent on disk before. False: too late for one of them, nothing was written."""
        if self._too_late(waiting):
            return False
        await self._waiting.save_intent(waiting)
        if self._too_late(waiting):  # the disk may have taken its time
            return False
        for one in waiting:
            one.intent = True
        await self._write(access, writes, target)
        return True

    def _too_late(self, waiting: Sequence[Open]) -> bool:
        now_ms = self._clock.wall_ms()
        return any(one not in self._waiting or one.command.write_before_ms <= now_ms for one in waiting)

    async def _write(self, access: Access, writes: Sequence[Write], target: Target) -> None:
        for write in writes:
            self._rhythm.wrote(target)  # before: when it fails, nobody knows whether the device took it
            await access.write(write)
            if write.then_wait_s:
                await asyncio.sleep(write.then_wait_s)
        self._rhythm.wrote(target)

    async def _end_cut(self, cut: Sequence[Open]) -> None:
        """End commands whose write was cut off, by what the device holds of what they asked for."""
        reason = "its write was cut off; it is not made twice"
        target = wish.target(self._waiting.desired(cut), self.bounds)
        expected = () if target is None else expectations(self._writes(target, cut), self._limit, target.current_a)
        if target is None:
            await self._fail(cut, reason)
            return
        try:
            await self._end_by_reading(cut, target, expected, cut=reason)
        except Outage as outage:
            still = [one for one in cut if one in self._waiting and self._out_of_patience(one.command)]
            if still:
                await self._fail(still, f"{reason}, and the device does not answer: {outage}")
            raise

    def _out_of_patience(self, command: Command) -> bool:
        waits_for_start = self._clock.monotonic_s() < self._started_s + PATIENCE_S
        return not waits_for_start and self._clock.wall_ms() >= command.expires_at_ms + PATIENCE_S * 1000

    async def _end_by_reading(
        self, waiting: Sequence[Open], target: Target, expected: Sequence[Expectation], *, cut: str | None
    ) -> None:
        try:
            look = await self._settled_look(expected)
        except Refused as refused:
            look = Look(f"it cannot be read back: {refused}")
        if look.held:
            await self._verified(waiting, target, cut=cut)
            return
        if look.unmet is not None:
            self._raise_not_held(look.unmet)
        await self._fail(waiting, "; ".join(filter(None, (look.unmet or NOTHING_TO_READ, cut))))

    async def _verified(self, waiting: Sequence[Open], target: Target, *, cut: str | None) -> None:
        self._hold(target)
        details = _details(target, waiting, self._limit)
        await self._waiting.end(
            waiting, Step.VERIFIED, lambda command: _granted(command, target, cut), details=details, settle=True
        )

    def _hold(self, target: Target) -> None:
        self._rhythm.holds(target)
        self._alerts.clear_alert("limit_not_held", recharge_point=self.recharge_point)

    async def _upkeep(self, target: Target) -> None:
        """Bring the device to what holds without a new command: after a lease, a restart, or in its own rhythm."""
        writes = self._writes(target, ())
        expected = expectations(writes, self._limit, target.current_a)
        known = self._rhythm.applied is not None
        must_write = self._rhythm.refresh_s() <= 0 or (known and not self._rhythm.is_at(target))

        async def bring(access: Access) -> bool:
            if not must_write:
                look = await _look(access, expected)
                if look.held or (look.nothing and known):
                    return False  # the device holds it, or does not tell and was told
            await self._write(access, writes, target)
            return True

        try:
            wrote = await self._device.run(bring, deadline_s=TURN_DEADLINE_S)
            unmet = (await self._settled_look(expected)).unmet if wrote else None
        except Refused as refused:
            unmet = f"the device refuses: {refused}"
        if unmet is not None:
            self._rhythm.does_not_hold(self._chance())
            self._raise_not_held(unmet)
            return
        if wrote:
            log.info("limit_kept", recharge_point=self.recharge_point, current_a=target.current_a, why=target.why)
        self._hold(target)

    def _raise_not_held(self, unmet: str) -> None:
        self._alerts.raise_alert("limit_not_held", unmet, recharge_point=self.recharge_point, severity=Severity.ERROR)

    async def _settled_look(self, expected: Sequence[Expectation]) -> Look:
        """What the device holds, after it had time to settle."""
        ends_s = self._clock.monotonic_s() + SETTLE_S
        while expected:
            look = await self._device.run(lambda access: _look(access, expected), deadline_s=TURN_DEADLINE_S)
            if look.unmet is None or self._clock.monotonic_s() >= ends_s:
                return look
            await asyncio.sleep(LOOK_AGAIN_S)
        return Look(None, nothing=True)

    async def _fail(self, waiting: Sequence[Open], reason: str) -> None:
        await self._waiting.end(waiting, Step.FAILED, lambda _: reason)

    # What to write, and when.

    def _writes(self, target: Target, waiting: Sequence[Open]) -> tuple[Write, ...]:
        return self._rhythm.writes(target, resumes=any(one.command.action is Action.RESUME for one in waiting))

    def _idle_s(self) -> float:
        target = self.target
        if target is None:
            return WAIT_AT_MOST_S
        due_s = 0.0 if self._waiting else self._rhythm.upkeep_s(target)
        return max(self._rhythm.pace_s(target), due_s, LOOK_AGAIN_S)

    def _next_end_s(self) -> float:
        """Seconds until a lease ends or a command that waits expires."""
        ends_at_ms = self._waiting.next_end_ms()
        return WAIT_AT_MOST_S if ends_at_ms is None else (ends_at_ms - self._clock.wall_ms()) / 1000 + 0.001


async def _look(access: Access, expected: Sequence[Expectation]) -> Look:
    nothing = True
    for expectation in expected:
        seen = await _see(access, expectation)
        if seen is None:
            continue
        nothing = False
        found, value = seen
        if not found.met(value):
            return Look(found.seen(value))
    return Look(None, nothing)


async def _see(access: Access, expectation: Expectation) -> tuple[Expectation, Value | None] | None:
    """The value, and what it is held against. None: the device lacks what is optional, and there is nothing instead."""
    optional = expectation.register.optional
    try:
        value = await access.read(expectation.register.name)
    except Refused:
        if not optional:
            raise
        value = None
    if value is not None or not optional:
        return expectation, value
    return None if expectation.instead is None else await _see(access, expectation.instead)


def _why_late(command: Command, now_ms: int) -> str:
    late = "it expired" if command.expires_at_ms <= now_ms else "its lease ran out"
    return f"{late} before the device could be reached"


def _details(target: Target, waiting: Sequence[Open], limit: Limit) -> dict[str, Value]:
    if target.current_a is None:
        return {"why": target.why}
    granted_a = limit.round_down(target.current_a)
    asked = {one.command.current_a for one in waiting if one.command.current_a is not None}
    shown: dict[str, Value] = {"current_a": granted_a, "why": target.why}
    if any(current_a != granted_a for current_a in asked):
        shown["granted_a"] = granted_a
    return shown


def _granted(command: Command, target: Target, cut: str | None) -> str | None:
    if cut is not None:
        return f"{cut}; the device holds what was asked"
    if command.action is not Action.SET_CURRENT_LIMIT or target.current_a == command.current_a:
        return None
    return f"{target.why} applies" if target.current_a is not None else target.why
