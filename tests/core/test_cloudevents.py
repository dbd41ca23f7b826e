"""Headers of a record: the stable id, the time, and what stands still."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evedge.core.cloudevents import COUNTER_BITS, ce_id, record_headers
from evedge.core.model import Record
from evedge.core.times import from_rfc3339


def a_record(number: int = 0, timestamp_ms: int = 0) -> Record:
    return Record("lane", b"key", b"value", (("ce_type", b"t"),), timestamp_ms, durable=False, number=number)


def test_the_id_is_the_boot_epoch_and_the_count() -> None:
    assert ce_id((17 << COUNTER_BITS) + 42) == "17-42"
    assert ce_id(42) == "0-42"


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_no_two_numbers_share_an_id(one: int, other: int) -> None:
    assert (ce_id(one) == ce_id(other)) == (one == other)


def test_id_and_time_follow_the_records_own_headers() -> None:
    assert record_headers(a_record((3 << COUNTER_BITS) + 1, 1_795_424_400_007)) == [
        ("ce_type", b"t"),
        ("ce_id", b"3-1"),
        ("ce_time", b"2026-11-23T09:00:00.007Z"),
    ]


@given(st.integers(0, 253_402_300_799_999))
def test_the_time_is_the_timestamp(timestamp_ms: int) -> None:
    (*_, (name, text)) = record_headers(a_record(timestamp_ms=timestamp_ms))
    assert name == "ce_time"
    assert from_rfc3339(text.decode()) == timestamp_ms
