from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evedge.core.plan_blocks import Block, Locator, blocks_for
from evedge.core.profile import AddressRange, Connection, ConnectorsBy, Reads, Register, Scope, Table

HERE = Locator(unit_id=1, station_unit_id=1, shift=0)


def register(address, words=2, name=None, table=Table.HOLDING, **keys):
    type_ = "bool" if table.is_bits else "bytes"
    return Register(
        name=name or f"{table}_{address}", table=table, address=address, type=type_, words=words,
        format=None if table.is_bits else "hex", **keys,
    )  # fmt: skip


def ranges(blocks):
    return [(block.address, block.count) for block in blocks]


def test_neighbours_share_a_request_and_holes_part_them():
    registers = [register(10), register(12), register(16), register(18)]
    assert ranges(blocks_for(registers, Reads(), HERE)) == [(10, 4), (16, 4)]


def test_a_hole_inside_a_span_is_crossed():
    reads = Reads(spans=(AddressRange(Table.HOLDING, 10, 19),))
    registers = [register(10), register(16), register(20), register(24)]
    assert ranges(blocks_for(registers, reads, HERE)) == [(10, 12), (24, 2)]


def test_a_span_moves_along_with_the_connector():
    reads = Reads(spans=(AddressRange(Table.HOLDING, 10, 19),))
    there = Locator(unit_id=1, station_unit_id=1, shift=1000)
    assert ranges(blocks_for([register(10), register(16)], reads, there)) == [(1010, 8)]


def test_a_forbidden_address_is_not_read_even_inside_a_span():
    deny = (AddressRange(Table.HOLDING, 13, 13, Scope.STATION, "r", "drops the connection"),)
    reads = Reads(spans=(AddressRange(Table.HOLDING, 10, 19),), deny=deny)
    assert ranges(blocks_for([register(10), register(16)], reads, HERE)) == [(10, 2), (16, 2)]


def test_one_value_at_a_time_when_the_device_wants_it_so():
    state, flag = register(10, name="state"), register(10, name="flag")
    blocks = blocks_for([state, flag, register(12)], Reads(one_value=True), HERE)
    assert [block.registers for block in blocks] == [("state", "flag"), ("holding_12",)]


def test_a_request_is_never_longer_than_the_device_bears():
    registers = [register(address) for address in range(0, 20, 2)]
    assert ranges(blocks_for(registers, Reads(max_registers=7), HERE)) == [(0, 6), (6, 6), (12, 6), (18, 2)]


def test_tables_and_unit_ids_are_apart():
    locator = Locator(unit_id=1, station_unit_id=200, shift=0)
    registers = [register(0), register(2, table=Table.INPUT), register(4, scope=Scope.STATION)]
    assert [(block.unit_id, block.table) for block in blocks_for(registers, Reads(), locator)] == [
        (1, Table.HOLDING), (1, Table.INPUT), (200, Table.HOLDING),
    ]  # fmt: skip


def test_coils_are_counted_in_bits():
    registers = [register(address, 1, table=Table.COIL) for address in range(300)]
    assert ranges(blocks_for(registers, Reads(), HERE)) == [(0, 300)]


def test_a_register_that_is_asked_for_alone_shares_with_nobody():
    registers = [register(0, name="a"), register(2, name="b", optional=True), register(4, name="c")]
    blocks = blocks_for(registers, Reads(), HERE, frozenset({"b"}))
    assert [(block.registers, block.optional) for block in blocks] == [
        (("a",), False), (("b",), True), (("c",), False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("connection", "connector", "unit_id", "where"),
    [
        (Connection(unit_id=5), 1, None, (5, 5, 0)),
        (Connection(unit_id=5), 1, 9, (9, 9, 0)),
        (Connection(connectors_by=ConnectorsBy.UNIT_ID, connector_count=2, station_unit_id=200), 2, None, (2, 200, 0)),
        (Connection(connectors_by=ConnectorsBy.UNIT_ID, connector_count=2, station_unit_id=200), 2, 7, (7, 200, 0)),
        (Connection(connectors_by=ConnectorsBy.TCP_PORT, connector_count=2), 2, None, (1, 1, 0)),
        (Connection(connectors_by=ConnectorsBy.ADDRESS_STRIDE, connector_count=12, stride=1000), 3, None, (1, 1, 2000)),
    ],
)
def test_a_connector_is_found(connection, connector, unit_id, where):
    locator = Locator.of(connection, connector, unit_id)
    assert (locator.unit_id, locator.station_unit_id, locator.shift) == where


@pytest.mark.parametrize(("count", "connector"), [(1, 2), (1, 0), (2, 3)])
def test_a_connector_that_is_not_there_is_refused(count, connector):
    by = ConnectorsBy.UNIT_ID if count > 1 else None
    with pytest.raises(ValueError, match="does not exist"):
        Locator.of(Connection(connectors_by=by, connector_count=count), connector, None)


def test_ports_and_unit_ids_of_connectors_are_counted_up_unless_they_are_given():
    by_port = Connection(port=502, connectors_by=ConnectorsBy.TCP_PORT, connector_count=2)
    assert by_port.endpoint(2) == (503, 1)
    assert by_port.endpoint(2, port=1502, unit_id=4) == (1502, 4)


@st.composite
def maps(draw):
    """Registers that do not overlap halfway, and manners of every sort."""
    limit = draw(st.integers(4, 30))
    address, registers = 0, []
    for index in range(draw(st.integers(1, 25))):
        address += draw(st.integers(0, 6))
        words = draw(st.integers(1, 4))
        table = draw(st.sampled_from([Table.HOLDING, Table.INPUT]))
        optional = draw(st.booleans())
        registers.append(register(address, words, f"r{index}", table, optional=optional))
        if draw(st.booleans()):
            registers.append(register(address, words, f"again{index}", table))
        address += words
    edges = sorted(draw(st.lists(st.integers(0, address), max_size=6, unique=True)))
    spans = tuple(
        AddressRange(draw(st.sampled_from([Table.HOLDING, Table.INPUT])), first, last)
        for first, last in zip(edges[::2], edges[1::2], strict=False)
    )
    used = {(r.table, a) for r in registers for a in range(r.address, r.address + r.words)}
    denied = draw(st.lists(st.integers(0, address), max_size=3))
    deny = tuple(
        AddressRange(table, a, a, Scope.STATION, "rw", "no")
        for a in denied
        for table in Table
        if (table, a) not in used
    )
    reads = Reads(max_registers=limit, one_value=draw(st.booleans()), spans=spans, deny=deny)
    alone = frozenset(draw(st.lists(st.sampled_from([r.name for r in registers]), max_size=3)))
    return draw(st.permutations(registers)), reads, alone


@given(maps())
def test_no_plan_breaks_the_manners_and_everything_is_read_once(drawn):
    registers, reads, alone = drawn
    blocks = blocks_for(registers, reads, HERE, alone)
    by_name = {one.name: one for one in registers}
    assert sorted(name for block in blocks for name in block.registers) == sorted(by_name)
    for block in blocks:
        members = [by_name[name] for name in block.registers]
        inside = {a for one in members for a in range(one.address, one.address + one.words)}
        assert block.count <= reads.max_registers
        assert (block.address, block.address + block.count - 1) == (min(inside), max(inside))
        assert block.optional == any(one.optional for one in members)
        assert all(one.table is block.table for one in members)
        if reads.one_value:
            assert len({(one.address, one.words) for one in members}) == 1
        if alone & set(block.registers):
            assert len(members) == 1
        holes = set(range(block.address, block.address + block.count)) - inside
        for hole in holes:
            assert any(span.table is block.table and span.covers(hole, hole) for span in reads.spans)
            assert not any(deny.table is block.table and deny.touches(hole, hole) for deny in reads.deny)


@given(maps())
def test_no_two_neighbouring_requests_could_have_been_one(drawn):
    registers, reads, alone = drawn
    by_name = {one.name: one for one in registers}
    blocks = blocks_for(registers, reads, HERE, alone)
    for before, after in pairwise(blocks):
        names = (*before.registers, after.registers[0])
        if reads.one_value or alone & set(names) or before.table is not after.table:
            continue
        joined = blocks_for([by_name[name] for name in names], reads, HERE)
        assert len(joined) > 1


def test_a_block_reads_well_in_a_log():
    assert str(Block(1, Table.HOLDING, 10, 4, ("a",))) == "holding 10 to 13 at unit 1"
    assert str(Block(1, Table.INPUT, 10, 1, ("a",))) == "input 10 at unit 1"
