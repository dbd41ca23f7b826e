"""The desired state of one recharge point: at most one limit per purpose, a pause, and what follows when a lease ends.

Pure values: each change returns a new state and the ids of what it replaced. What the device is brought to is `target`.
"""

from __future__ import annotations

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


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """What a recharge point is to be brought to, as it stands on disk.

    fallback_a: the limit in force before the first leased command; None where that is unknown.
    touched: whether a command ever set something: until then the device is left as it is.
    """

    limits: tuple[Hold, ...] = ()
    pause: Hold | None = None
    fallback_a: float | None = None
    lapsed_to_pause: bool = False
    touched: bool = False


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


def apply(desired: Desired, command: Command, now_ms: int, *, limit_before_a: float | None) -> Desired:
    """The state after a command. `limit_before_a` is the limit in force now, where the device tells."""
    ends_at_ms = None if command.lease_s is None else now_ms + round(command.lease_s * 1000)
    fallback_a = desired.fallback_a
    if not desired.touched:
        fallback_a = limit_before_a
    hold = Hold(
        command_id=command.id,
        purpose=command.purpose,
        current_a=command.current_a,
        ends_at_ms=ends_at_ms,
        issuer=command.issuer,
    )
    common = {"fallback_a": fallback_a, "touched": True}
    if command.action is Action.SET_CURRENT_LIMIT:
        others = tuple(limit for limit in desired.limits if limit.purpose is not command.purpose)
        return msgspec.structs.replace(desired, limits=(*others, hold), lapsed_to_pause=False, **common)
    if command.action is Action.PAUSE:
        return msgspec.structs.replace(desired, pause=hold, **common)
    return msgspec.structs.replace(desired, pause=None, lapsed_to_pause=False, **common)


def without(desired: Desired, command_id: str) -> Desired:
    """The state without what this command set: it failed or expired before it was done."""
    return msgspec.structs.replace(
        desired,
        limits=tuple(limit for limit in desired.limits if limit.command_id != command_id),
        pause=None if desired.pause is not None and desired.pause.command_id == command_id else desired.pause,
    )


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
        lapsed.append((pause.command_id, OnLapse.FALLBACK))
        pause = None
    if not lapsed:
        return desired, ()
    changed = msgspec.structs.replace(desired, limits=tuple(limits), pause=pause, lapsed_to_pause=to_pause)
    return changed, tuple(lapsed)


def next_end_ms(desired: Desired) -> int | None:
    """When the next lease runs out; None when none does."""
    holds = (*desired.limits, *(() if desired.pause is None else (desired.pause,)))
    return min((hold.ends_at_ms for hold in holds if hold.ends_at_ms is not None), default=None)


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
        if asked_a < bounds.min_current_a:
            why = f"{lowest.purpose} limit {asked_a:g} A is below the minimum of {bounds.min_current_a:g} A: paused"
            return Target(None, why, lowest.command_id)
        if asked_a > bounds.max_current_a:
            return Target(bounds.max_current_a, f"{bounds.max_current_a:g} A is the maximum here", lowest.command_id)
        return Target(asked_a, f"{lowest.purpose} limit", lowest.command_id)
    if bounds.fallback_current_a is not None:
        return _fallback(bounds.fallback_current_a, bounds, "fallback_current_a")
    if desired.fallback_a is not None:
        return _fallback(desired.fallback_a, bounds, "the limit before the first command")
    return Target(bounds.max_current_a, "the maximum: the limit before the first command is not known")


def _fallback(current_a: float, bounds: Bounds, why: str) -> Target:
    if current_a < bounds.min_current_a:
        return Target(None, f"{why} is below the minimum: paused")
    return Target(min(current_a, bounds.max_current_a), why)
