"""What current a simulated connector offers, as it follows from what was written to it and from who speaks to it.

Pure. Keeps what the writable registers hold (`cells`, values in their units) and the failsafe's timer. Knows a
profile's facts about limits, pauses and the failsafe; knows no car and no addresses.

The failsafe is the profile's own: its timer starts with the first sign of life of the kind it listens for (a device
that nobody ever spoke to charges freely), and when it runs out the fallback current is the limit, until there is a sign
of life again or, where the profile has recovery writes, until those or a new limit are written. Without a known
time-out or fallback nothing runs out.

Invariants: nothing between 0 and the minimum current is ever offered, nor more than hardware and cable bear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from evedge.core.model import Value
from evedge.core.profile import Failsafe, FailsafeKind, Limit, Profile, Register

Cells = dict[str, Value | None]


class Limiter:
    """One connector's limit. `hardware_a` and `cable_a` are amperes per phase."""

    def __init__(self, profile: Profile, hardware_a: float, cable_a: float) -> None:
        self.hardware_a = hardware_a
        self.cable_a = cable_a
        self.lapsed = False
        self._profile = profile
        self._limit = profile.limit
        self._failsafe = profile.failsafe
        self._setpoints = _setpoints(profile.limit)
        self._paused_by = _pause_values(profile.limit)
        self._revived_by = _reviving_registers(profile)
        recovery = {step.register.name for step in profile.failsafe.recovery_steps}
        self._restored_by = recovery | set(self._setpoints)
        self._recovers_alone = not recovery
        self._last_heard: float | None = None
        self.cells: Cells = {
            register.name: self._at_delivery(register) for register in profile.registers.values() if register.writable
        }
        fallback = profile.failsafe.fallback_current
        if fallback is not None and not fallback.writable:
            self.cells[fallback.name] = self.min_current_a  # what an installer has set with a tool of the vendor's

    # -- what is offered --------------------------------------------------------------------------------------------

    @property
    def min_current_a(self) -> float:
        return self._limit.min_current_a if self._limit else 6.0

    @property
    def paused(self) -> bool:
        """Whether a register other than the limit withholds the current."""
        return any(self.cells[name] == value for name, value in self._paused_by.items())

    @property
    def offered_a(self) -> float:
        """Amperes per phase the vehicle may draw now: the limit in force. 0 while nothing is offered."""
        if self.paused:
            return 0.0
        lowest = min(self.hardware_a, self.cable_a, self._fallback_a if self.lapsed else self._set_a)
        return lowest if lowest >= self.min_current_a else 0.0

    @property
    def _set_a(self) -> float:
        if self._limit is None:
            return math.inf
        values = [value for name in self._setpoints if isinstance(value := self.cells[name], float | int)]
        return min(map(self._limit.current_of, values), default=math.inf)

    @property
    def _fallback_a(self) -> float:
        register = self._failsafe.fallback_current
        value = self.cells.get(register.name) if register is not None else None
        if not isinstance(value, float | int):
            return 0.0
        in_watts = register is not None and register.unit == "W" and self._limit is not None
        return self._limit.current_of(value) if in_watts and self._limit else float(value)

    # -- what happens -----------------------------------------------------------------------------------------------

    def write(self, register: Register, value: Value | None, now: float) -> None:
        """A register was written. The value is one the register takes; None stands for its "not available"."""
        self.cells[register.name] = self._as_shown(register, value)
        if register.name in self._setpoints:
            self._release_what_no_resume_names()
        if register.name in self._restored_by:
            self.lapsed = False
        if register.name in self._revived_by:
            self._revive(now)

    def heard(self, now: float, *, write: bool) -> None:
        """A request came for this device, whatever it was about."""
        kind = self._failsafe.kind
        if (
            kind is FailsafeKind.ANY_REQUEST
            or (kind is FailsafeKind.ANY_READ and not write)
            or (kind is FailsafeKind.ANY_WRITE and write)
        ):
            self._revive(now)

    def _revive(self, now: float) -> None:
        self._last_heard = now
        if self._recovers_alone:
            self.lapsed = False

    @property
    def lapses_at(self) -> float | None:
        """When the failsafe's timer runs out if nobody speaks; None when it does not run."""
        timeout_s = self._timeout_s
        if self._last_heard is None or timeout_s is None or self.lapsed or self._failsafe.fallback_current is None:
            return None
        return self._last_heard + timeout_s

    def lapse(self) -> None:
        """The timer ran out: the fallback current is the limit, and waits for the next sign of life to start again."""
        self.lapsed = True
        self._last_heard = None

    @property
    def _timeout_s(self) -> float | None:
        failsafe = self._failsafe
        value = self.cells.get(failsafe.timeout.name) if failsafe.timeout is not None else None
        if failsafe.timeout is None or failsafe.timeout.name not in self.cells:
            return failsafe.timeout_s
        off = value in {None, 0, failsafe.timeout_off}
        return None if off or not isinstance(value, float | int) else float(value)

    def _as_shown(self, register: Register, value: Value | None) -> Value | None:
        """None where the register that shows this one would say "not available": a written 255 may mean "none"."""
        readback = self._profile.readback(register)
        if value is None or readback is None:
            return value
        try:
            return None if readback.decode(readback.encode(value)) is None else value
        except ValueError:
            return value

    def _release_what_no_resume_names(self) -> None:
        """A pause that only a new limit ends (no register of its own is written to resume) ends now."""
        if self._limit is None or self._set_a < self.min_current_a:
            return
        resumed = {step.register.name for step in self._limit.resume_steps}
        for name, value in self._paused_by.items():
            if name not in resumed and self.cells[name] == value:
                self.cells[name] = None

    def _at_delivery(self, register: Register) -> Value | None:
        """What a writable register holds before anybody wrote it: charging is free, the failsafe as delivered."""
        failsafe = self._failsafe
        if self._limit is not None:
            if register.name in self._setpoints:
                return self.hardware_a * (self._limit.watts_per_ampere or 1.0)
            for step in self._limit.resume_steps:
                if step.register.name == register.name and step.value is not None:
                    return _canonical(register, step.value)
        if failsafe.timeout is not None and register.name == failsafe.timeout.name:
            return failsafe.timeout_s or failsafe.timeout_off or 0.0
        if self._failsafe.fallback_current is not None and register.name == self._failsafe.fallback_current.name:
            return 0.0 if register.problem(0.0) is None else None
        return _neutral(register)


def _setpoints(limit: Limit | None) -> tuple[str, ...]:
    """The registers that hold the limit: the one named so, and every other a new limit is written to."""
    if limit is None:
        return ()
    names = [limit.register.name, *(step.register.name for step in limit.set_steps if step.value is None)]
    return tuple(dict.fromkeys(names))


def _pause_values(limit: Limit | None) -> Mapping[str, Value]:
    """Registers that pause while they hold this value. The limit itself and what resuming writes alike are none."""
    if limit is None:
        return {}
    resumes = {step.register.name: step.value for step in (*limit.set_steps, *limit.resume_steps)}
    return {
        step.register.name: _canonical(step.register, step.value)
        for step in limit.pause_steps
        if step.value is not None
        and step.register.name not in _setpoints(limit)
        and resumes.get(step.register.name) != step.value
    }


def _reviving_registers(profile: Profile) -> frozenset[str]:
    """Writing one of these restarts the timer of the failsafe kinds that listen for a certain write."""
    failsafe: Failsafe = profile.failsafe
    if failsafe.kind is FailsafeKind.REWRITE_SETPOINT:
        pauses = profile.limit.pause_steps if profile.limit else ()
        return frozenset((*_setpoints(profile.limit), *(step.register.name for step in pauses)))
    if failsafe.kind is FailsafeKind.REWRITE_TIMEOUT and failsafe.timeout is not None:
        return frozenset((failsafe.timeout.name, *(step.register.name for step in failsafe.refresh_steps)))
    if failsafe.kind in {FailsafeKind.HEARTBEAT_VALUE, FailsafeKind.HEARTBEAT_TOGGLE}:
        return frozenset(step.register.name for step in failsafe.refresh_steps)
    return frozenset()


def _canonical(register: Register, value: Value) -> Value:
    """A step's value as reading the register gives it (an enum's name becomes its number)."""
    decoded = register.decode(register.encode(value))
    return value if decoded is None else decoded


def _neutral(register: Register) -> Value | None:
    """0, "" or false where that may be; else the first that may."""
    if register.kind.value == "text":
        return ""
    if register.enum and 0 not in register.enum:
        return next(iter(register.enum))
    if register.minimum is not None and register.problem(0.0) is not None:
        return register.minimum
    return False if register.kind.value == "truth" else 0
