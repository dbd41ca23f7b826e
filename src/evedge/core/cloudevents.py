"""A record's headers as CloudEvents 1.0 wants them in Kafka's binary mode: the id, the time, and what stands still.

`ce_id` is stable: the same record sent twice carries the same one. It is a function of the record's number alone, which
holds the boot epoch above its lower 36 bits, so that no number comes again after a crash.
"""

from __future__ import annotations

from functools import lru_cache

from evedge.core.model import Record
from evedge.core.times import to_rfc3339

COUNTER_BITS = 36
"""The part of a record's number that counts within one boot epoch: 68 thousand million records per start."""

_COUNTER_MASK = (1 << COUNTER_BITS) - 1


def ce_id(number: int) -> str:
    """`<boot epoch>-<count>` of a record's number, e.g. `17-42`."""
    return f"{number >> COUNTER_BITS}-{number & _COUNTER_MASK}"


def record_headers(record: Record) -> list[tuple[str, bytes]]:
    """All headers of a record: its own, then `ce_id` and `ce_time` (RFC 3339, from `timestamp_ms`)."""
    return [
        *record.headers,
        ("ce_id", ce_id(record.number).encode()),
        ("ce_time", _second(record.timestamp_ms // 1000) + b"%03dZ" % (record.timestamp_ms % 1000)),
    ]


@lru_cache(maxsize=1024)  # records come in the order of time: the text of a second serves many of them
def _second(second: int) -> bytes:
    return to_rfc3339(second * 1000)[:-4].encode()
