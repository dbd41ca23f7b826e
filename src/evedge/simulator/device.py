"""A simulated device: the profile's registers over its connectors, answering requests as the real one does.

Pure: a PDU and `now` go in, a PDU comes out. Values are rendered when they are read, never by a timer, so a recharge
point that nobody asks costs nothing.

What it refuses: a function it has no registers for (1); an address that is no register, a read of a write-only one, a
write to a read-only one, a read across a hole that the profile does not list as readable (2); a value or a count that
is not allowed (3). Requests for a unit id that is not its own get no answer. A write is all or nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from evedge.core.measurands import Kind
from evedge.core.model import Value
from evedge.core.profile import ConnectorsBy, Profile, Register, Scope, Table
from evedge.simulator.connector import Connector
from evedge.simulator.contents import Contents, Shown
from evedge.simulator.wire import (
    Exceptional,
    ModbusRefusal,
    Read,
    Write,
    answer_read,
    answer_refusal,
    answer_write,
    parse,
)

_WRITES_KEPT = 10_000
_PLANS_KEPT = 256
_SEEDS_APART = 1_000_003  # between the connectors of one device


@dataclass(frozen=True, slots=True)
class Accepted:
    """One write request that was acknowledged. `at` is the device's clock; obeyed is False under `ignore-writes`."""

    at: float
    unit_id: int
    table: Table
    address: int
    words: tuple[int, ...]
    registers: tuple[str, ...]
    obeyed: bool = True


@dataclass(frozen=True, slots=True)
class _Place:
    """A register of one connector, where it is for this device."""

    register: Register
    connector: Connector
    first: int

    @property
    def last(self) -> int:
        return self.first + self.register.words - 1


Spaces = dict[Table, dict[int, list[_Place]]]
"""Of one unit id: per table and address, the registers that are there."""


class Device:
    """`connectors`: how many it has; those told apart by TCP port are devices of their own."""

    def __init__(self, profile: Profile, *, seed: int, now: float, connectors: int = 1) -> None:
        self.profile = profile
        self.seed = seed
        self.connectors = tuple(
            Connector(profile, number, seed + (number - 1) * _SEEDS_APART, now) for number in range(1, connectors + 1)
        )
        self.accepted: deque[Accepted] = deque(maxlen=_WRITES_KEPT)
        self.ignores_writes = False
        self._frozen: dict[tuple[str, int], tuple[int, ...]] | None = None
        self._contents = Contents(profile, seed)
        self._functions = _functions(profile)
        self._spaces = self._lay_out()
        self._plans: dict[tuple[int, str, int, int], list[_Place]] = {}

    # -- requests ---------------------------------------------------------------------------------------------------

    def answer(self, unit_id: int, pdu: bytes, now: float) -> bytes | None:
        """The answer to a request; None where a device says nothing, because another unit is meant."""
        spaces = self._spaces.get(unit_id)
        if spaces is None:
            return None
        self.advance(now)
        try:
            if pdu[0] not in self._functions:
                raise ModbusRefusal(Exceptional.FUNCTION)
            request = parse(pdu)
            for connector in self.connectors:
                connector.limiter.heard(now, write=isinstance(request, Write))
            if isinstance(request, Read):
                return answer_read(request, self._read(spaces, unit_id, request))
            self._write(spaces, unit_id, request, now)
            return answer_write(pdu)
        except ModbusRefusal as refusal:
            return answer_refusal(pdu, refusal.code)

    def advance(self, now: float) -> None:
        """Let every connector live until `now`."""
        for connector in self.connectors:
            connector.advance(now)

    def _read(self, spaces: Spaces, unit_id: int, request: Read) -> list[int]:
        first, last = request.address, request.address + request.count - 1
        asked = (unit_id, request.table, first, last)
        places = self._plans.get(asked)
        if places is None:
            places = self._readable(spaces, Table(request.table), first, last)
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            self._plans[asked] = places
        image: dict[int, int] = {}
        shown: dict[int, Shown] = {}
        for place in places:
            number = place.connector.number
            if number not in shown:
                shown[number] = self._contents.shown_by(place.connector)
            self._paint(image, place, shown[number])
        return [image.get(address, 0) for address in range(first, last + 1)]

    def _readable(self, spaces: Spaces, table: Table, first: int, last: int) -> list[_Place]:
        """The registers that a read of these addresses shows. Raises ModbusRefusal where the device refuses it."""
        reads = self.profile.reads
        if not table.is_bits and last - first >= reads.max_registers:
            raise ModbusRefusal(Exceptional.VALUE)
        places = _touched(spaces.get(table, {}), first, last, readable=True)
        covered = {address for place in places for address in range(place.first, place.last + 1)}
        holes = not covered.issuperset(range(first, last + 1))
        unreadable = not places or (holes and not self._spanned(table, first, last))
        if unreadable or self.profile.denied(table, first, last, "r"):
            raise ModbusRefusal(Exceptional.ADDRESS)
        if reads.one_value and not any((place.first, place.last) == (first, last) for place in places):
            raise ModbusRefusal(Exceptional.ADDRESS)
        return places

    def _paint(self, image: dict[int, int], place: _Place, shown: Shown) -> None:
        """Put a register's words into the image; one that is a part of a word leaves the rest of it."""
        register, addresses = place.register, range(place.first, place.last + 1)
        if self._frozen is not None:
            words = self._frozen[register.name, place.connector.number]
        else:
            words = shown.words(register)
        if register.mask is not None or register.bit is not None:
            words = tuple(image.get(address, 0) | word for address, word in zip(addresses, words, strict=True))
        image.update(zip(addresses, words, strict=True))

    def _spanned(self, table: Table, first: int, last: int) -> bool:
        connection = self.profile.connection
        for span in self.profile.reads.spans:
            by_stride = span.scope is Scope.CONNECTOR and connection.connectors_by is ConnectorsBy.ADDRESS_STRIDE
            for number in range(len(self.connectors) if by_stride else 1):
                moved = number * connection.stride
                if span.table is table and span.covers(first - moved, last - moved):
                    return True
        return False

    def _write(self, spaces: Spaces, unit_id: int, request: Write, now: float) -> None:
        table, first, last = Table(request.table), request.address, request.address + len(request.words) - 1
        places = [
            place
            for place in _touched(spaces.get(table, {}), first, last, writable=True)
            if first <= place.first and place.last <= last
        ]
        covered = {address for place in places for address in range(place.first, place.last + 1)}
        if not covered.issuperset(range(first, last + 1)) or self.profile.denied(table, first, last, "w"):
            raise ModbusRefusal(Exceptional.ADDRESS)
        values = [
            (place, _value(place.register, request.words[place.first - first : place.last - first + 1]))
            for place in places
        ]
        names = tuple(place.register.name for place in places)
        obeyed = not self.ignores_writes
        self.accepted.append(Accepted(now, unit_id, table, first, request.words, names, obeyed))
        if obeyed:
            for place, value in values:
                place.connector.write(place.register, value, now)

    # -- what it holds ----------------------------------------------------------------------------------------------

    def values(self, connector: int = 1) -> dict[str, Value | None]:
        """Every register by name as the device holds it now, decoded; None for "not available"."""
        shown = self._contents.shown_by(self.connectors[connector - 1])
        return {name: register.decode(shown.words(register)) for name, register in self.profile.registers.items()}

    def freeze(self, frozen: bool) -> None:
        """From now on clients read what the registers hold at this moment; the device itself lives on."""
        if not frozen:
            self._frozen = None
        elif self._frozen is None:
            self._frozen = {}
            for connector in self.connectors:
                shown = self._contents.shown_by(connector)
                for name, register in self.profile.registers.items():
                    self._frozen[name, connector.number] = shown.words(register)

    def _lay_out(self) -> dict[int, Spaces]:
        """Per unit id and table: which registers have an address, in the order in which they are painted."""
        connection = self.profile.connection
        spaces: dict[int, Spaces] = {}
        for connector in self.connectors:
            unit_id = connection.endpoint(connector.number)[1]
            spaces.setdefault(unit_id, {})
            by_stride = connection.connectors_by is ConnectorsBy.ADDRESS_STRIDE
            moved = (connector.number - 1) * connection.stride if by_stride else 0
            for register in sorted(self.profile.registers.values(), key=_is_part):
                station = register.scope is Scope.STATION
                if station and connector.number > 1:
                    continue
                unit = unit_id if not station or connection.station_unit_id is None else connection.station_unit_id
                place = _Place(register, connector, register.address + (0 if station else moved))
                space = spaces.setdefault(unit, {}).setdefault(register.table, {})
                for address in range(place.first, place.last + 1):
                    space.setdefault(address, []).append(place)
        return spaces


def _touched(
    space: dict[int, list[_Place]], first: int, last: int, *, readable: bool = False, writable: bool = False
) -> list[_Place]:
    """The registers that have any address from `first` to `last`, whole ones before parts."""
    found: dict[tuple[str, int], _Place] = {}
    for address in range(first, last + 1):
        for place in space.get(address, ()):
            if (readable and place.register.readable) or (writable and place.register.writable):
                found[place.register.name, place.connector.number] = place
    return sorted(found.values(), key=lambda place: _is_part(place.register))


def _is_part(register: Register) -> bool:
    return register.mask is not None or register.bit is not None


def _value(register: Register, words: tuple[int, ...]) -> Value | None:
    """What was written. Raises ModbusRefusal for a value the register does not take."""
    value = register.decode(words)
    if value is None:
        if register.na or register.kind is Kind.TEXT:
            return None
        raise ModbusRefusal(Exceptional.VALUE)
    if register.problem(value) is not None:
        raise ModbusRefusal(Exceptional.VALUE)
    return value


def _functions(profile: Profile) -> frozenset[int]:
    """The function codes the device speaks: those its tables need, and for writing those its registers name."""
    return frozenset(_spoken(profile))


def _spoken(profile: Profile) -> Iterator[int]:
    reading = {Table.COIL: 1, Table.DISCRETE: 2, Table.HOLDING: 3, Table.INPUT: 4}
    for register in profile.registers.values():
        yield reading[register.table]
        if register.writable and register.write_fc is not None:
            yield register.write_fc
        elif register.writable:
            yield from (5, 15) if register.table.is_bits else (6, 16)
