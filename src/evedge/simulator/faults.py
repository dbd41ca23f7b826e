"""What can be wrong with a simulated recharge point, by name. Values only; the server and the device act on them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from evedge.core.errors import UsageError


class Fault(StrEnum):
    """A fault that can be switched on and off at any time."""

    SILENT = "silent"
    SLOW = "slow"
    RESET = "reset"
    BUSY = "busy"
    FROZEN = "frozen"
    IGNORE_WRITES = "ignore-writes"
    GARBAGE = "garbage"


MEANINGS = {
    Fault.SILENT: "takes connections and never answers",
    Fault.SLOW: "answers after seconds, one request after the other",
    Fault.RESET: "resets the connection when a request comes",
    Fault.BUSY: "answers every request with exception 6 (busy)",
    Fault.FROZEN: "goes on answering with the values it had when the fault began",
    Fault.IGNORE_WRITES: "acknowledges writes and changes nothing",
    Fault.GARBAGE: "answers with bytes that are no Modbus",
}


def parse_faults(names: Iterable[str]) -> frozenset[Fault]:
    """Faults by name. Raises UsageError that lists the known ones."""
    found = set()
    for name in names:
        try:
            found.add(Fault(name))
        except ValueError:
            raise UsageError(f"unknown fault {name!r}: choose from {', '.join(Fault)}") from None
    return frozenset(found)
