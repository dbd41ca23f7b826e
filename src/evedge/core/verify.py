"""How a limit or a pause is seen to hold: which registers to read after a write, and what they may hold.

A register that can be read back must hold what was written, within its own resolution. Where a setpoint cannot be read,
the limit in force must be at or below it. Where nothing can be read there is nothing to expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evedge.core.model import Value
from evedge.core.profile import Limit, Register, Write


@dataclass(frozen=True, slots=True)
class Expectation:
    """A register to read, and what it must hold: `exactly`, or a number of at most `at_most` (in its own unit)."""

    register: Register
    exactly: Value | None = None
    at_most: float | None = None

    def met(self, value: Value | None) -> bool:
        """Whether a reading shows what is expected; None (not available) does not."""
        if value is None:
            return False
        if self.at_most is not None:
            return _number(value) and float(value) <= self.at_most + self.register.resolution / 2
        if _number(value) and _number(self.exactly):
            return abs(float(value) - float(self.exactly or 0)) <= self.register.resolution / 2 + 1e-9
        return value == self.exactly

    def seen(self, value: Value | None) -> str:
        """In words, for a result."""
        shown = "nothing" if value is None else f"{value:g}" if _number(value) else str(value)
        return f"{self.register.name} holds {shown}"


def expectations(writes: Sequence[Write], limit: Limit, current_a: float | None) -> tuple[Expectation, ...]:
    """What must be seen after these writes, which set `current_a` (None: a pause). Empty: nothing can be read back."""
    found: dict[str, Expectation] = {}
    for write in writes:
        if write.register is limit.register and limit.readback is not None:
            found[write.register.name] = Expectation(limit.readback, exactly=_in_unit_of(limit, write))
        elif write.register.readable:
            found[write.register.name] = Expectation(write.register, exactly=write.value)
    if not found and limit.in_force is not None and current_a is not None:
        found[limit.in_force.name] = Expectation(limit.in_force, at_most=current_a)
    return tuple(found.values())


def _in_unit_of(limit: Limit, write: Write) -> Value:
    """What was written, as the read-back register shows it: some devices take watts and show amperes, none so far."""
    decoded = limit.register.decode(write.words)
    return write.value if decoded is None else decoded


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
