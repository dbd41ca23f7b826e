"""Times on the wire and inside."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from evedge.core.times import from_rfc3339, to_rfc3339

FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999


@given(st.integers(FIRST_MS, LAST_MS))
def test_a_time_comes_back_as_it_went(ms):
    text = to_rfc3339(ms)
    assert len(text) == len("2026-11-23T09:00:00.123Z")
    assert from_rfc3339(text) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("2025-11-23T09:00:00.123Z", 1_763_888_400_123),
        ("2025-11-23T09:00:00Z", 1_763_888_400_000),
        ("2025-11-23T10:00:00.123+01:00", 1_763_888_400_123),
        ("2025-11-23t09:00:00.123z", 1_763_888_400_123),
        ("2025-11-23 09:00:00.123Z", 1_763_888_400_123),
        ("2025-11-23T09:00:00.1239999999Z", 1_763_888_400_123),
        ("2025-11-23T09:00:00.1Z", 1_763_888_400_100),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_every_way_to_write_a_time_is_read(text, ms):
    assert from_rfc3339(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2025-11-23",
        "2025-11-23T09:00Z",
        "2025-11-23T09:00:00",
        "2025-W47-7T09:00:00Z",
        "20251123T090000Z",
        "2025-11-23T09:00:00+01",
        "2025-11-23T09:00:00,5Z",
        "2025-13-23T09:00:00Z",
        "2025-11-23T25:00:00Z",
        "2016-12-31T23:59:60Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        " 2025-11-23T09:00:00Z",
        "2025-11-23T09:00:00Z\n",
        "٢٠٢٥-11-23T09:00:00Z",
        "1763888400123",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        from_rfc3339(text)
