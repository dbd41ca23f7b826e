"""What stands around a `Reading` (see `plan`): how good it is, the link it came over, and how a request can fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from evedge.core.errors import Outage, Refused
from evedge.core.model import Link, Quality, Value
from evedge.core.plan import Plan, Reading, Results

EXCEPTION_NAMES = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, not done yet",
    6: "device busy",
    7: "negative acknowledgement",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}
"""Modbus Application Protocol V1.1b3, section 7."""

LACKING = frozenset({2, 3})
"""Exceptions by which a device says that it has no such registers."""


class NoAnswer(Outage):
    """The other side is there but did not answer in time. Whether it did what was asked is unknown."""


class ModbusException(Refused):
    """The device answered, and said no. `code` is Modbus' exception code; the text is its name."""

    def __init__(self, code: int) -> None:
        super().__init__(EXCEPTION_NAMES.get(code, f"Modbus exception {code}"))
        self.code = code

    @property
    def lacking(self) -> bool:
        """Whether it says that the device has no such registers, rather than that it cannot answer now."""
        return self.code in LACKING


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a recharge point says it is. None was not read, or is not offered."""

    vendor: str | None = None
    model: str | None = None
    serial_number: str | None = None
    firmware: str | None = None


@dataclass(frozen=True, slots=True)
class LinkState:
    """Online: all values can be read. Degraded: some fail. Offline: none can be read. `reason` is for people."""

    state: Link
    reason: str | None = None
    identity: Identity = Identity()


def understand(plan: Plan, results: Results, known: Mapping[str, Value] | None = None) -> Reading:
    """What the answers to `plan.poll` mean. When nothing was read there are no values, only errors.

    A profile's rules may give a value without anything read ("unknown" where no condition holds, or from `known`): as a
    measurement of this moment that would be a lie.
    """
    reading = plan.decode(results, known)
    if not reading.values or any(not isinstance(answer, str) for answer in results.values()):
        return reading
    reason = next((str(answer) for answer in results.values()), "nothing was read")
    return replace(reading, values={}, errors={**dict.fromkeys(reading.values, reason), **reading.errors}, derived=[])


def quality(reading: Reading) -> Quality:
    """How much of what was asked for could be read."""
    if not reading.errors:
        return Quality.GOOD
    return Quality.PARTIAL if reading.values else Quality.BAD
