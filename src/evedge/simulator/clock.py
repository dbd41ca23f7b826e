"""Clocks for simulations: a callable that gives seconds and only grows. `time.monotonic` is the usual one."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class ManualClock:
    """Stands still until it is turned: for tests that want an hour to pass between two lines."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("a clock only grows")
        self.now += seconds


def fast_clock(factor: float) -> Clock:
    """Real time, `factor` times as fast: charging for an hour in a minute with 60."""
    if factor <= 0:
        raise ValueError("a clock only grows")
    started = time.monotonic()
    return lambda: started + (time.monotonic() - started) * factor
