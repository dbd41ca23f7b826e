"""What polling counts: plain integers and sums, one object per recharge point, rendered when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum

from evedge.core.plan import Reading

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the histogram's buckets; one more bucket follows for what takes longer."""


class Outcome(StrEnum):
    """How a request ended: answered, not in time, with a Modbus exception, or with the connection."""

    OK = "ok"
    TIMEOUT = "timeout"
    EXCEPTION = "exception"
    CONNECTION = "connection"


@dataclass(slots=True)
class PollStats:
    """All only grow, but the three `last_…`.

    overruns: starts that passed while the poll before was still under way. request_buckets: not cumulative, see
    BUCKETS_S. last_read_ms: `measured_at` of the last poll that brought any value; None before the first.
    """

    polls: int = 0
    overruns: int = 0
    crashes: int = 0
    writes: int = 0
    requests: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    request_seconds: float = 0.0
    request_count: int = 0
    request_buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    last_poll_s: float = 0.0
    last_read_ms: int | None = None
    last_good_ms: int | None = None

    def poll(self, seconds: float, measured_at_ms: int, reading: Reading) -> None:
        """Counts one poll that was tried."""
        self.polls += 1
        self.last_poll_s = seconds
        if reading.values:
            self.last_read_ms = measured_at_ms
            if not reading.errors:
                self.last_good_ms = measured_at_ms

    def request(self, outcome: Outcome, seconds: float) -> None:
        """Counts one request."""
        self.requests[outcome] += 1
        self.request_seconds += seconds
        self.request_count += 1
        self.request_buckets[bisect_left(BUCKETS_S, seconds)] += 1
