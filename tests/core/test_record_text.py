"""A record as text: nothing raw, nothing invented."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from evedge.core.delivery import ConsumedRecord
from evedge.core.record_text import as_json, as_line

binary = st.one_of(st.none(), st.binary(max_size=50), st.text(max_size=20).map(str.encode))


@given(key=binary, value=binary, timestamp_ms=st.integers(-1, 2**63 - 1))
def test_any_record_is_one_printable_line_and_one_json_object(
    key: bytes | None, value: bytes | None, timestamp_ms: int
) -> None:
    record = ConsumedRecord("topic", 0, 0, key, value, (("h", b"\xff"),), timestamp_ms)
    assert as_line(record).isprintable()
    assert msgspec.json.decode(msgspec.json.encode(as_json(record)))["topic"] == "topic"


def test_null_empty_and_json_null_stay_apart_on_a_line() -> None:
    lines = [as_line(ConsumedRecord("t", 0, 0, None, value, (), -1)) for value in (None, b"", b"\x1b[2J")]
    assert lines == ["no timestamp  t  -  null", "no timestamp  t  -  ", "no timestamp  t  -  \\x1b[2J"]
