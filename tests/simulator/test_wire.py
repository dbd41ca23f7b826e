from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evedge.simulator.wire import (
    Exceptional,
    Frame,
    ModbusRefusal,
    NotModbus,
    Read,
    Write,
    answer_read,
    answer_refusal,
    answer_write,
    parse,
    split,
)

READ = bytes.fromhex("0001 0000 0006 01 03 400e 0002")


def test_a_frame_is_taken_off_the_buffer():
    buffer = bytearray(READ)
    assert split(buffer) == [Frame(1, 1, READ[7:])]
    assert buffer == b""
    assert bytes(Frame(1, 1, READ[7:])) == READ


@given(count=st.integers(1, 5), cuts=st.lists(st.integers(0, 60), max_size=8))
def test_frames_come_out_whole_however_they_are_cut(count, cuts):
    sent = b"".join(bytes(Frame(n, 1, READ[7:])) for n in range(count))
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    buffer, seen = bytearray(), []
    for start, end in pairwise(edges):
        buffer += sent[start:end]
        seen += split(buffer)
    assert [frame.transaction_id for frame in seen] == list(range(count))


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\n", bytes.fromhex("0001 0000 0001 01"), bytes.fromhex("0001 0000 00ff 01")]
)
def test_what_is_no_modbus_is_told_apart_at_once(raw):
    with pytest.raises(NotModbus):
        split(bytearray(raw))


@pytest.mark.parametrize(
    ("pdu", "meaning"),
    [
        ("03 400e 0002", Read(3, "holding", 0x400E, 2)),
        ("04 0005 007d", Read(4, "input", 5, 125)),
        ("01 0190 0001", Read(1, "coil", 400, 1)),
        ("02 0000 07d0", Read(2, "discrete", 0, 2000)),
        ("05 0190 ff00", Write(5, "coil", 400, (1,))),
        ("05 0190 0000", Write(5, "coil", 400, (0,))),
        ("06 0105 00a0", Write(6, "holding", 261, (160,))),
        ("10 4100 0002 04 0000 3e80", Write(16, "holding", 0x4100, (0, 16000))),
        ("0f 0000 0009 02 05 01", Write(15, "coil", 0, (1, 0, 1, 0, 0, 0, 0, 0, 1))),
    ],
)
def test_requests_are_understood(pdu, meaning):
    assert parse(bytes.fromhex(pdu)) == meaning


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        ("07", Exceptional.FUNCTION),
        ("16 0000 0000 0000", Exceptional.FUNCTION),
        ("2b 0e 01 00", Exceptional.FUNCTION),
        ("03 0000 0000", Exceptional.VALUE),
        ("03 0000 007e", Exceptional.VALUE),
        ("03 0000", Exceptional.VALUE),
        ("03 0000 0001 00", Exceptional.VALUE),
        ("03 ffff 0002", Exceptional.ADDRESS),
        ("05 0000 0001", Exceptional.VALUE),
        ("10 0000 0002 04 0000", Exceptional.VALUE),
        ("10 0000 0002 02 0000", Exceptional.VALUE),
        ("10 0000 0000 00", Exceptional.VALUE),
        ("10 ffff 0002 04 0000 0000", Exceptional.ADDRESS),
    ],
)
def test_what_cannot_be_done_is_refused_by_number(pdu, code):
    with pytest.raises(ModbusRefusal) as caught:
        parse(bytes.fromhex(pdu))
    assert caught.value.code is code


@given(st.binary(min_size=1, max_size=253))
def test_any_pdu_is_a_request_or_a_refusal(pdu):
    try:
        assert isinstance(parse(pdu), Read | Write)
    except ModbusRefusal as refusal:
        assert len(answer_refusal(pdu, refusal.code)) == 2  # noqa: PT017 -- both ways are right


def test_answers_are_laid_out_as_the_standard_says():
    assert answer_read(Read(3, "holding", 0, 2), (1, 0xFFFF)) == bytes.fromhex("03 04 0001 ffff")
    assert answer_read(Read(1, "coil", 0, 9), (1, 0, 1, 0, 0, 0, 0, 0, 1)) == bytes.fromhex("01 02 05 01")
    assert answer_write(bytes.fromhex("10 4100 0002 04 0000 3e80")) == bytes.fromhex("10 4100 0002")
    assert answer_refusal(bytes.fromhex("03 0000 0001"), Exceptional.ADDRESS) == bytes.fromhex("83 02")
