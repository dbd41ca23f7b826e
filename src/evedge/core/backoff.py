"""How long to wait before trying again: doubling from the first delay to the longest, spread by chance.

Knows no clock and no source of chance: the caller brings a number from 0 to 1, so that many who lost the same peer do
not come back in step, and so that tests know the outcome. Invariant: no delay is below `first_s` or above `longest_s`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Delays after failures in a row. All in seconds."""

    first_s: float = 1.0
    longest_s: float = 15.0
    failures: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.longest_s:
            raise ValueError(f"a delay from {self.first_s} s to {self.longest_s} s is none")

    def failed(self, chance: float) -> float:
        """Counts a failure and says how long to wait. `chance` is from 0 (the shortest) to 1 (the longest wait)."""
        doubled = self.first_s * 2.0 ** min(self.failures, 32)  # bounded: an outage of years must not overflow a float
        self.failures += 1
        longest = min(doubled * 1.5, self.longest_s)
        shortest = min(max(doubled / 2, self.first_s), longest)
        return shortest + (longest - shortest) * chance

    def succeeded(self) -> None:
        """The next failure starts from the first delay again."""
        self.failures = 0
