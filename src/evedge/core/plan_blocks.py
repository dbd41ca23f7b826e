"""Which requests read a set of registers: as few as the device's manners allow.

Two registers share a request when they are neighbours in one table at one unit id, or when the hole between them lies
in a span the profile names; when the request stays within the device's length; and never when the device wants each
quantity alone. A request begins and ends at a register and never cuts one. Addresses a profile forbids are never
inside, not even in a hole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evedge.core.profile_register import Register, Scope, Table
from evedge.core.profile_types import Connection, ConnectorsBy, Reads

MAX_BITS = 2000  # Modbus application protocol 1.1b3, section 6.1: what one read of coils may ask for


@dataclass(frozen=True, slots=True)
class Block:
    """One read request: `count` addresses from `address` (zero-based, as on the wire) of `table` at `unit_id`.

    registers: the names of what lies inside, by address. optional: whether the device may lack some of it.
    """

    unit_id: int
    table: Table
    address: int
    count: int
    registers: tuple[str, ...]
    optional: bool = False

    def __str__(self) -> str:
        last = self.address + self.count - 1
        return f"{self.table} {self.address}" + (f" to {last}" if self.count > 1 else "") + f" at unit {self.unit_id}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a register is for one connector."""

    unit_id: int
    table: Table
    address: int


@dataclass(frozen=True, slots=True)
class Locator:
    """Knows where the registers of one connector are: its unit id, and what is added to an address."""

    unit_id: int
    station_unit_id: int
    shift: int

    @classmethod
    def of(cls, connection: Connection, connector: int, unit_id: int | None) -> Locator:
        """For a connector (from 1); `unit_id` None is the profile's. Raises ValueError for a connector it lacks."""
        problem = connection.connector_problem(connector)
        if problem is not None:
            raise ValueError(f"connector {connector} does not exist: the device {problem}")
        _, unit = connection.endpoint(connector, unit_id=unit_id)
        station = connection.station_unit_id
        shift = connection.stride * (connector - 1) if connection.connectors_by is ConnectorsBy.ADDRESS_STRIDE else 0
        return cls(unit, unit if station is None else station, shift)

    def place(self, register: Register) -> Place:
        """Unit id, table and address of a register."""
        if register.scope is Scope.STATION:
            return Place(self.station_unit_id, register.table, register.address)
        return Place(self.unit_id, register.table, register.address + self.shift)


@dataclass(slots=True)
class _Draft:
    """A block that still grows."""

    place: Place
    end: int  # the first address after it
    members: list[Register]

    def block(self) -> Block:
        return Block(
            self.place.unit_id,
            self.place.table,
            self.place.address,
            self.end - self.place.address,
            tuple(register.name for register in self.members),
            any(register.optional for register in self.members),
        )


def blocks_for(
    registers: Iterable[Register], reads: Reads, locator: Locator, alone: frozenset[str] = frozenset()
) -> tuple[Block, ...]:
    """The fewest requests that read all of `registers`; those named in `alone` share theirs with nobody."""
    placed = sorted(
        ((locator.place(register), register) for register in registers),
        key=lambda item: (item[0].unit_id, item[0].table, item[0].address, item[1].words, item[1].name in alone),
    )
    drafts: list[_Draft] = []
    last: _Draft | None = None
    for place, register in placed:
        if last is not None and _may_join(last, place, register, reads, locator, alone):
            last.members.append(register)
            last.end = max(last.end, place.address + register.words)
        else:
            last = _Draft(place, place.address + register.words, [register])
            drafts.append(last)
    return tuple(draft.block() for draft in drafts)


def _may_join(
    draft: _Draft, place: Place, register: Register, reads: Reads, locator: Locator, alone: frozenset[str]
) -> bool:
    first = draft.place
    if (place.unit_id, place.table) != (first.unit_id, first.table):
        return False
    if place.address < draft.end:  # the same quantity under another name: a flag in a state
        return register.name not in alone
    if reads.one_value or register.name in alone or draft.members[-1].name in alone:
        return False
    longest = MAX_BITS if place.table.is_bits else reads.max_registers
    if place.address + register.words - first.address > longest:
        return False
    return place.address == draft.end or _crossable(draft, place, reads, locator)


def _crossable(draft: _Draft, place: Place, reads: Reads, locator: Locator) -> bool:
    """Whether the hole between the draft and the place may be read over."""
    hole = (draft.end, place.address - 1)
    if any(deny.table is place.table and "r" in deny.access and deny.touches(*hole) for deny in reads.deny):
        return False
    neighbour = draft.members[-1]
    for span in reads.spans:
        shift = locator.shift if span.scope is Scope.CONNECTOR else 0
        if (
            span.table is place.table
            and span.scope is neighbour.scope
            and span.covers(hole[0] - shift, hole[1] - shift)
        ):
            return True
    return False
