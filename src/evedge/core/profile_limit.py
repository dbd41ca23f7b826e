"""How a recharge point is limited, paused and kept alive, as writes in the order a commander sends them.

Decides nothing about time and never writes: it turns "10.55 A" into registers and words the device takes. A current
below `min_current_a` is never turned into a small number or a 0: pausing is a sequence of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from evedge.core.model import Value
from evedge.core.profile_number import divisor
from evedge.core.profile_register import Register

_NEARLY = 1e-6  # a thousandth of a step: 10.1 A is 10100 mA, not 10099


@dataclass(frozen=True, slots=True)
class Write:
    """One register to write: the value in its unit, the words that hold it, and how long to wait before the next."""

    register: Register
    value: Value
    words: tuple[int, ...]
    then_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WriteStep:
    """One step of a sequence in a profile. `value` None stands for the limit."""

    register: Register
    value: Value | None
    then_wait_s: float = 0.0

    def write(self, limit: float | None) -> Write:
        """With the limit in the register's unit filled in."""
        value = limit if self.value is None else self.value
        if value is None:
            raise ValueError(f"writing {self.register.name} needs a limit")
        return Write(self.register, value, self.register.encode(value), self.then_wait_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a profile says about limiting. Currents are amperes per phase.

    register: holds the limit (A, or W where `watts_per_ampere` is given). readback: shows what was written, None where
    nothing does. in_force: shows the limit that applies after all of the device's own reasons.
    min_write_interval_s and min_pause_interval_s: what the device bears; wears_out: write only what changed.
    """

    register: Register
    readback: Register | None
    in_force: Register | None
    min_current_a: float
    max_current_a: float
    watts_per_ampere: float | None
    min_write_interval_s: float
    min_pause_interval_s: float
    wears_out: bool
    set_steps: tuple[WriteStep, ...]
    pause_steps: tuple[WriteStep, ...]
    resume_steps: tuple[WriteStep, ...]

    @property
    def step_a(self) -> float:
        """The device's resolution in amperes."""
        return self.register.resolution / (self.watts_per_ampere or 1.0)

    def round_down(self, current_a: float) -> float:
        """The highest current the device can be set to that is not above `current_a`, and not above its maximum."""
        return self._of_register(self._for_register(current_a))

    def writes_for(self, current_a: float) -> tuple[Write, ...]:
        """Set the limit, rounded down. Raises ValueError below `min_current_a`: pause instead."""
        return self._filled(self.set_steps, current_a)

    def pause_writes(self) -> tuple[Write, ...]:
        """Stop charging without ending the session."""
        return tuple(step.write(None) for step in self.pause_steps)

    def resume_writes(self, current_a: float) -> tuple[Write, ...]:
        """Go on after a pause, at this limit. Raises ValueError below `min_current_a`."""
        return self._filled(self.resume_steps, current_a)

    def current_of(self, value: float) -> float:
        """A reading of `register` or `readback`, in the register's unit, as amperes per phase."""
        return self._of_register(value)

    def _filled(self, steps: Sequence[WriteStep], current_a: float) -> tuple[Write, ...]:
        if not self.min_current_a <= current_a + _NEARLY:
            raise ValueError(f"{current_a:g} A is below {self.min_current_a:g} A, where nothing charges: pause instead")
        value = self._for_register(current_a)
        return tuple(step.write(value) for step in steps)

    def _for_register(self, current_a: float) -> float:
        wanted = min(current_a, self.max_current_a) * (self.watts_per_ampere or 1.0)
        step = self.register.resolution
        whole = divisor(step)
        if whole is not None:
            return math.floor(wanted * whole + _NEARLY) / whole
        return math.floor(wanted / step + _NEARLY) * step

    def _of_register(self, value: float) -> float:
        return value / self.watts_per_ampere if self.watts_per_ampere else value


class FailsafeKind(StrEnum):
    """What restarts the device's timer."""

    ANY_REQUEST = "any_request"
    ANY_READ = "any_read"
    ANY_WRITE = "any_write"
    REWRITE_SETPOINT = "rewrite_setpoint"
    REWRITE_TIMEOUT = "rewrite_timeout"
    HEARTBEAT_VALUE = "heartbeat_value"
    HEARTBEAT_TOGGLE = "heartbeat_toggle"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failsafe:
    """What the device does when nobody speaks to it.

    timeout: register with the time-out in seconds (writable if the device lets us), timeout_s: as delivered,
    timeout_off: the register's value that switches it off. fallback_current: register with the current that follows.
    recovery: writes that end the fallback beside setting the limit. closes_connection: it hangs up as well.
    """

    kind: FailsafeKind
    timeout: Register | None
    timeout_s: float | None
    timeout_off: float | None
    fallback_current: Register | None
    refresh_steps: tuple[WriteStep, ...]
    refresh_every_s: float | None
    recovery_steps: tuple[WriteStep, ...]
    closes_connection: bool
    description: str

    @property
    def refreshed_by_reads(self) -> bool:
        """Whether polling keeps the device content, as long as it is more frequent than `refresh_interval_s`."""
        return self.kind in {FailsafeKind.ANY_REQUEST, FailsafeKind.ANY_READ}

    @property
    def refreshed_by_limit(self) -> bool:
        """Whether what is in force (a limit, or a pause) must be written again and again."""
        return self.kind in {FailsafeKind.REWRITE_SETPOINT, FailsafeKind.ANY_WRITE}

    def refresh_interval_s(self, timeout_s: float | None = None) -> float | None:
        """Seconds between refreshes: the profile's, or half the time-out (as read, or as delivered).

        None when nothing needs refreshing or the time-out is off or not known.
        """
        if self.kind in {FailsafeKind.NONE, FailsafeKind.UNKNOWN}:
            return None
        if timeout_s is not None and timeout_s == self.timeout_off:
            return None
        effective = timeout_s or self.timeout_s
        half = effective / 2 if effective else None
        if self.refresh_every_s is None or half is None:
            return self.refresh_every_s or half
        return min(self.refresh_every_s, half)

    def refresh_writes(self, limit: Limit | None, current_a: float | None) -> tuple[Write, ...]:
        """What to write to keep the device content; `current_a` is the limit in force now, None while paused.

        It says again what is wanted now, never what was wanted before: a rewrite of an old limit would end a pause.
        Empty when reading is enough.
        """
        if self.refreshed_by_limit and limit is not None:
            return limit.pause_writes() if current_a is None else limit.writes_for(current_a)
        return tuple(step.write(None) for step in self.refresh_steps)
