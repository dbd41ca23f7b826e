"""How a limit or a pause is seen to hold: which registers to read after a write, and what they may hold.

A register that can be read back must hold what was written, within its own resolution. Where a setpoint cannot be read,
the limit in force must be at or below it. Where nothing can be read there is nothing to expect; whether an optional
register can be, turns out when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evedge.core.model import Value
from evedge.core.profile import Limit, Register, Write


@dataclass(frozen=True, slots=True)
class Expectation:
    """A register to read, and what it must hold: `exactly`, or a number of at most `at_most` (in its own unit).

    instead: what is to be seen where the device lacks the register, which is optional then.
    """

    register: Register
    exactly: Value | None = None
    at_most: float | None = None
    instead: Expectation | None = None

    @property
    def certain(self) -> bool:
        """Whether there is something to read on every device of this kind."""
        return not self.register.optional or self.instead is not None

    def met(self, value: Value | None) -> bool:
        """Whether a reading shows what is expected; None (not available) does not."""
        if value is None:
            return False
        if self.at_most is not None:
            return _number(value) and float(value) <= self.at_most + self.register.resolution / 2
        if _number(value) and _number(self.exactly):
            # Less than a step apart: the device may round what it shows, or cut it off, but not show another value.
            return abs(float(value) - float(self.exactly or 0)) < self.register.resolution * (1 - 1e-6)
        return value == self.exactly and isinstance(value, bool) == isinstance(self.exactly, bool)

    def seen(self, value: Value | None) -> str:
        """In words, for a result."""
        shown = "nothing" if value is None else f"{value:g}" if _number(value) else str(value)
        return f"{self.register.name} holds {shown}"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found. `unmet`: in words, what is not as expected. `nothing`: none of what is expected could be read."""

    unmet: str | None
    nothing: bool = False

    @property
    def held(self) -> bool:
        """Whether the device was seen to hold what is expected."""
        return self.unmet is None and not self.nothing


def expectations(writes: Sequence[Write], limit: Limit, current_a: float | None) -> tuple[Expectation, ...]:
    """What must be seen after these writes, which set `current_a` (None: a pause). Empty: nothing can be read back."""
    found: dict[str, Expectation] = {}
    in_force = _in_force(limit, current_a)
    for write in writes:
        register = write.register
        if register is limit.register and limit.readback is not None:
            instead = in_force if limit.readback.optional else None
            found[register.name] = Expectation(limit.readback, exactly=register.decode(write.words), instead=instead)
        elif register.readable and register.readback is None and not register.self_clearing:
            found[register.name] = Expectation(register, exactly=register.decode(write.words))
    if not found and in_force is not None:
        return (in_force,)
    return tuple(found.values())


def _in_force(limit: Limit, current_a: float | None) -> Expectation | None:
    if limit.in_force is None or current_a is None:
        return None
    watts = limit.watts_per_ampere if limit.in_force.unit == "W" else None
    return Expectation(limit.in_force, at_most=current_a * (watts or 1.0))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
