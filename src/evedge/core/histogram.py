"""How long things took, in plain integers: counted where it happens, rendered when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate


class Histogram:
    """Durations in seconds. `bounds`: upper ends of the buckets, growing; one more bucket takes what is longer."""

    __slots__ = ("_counts", "bounds", "sum_s")

    def __init__(self, bounds: Sequence[float], counts: Sequence[int] | None = None, sum_s: float = 0.0) -> None:
        """counts: what was counted before, not cumulative, one more than bounds."""
        self.bounds = tuple(bounds)
        self.sum_s = sum_s
        self._counts = [0] * (len(self.bounds) + 1) if counts is None else list(counts)
        if len(self._counts) != len(self.bounds) + 1:
            raise ValueError(f"{len(self._counts)} counts do not fit {len(self.bounds)} bounds")

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each upper end, infinity last, and how many took no longer."""
        return zip((*self.bounds, float("inf")), accumulate(self._counts), strict=True)

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}, {self.sum_s:g} s together>"
