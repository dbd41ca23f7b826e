"""When polls start. Pure: the time is passed in, nothing waits here.

Starts are absolute: start n is at `first + n * interval` whatever the polls before it took, so nothing drifts. They lie
on a grid of 100 ms slots, and slot k of an interval is the same moment for every schedule: polls of one slot start in
one wake-up of the event loop (at 1 Hz wake-ups cost more than decoding), while different slots spread the endpoints
over the interval. A poll that takes longer than its interval misses starts; they are counted, never made up for. A
poll may begin late, but the next one is then at least half an interval away, so that polls never bunch.

Whole milliseconds inside: sums of floating-point tenths would leave the grid.
"""

from __future__ import annotations

import math

SLOT_MS = 100


class Schedule:
    """The starts of one recharge point's polls.

    interval_s: rounded up to whole slots. slot: counts endpoints from 0; the schedule takes it modulo the slots an
    interval has. share: which part of the interval later, from 0 to below 1. now_s: a monotonic time in seconds; the
    first start is at most one interval later.
    """

    __slots__ = ("_interval_ms", "_next_ms", "missed")

    def __init__(self, interval_s: float, *, slot: int, now_s: float, share: float = 0.0) -> None:
        if interval_s <= 0:
            raise ValueError(f"an interval of {interval_s} s is none")
        slots = max(1, -(-round(interval_s * 1000) // SLOT_MS))
        self._interval_ms = slots * SLOT_MS
        self._next_ms = (slot + int(share * slots)) % slots * SLOT_MS
        self._next_ms += self._intervals_until(now_s) * self._interval_ms
        self.missed = 0

    @property
    def next_s(self) -> float:
        """When the next poll is due."""
        return self._next_ms / 1000

    @property
    def interval_s(self) -> float:
        return self._interval_ms / 1000

    def due(self, now_s: float) -> bool:
        return now_s >= self._next_ms / 1000

    def start(self, now_s: float) -> int:
        """Takes the start that is due for a poll that begins now; returns how many starts are missed by that.

        The next one is the first of the grid that is at least half an interval from now.
        """
        earliest_ms = now_s * 1000 + self._interval_ms / 2
        starts = max(1, math.ceil((earliest_ms - self._next_ms) / self._interval_ms))
        self._next_ms += starts * self._interval_ms
        self.missed += starts - 1
        return starts - 1

    def _intervals_until(self, now_s: float) -> int:
        return max(0, -int((self._next_ms - now_s * 1000) // self._interval_ms))

    def __repr__(self) -> str:
        return f"<Schedule every {self.interval_s:g} s, next at {self.next_s:.1f} s, {self.missed} missed>"
