"""What polling will ask of the devices, before anything is connected: requests, bytes, time, and whether that fits.

A device answers one request at a time and may want a pause before the next, so every poll takes its endpoint's time:
requests x (answer + pause). Recharge points behind one endpoint share that time. How long an answer takes nobody knows
before it was measured; that is the one assumption here, and whoever shows a result names it. Identity, commands and
their upkeep come on top: rare, and not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from evedge.core.plan import Block, Plan
from evedge.core.profile import Table

TYPICAL_ANSWER_S = 0.05
"""An assumption: controllers of recharge points in a local network answer within some 10 to 100 ms."""

NEARLY_FULL = 0.8
"""An endpoint that polls keep busy for more than this part of the time makes commands wait for their turn."""

_FUNCTIONS = {Table.COIL: 1, Table.DISCRETE: 2, Table.HOLDING: 3, Table.INPUT: 4}
_REQUEST_BYTES = 12  # Modbus TCP: a header of 7, function, address, count
_ANSWER_HEAD_BYTES = 9  # a header of 7, function, number of bytes


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One block as it goes over the wire: bytes are those of Modbus TCP, without what TCP and IP add."""

    block: Block

    @property
    def function(self) -> int:
        """Modbus function code."""
        return _FUNCTIONS[self.block.table]

    @property
    def request_bytes(self) -> int:
        return _REQUEST_BYTES

    @property
    def answer_bytes(self) -> int:
        data = math.ceil(self.block.count / 8) if self.block.table.is_bits else self.block.count * 2
        return _ANSWER_HEAD_BYTES + data


@dataclass(frozen=True, slots=True)
class PolledPoint:
    """One recharge point at its endpoint: what it is asked, and how often (seconds from poll to poll)."""

    recharge_point: str
    plan: Plan
    interval_s: float

    @property
    def requests(self) -> tuple[ReadRequest, ...]:
        """Of every poll."""
        return tuple(map(ReadRequest, self.plan.poll))

    @property
    def identity(self) -> tuple[ReadRequest, ...]:
        """Once per connection."""
        return tuple(map(ReadRequest, self.plan.identity))

    @property
    def requests_per_s(self) -> float:
        return len(self.plan.poll) / self.interval_s

    @property
    def words(self) -> int:
        """Registers (or bits) that one poll reads, those in the holes between too."""
        return sum(block.count for block in self.plan.poll)

    @property
    def bytes_per_poll(self) -> int:
        """Both ways."""
        return sum(request.request_bytes + request.answer_bytes for request in self.requests)


@dataclass(frozen=True, slots=True)
class EndpointForecast:
    """One connection and the recharge points that share it. `name` is `host:port`.

    pause_s: what the most sensitive of them wants between two requests. answer_s: how long an answer takes, assumed.
    """

    name: str
    points: tuple[PolledPoint, ...]
    pause_s: float
    answer_s: float = TYPICAL_ANSWER_S

    def busy_s(self, point: PolledPoint) -> float:
        """For how long one poll of this recharge point keeps the endpoint from anything else."""
        return len(point.plan.poll) * (self.answer_s + self.pause_s)

    def poll_s(self, point: PolledPoint) -> float:
        """From the first request of a poll to its last answer, when the endpoint is free."""
        requests = len(point.plan.poll)
        return requests * self.answer_s + max(requests - 1, 0) * self.pause_s

    @property
    def occupancy(self) -> float:
        """The part of the time that polls take; above 1 they do not fit."""
        return sum(self.busy_s(point) / point.interval_s for point in self.points)

    @property
    def keeps_up(self) -> bool:
        return self.occupancy <= 1 + 1e-9

    @property
    def is_nearly_full(self) -> bool:
        return self.keeps_up and self.occupancy > NEARLY_FULL

    @property
    def requests_per_s(self) -> float:
        return sum(point.requests_per_s for point in self.points)

    @property
    def bytes_per_s(self) -> float:
        """Modbus TCP, both ways."""
        return sum(point.bytes_per_poll / point.interval_s for point in self.points)

    def lowest_interval_s(self, step_s: float) -> float:
        """The interval (a multiple of `step_s`) that would fit if all that are polled more often took it.

        Where the slower ones alone need more than there is, all have to be polled less often: nobody keeps theirs.
        """
        points = sorted(self.points, key=lambda point: point.interval_s)
        raised_s = list(accumulate(self.busy_s(point) for point in points))
        for count, busy_s in enumerate(raised_s, 1):
            left = 1 - sum(self.busy_s(point) / point.interval_s for point in points[count:])
            if left <= 0:
                continue
            interval_s = busy_s / left
            if count == len(points) or interval_s <= points[count].interval_s:
                return _rounded_up(interval_s, step_s)
        return step_s  # nothing is polled here


def _rounded_up(interval_s: float, step_s: float) -> float:
    steps = math.ceil(round(interval_s / step_s, 6))
    return round(max(steps, 1) * step_s, 6)


def asked_more_often(points: Sequence[PolledPoint], interval_s: float) -> tuple[PolledPoint, ...]:
    """Those of them that would have to take `interval_s`."""
    return tuple(point for point in points if point.interval_s < interval_s)
