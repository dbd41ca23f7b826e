"""A fixed piece of pure Python to compare with, so that a figure means the same on every machine.

One unit is one turn of the loop below: build a dictionary of sixteen numbers, sort its keys, join them, hash the text.
Nothing of evedge is in it, so it does not get faster when evedge does.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TURNS = 20_000
ROUNDS = 5


def unit_us() -> float:
    """CPU microseconds of one turn; the median of some rounds, because other programs run here too."""
    return statistics.median(_round() for _ in range(ROUNDS))


def _round() -> float:
    began_s = time.process_time()
    for turn in range(TURNS):
        values = {f"value_{number}": number * turn for number in range(16)}
        hash(",".join(f"{name}={values[name]}" for name in sorted(values)))
    return (time.process_time() - began_s) / TURNS * 1e6


@dataclass
class Yardstick:
    """`unit_us` is there once the block is left."""

    unit_us: float = 0.0


@contextmanager
def yardstick() -> Iterator[Yardstick]:
    """The machine's speed around a measurement: before and after it."""
    found = Yardstick()
    before_us = unit_us()
    yield found
    found.unit_us = (before_us + unit_us()) / 2
