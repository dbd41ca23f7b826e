"""Times as this project writes them: inside, whole milliseconds since 1970 in UTC; outside, RFC 3339 with milliseconds.

Knows no clock: whoever needs the present time is given it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_FIRST_YEAR_MS = -62_135_596_800_000  # 0001-01-01, the first moment datetime can hold
_LAST_YEAR_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999


def to_rfc3339(ms: int) -> str:
    """`1763888400123` to `2025-11-23T09:00:00.123Z`. For the years 1 to 9999."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{ms % 1000:03d}Z"  # strftime would leave a year's leading zeros out


def from_rfc3339(text: str) -> int:
    """Milliseconds since 1970. Raises ValueError for anything but RFC 3339 (and for a leap second)."""
    if not _RFC_3339.fullmatch(text):  # fromisoformat takes more: weeks, dates alone, times without an offset
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2026-11-23T09:00:00Z")
    moment = datetime.fromisoformat(text.upper())
    try:
        delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of range") from error
    ms = (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
    if not _FIRST_YEAR_MS <= ms <= _LAST_YEAR_MS:
        raise ValueError(f"{text!r} is out of range")
    return ms
