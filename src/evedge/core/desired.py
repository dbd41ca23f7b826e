"""The desired state of one recharge point: at most one limit per purpose, a pause, and what follows when a lease ends.

Pure values: each change returns a new state. What the device is brought to is `target`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from evedge.core.commands import Action, Command, Purpose


class OnLapse(StrEnum):
    """What follows a limit whose lease ran out."""

    FALLBACK = "fallback"
    HOLD = "hold"
    PAUSE = "pause"


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A limit or a pause that a command set. `ends_at_ms` None: until it is replaced. `current_a` None: a pause."""

    command_id: str
    purpose: Purpose
    current_a: float | None
    ends_at_ms: int | None
    issuer: str | None = None

    @property
    def action(self) -> Action:
        """What the command was."""
        return Action.PAUSE if self.current_a is None else Action.SET_CURRENT_LIMIT


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """What a recharge point is to be brought to, as it stands on disk.

    fallback_a: the limit in force before the first leased command; None where that is unknown.
    touched: whether a command ever set something: until then the device is left as it is. leased: whether a limit with
    a lease was among that.
    """

    limits: tuple[Hold, ...] = ()
    pause: Hold | None = None
    fallback_a: float | None = None
    lapsed_to_pause: bool = False
    touched: bool = False
    leased: bool = False

    def holds(self) -> tuple[Hold, ...]:
        """The limits, and the pause if there is one."""
        return (*self.limits, *(() if self.pause is None else (self.pause,)))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the configuration and the profile allow a recharge point, per phase."""

    min_current_a: float
    max_current_a: float
    fallback_current_a: float | None
    on_lapse: OnLapse | None

    def after(self, purpose: Purpose) -> OnLapse:
        """What follows a limit of this purpose: a grid limit holds unless the configuration says otherwise."""
        if self.on_lapse is not None:
            return self.on_lapse
        return OnLapse.HOLD if purpose is Purpose.GRID else OnLapse.FALLBACK


@dataclass(frozen=True, slots=True)
class Target:
    """What the device is brought to: `current_a`, or a pause where it is None; and why, in words."""

    current_a: float | None
    why: str
    command_id: str | None = None

    @property
    def pauses(self) -> bool:
        return self.current_a is None


def remember(desired: Desired, limit_before_a: float | None) -> Desired:
    """The state with the limit in force before the first command, where the device tells."""
    if desired.touched or desired.fallback_a is not None or limit_before_a is None:
        return desired
    return msgspec.structs.replace(desired, fallback_a=limit_before_a)


def apply(desired: Desired, command: Command) -> Desired:
    """The state with what an accepted command asks for."""
    changed = msgspec.structs.replace(desired, touched=True)
    if command.action is Action.RESUME:
        return msgspec.structs.replace(changed, pause=None, lapsed_to_pause=False)
    hold = Hold(
        command_id=command.id,
        purpose=command.purpose,
        current_a=command.current_a,
        ends_at_ms=command.lease_ends_at_ms,
        issuer=command.issuer,
    )
    if command.action is Action.PAUSE:
        return msgspec.structs.replace(changed, pause=hold)
    others = tuple(limit for limit in desired.limits if limit.purpose is not command.purpose)
    changed = msgspec.structs.replace(changed, limits=(*others, hold), lapsed_to_pause=False)
    if command.lease_s is None or desired.leased:
        return changed
    in_force = [limit.current_a for limit in desired.limits if limit.current_a is not None]
    fallback_a = min(in_force) if in_force else desired.fallback_a
    return msgspec.structs.replace(changed, leased=True, fallback_a=fallback_a)


def apply_all(desired: Desired, commands: Iterable[Command]) -> Desired:
    """The state with what all of these ask for, in their order."""
    for command in commands:
        desired = apply(desired, command)
    return desired


def lapse(desired: Desired, bounds: Bounds, now_ms: int) -> tuple[Desired, tuple[tuple[str, OnLapse], ...]]:
    """The state once every lease that ran out has ended, and which commands' leases those were and what follows."""
    lapsed: list[tuple[str, OnLapse]] = []
    limits: list[Hold] = []
    to_pause = desired.lapsed_to_pause
    for limit in desired.limits:
        if limit.ends_at_ms is None or limit.ends_at_ms > now_ms:
            limits.append(limit)
            continue
        follows = bounds.after(limit.purpose)
        lapsed.append((limit.command_id, follows))
        if follows is OnLapse.HOLD:
            limits.append(msgspec.structs.replace(limit, ends_at_ms=None))
        to_pause = to_pause or follows is OnLapse.PAUSE
    pause = desired.pause
    if pause is not None and pause.ends_at_ms is not None and pause.ends_at_ms <= now_ms:
        follows = bounds.after(pause.purpose)
        lapsed.append((pause.command_id, follows))
        # A pause that stays is the same whether it is called `hold` or `pause`.
        pause = None if follows is OnLapse.FALLBACK else msgspec.structs.replace(pause, ends_at_ms=None)
    if not lapsed:
        return desired, ()
    changed = msgspec.structs.replace(desired, limits=tuple(limits), pause=pause, lapsed_to_pause=to_pause)
    return changed, tuple(lapsed)


def next_end_ms(desired: Desired) -> int | None:
    """When the next lease runs out; None when none does."""
    return min((hold.ends_at_ms for hold in desired.holds() if hold.ends_at_ms is not None), default=None)


def target(desired: Desired, bounds: Bounds) -> Target | None:
    """What the device is to be brought to. None: leave it as it is, nobody asked for anything that can be known."""
    if not desired.touched:
        return None
    if desired.pause is not None:
        return Target(None, "paused by command", desired.pause.command_id)
    if desired.lapsed_to_pause:
        return Target(None, "paused: a lease ran out")
    if desired.limits:
        lowest = min(desired.limits, key=lambda limit: limit.current_a or 0.0)
        asked_a = lowest.current_a or 0.0
        current_a, why = asked_a, f"{lowest.purpose} limit"
        if asked_a > bounds.max_current_a:
            current_a, why = bounds.max_current_a, f"{bounds.max_current_a:g} A is the maximum here"
        return _at_least_minimum(current_a, bounds, why, lowest.command_id)
    if bounds.fallback_current_a is not None:
        return _fallback(bounds.fallback_current_a, bounds, "fallback_current_a")
    if desired.fallback_a is not None:
        return _fallback(desired.fallback_a, bounds, "the limit before the first command")
    return _fallback(bounds.max_current_a, bounds, "the maximum, as the limit before the first command is not known")


def _fallback(current_a: float, bounds: Bounds, why: str) -> Target:
    return _at_least_minimum(min(current_a, bounds.max_current_a), bounds, why)


def _at_least_minimum(current_a: float, bounds: Bounds, why: str, command_id: str | None = None) -> Target:
    if current_a < bounds.min_current_a:
        below = f"{current_a:g} A ({why}) is below the minimum of {bounds.min_current_a:g} A: paused"
        return Target(None, below, command_id)
    return Target(current_a, why, command_id)
