"""Timestamps that Kafka takes. It refuses those too far from its own clock: by default more than an hour ahead.

A record whose timestamp was refused goes with the present time; when that is refused too, this machine's clock is what
is wrong, and the record goes without a timestamp. What one refusal teaches holds for all records at least as old or as
new, so that a backlog from a wrong clock costs a few refusals and not one for each record.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from evedge.core.model import Record

NO_TIMESTAMP = -1
"""Kafka stores it as it is, whatever its limits are."""


class Timestamps:
    """For one send to one partition: what was learned is forgotten with it. `now_ms`: the wall clock."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._too_old: float = -math.inf
        self._too_new: float = math.inf
        self._clock_refused = False

    def of(self, record: Record) -> int:
        """The timestamp to send a record with, ms since 1970 or NO_TIMESTAMP."""
        if self._too_old < record.timestamp_ms < self._too_new:
            return record.timestamp_ms
        return NO_TIMESTAMP if self._clock_refused else self._now_ms()

    def refuse(self, record: Record, *, restamped: bool) -> bool:
        """Learns that a record, sent alone, was refused for its timestamp. False: there is nothing left to try."""
        if restamped and self._clock_refused:
            return False
        if restamped:
            self._clock_refused = True
        if restamped or record.timestamp_ms > self._now_ms():
            self._too_new = min(self._too_new, record.timestamp_ms)
        else:
            self._too_old = max(self._too_old, record.timestamp_ms)
        return True
