"""One Modbus endpoint as its poller and the jobs that write to it share it.

Whoever has the turn (the poller by default, a job between two of its requests) connects, reads and writes through this.
Connecting has its own pace here, whoever asks for it, and every request is counted for the recharge point it is for.

Invariants: after the first, at most one connection attempt a second; after `end` there is no connection, and nobody
gets one or a turn any more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from evedge.core.backoff import Backoff
from evedge.core.errors import Outage, Refused
from evedge.core.plan import Block, WireWrite
from evedge.core.reading import NoAnswer
from evedge.flows.clock import Clock
from evedge.flows.poll_stats import Outcome, PollStats
from evedge.flows.turns import Turns

T = TypeVar("T")

BETWEEN_CONNECTION_ATTEMPTS_S = 1.0
_ENDED = "the poller has stopped"


class Endpoint(Protocol):
    """What a poller needs of a Modbus link.

    `connect`, `read` and `write` raise Outage (a time-out: NoAnswer) or Refused; after an Outage it is not connected.
    """

    @property
    def connected(self) -> bool: ...
    async def connect(self) -> None: ...
    def close(self) -> None: ...
    async def read(self, block: Block, /) -> Sequence[int]: ...
    async def write(self, unit_id: int, function: int, address: int, words: Sequence[int], /) -> None: ...


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]


class SharedEndpoint:
    """`down`: why the last connection attempt failed; None when it did not. `connections`: how many there were."""

    def __init__(self, endpoint: Endpoint, clock: Clock, call_later: CallLater, chance: Callable[[], float]) -> None:
        self.down: str | None = None
        self.connections = 0
        self._endpoint = endpoint
        self._clock = clock
        self._call_later = call_later
        self._chance = chance
        self._backoff = Backoff()
        self._attempted_s = -math.inf
        self._retry_s = -math.inf
        self._ended = False
        self._woken: asyncio.Future[None] | None = None
        self._turns = Turns(self._wake)

    # for its owner

    def begin(self) -> None:
        """The owner is there: jobs are taken."""
        self._turns.begin()

    def end(self) -> None:
        """The owner is gone."""
        self._ended = True
        self._endpoint.close()
        self._turns.end(_ENDED)

    @property
    def wanted(self) -> bool:
        """Whether a job waits for its turn."""
        return bool(self._turns)

    async def give_way(self) -> None:
        """Lets the jobs that wait have their turns."""
        await self._turns.give()

    async def idle(self, seconds: float) -> None:
        """Waits, but not longer than until a job wants its turn."""
        await self._wait(seconds, wakes=True)

    @property
    def connected(self) -> bool:
        return self._endpoint.connected

    @property
    def blocked_until_s(self) -> float:
        """When polling may try to connect again; in the past when there is a connection or nothing failed."""
        return -math.inf if self._endpoint.connected else self._retry_s

    def drop(self) -> None:
        """Closes the connection; the next `connect` opens another."""
        self._endpoint.close()

    # for jobs

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The endpoint alone, and connected. Raises Outage when it cannot be had."""
        async with self._turns.take():
            await self.connect()
            yield

    # for whoever has the turn

    async def connect(self) -> None:
        """Does nothing when there is a connection; else tries once, when the pace allows it. Raises Outage."""
        if self._endpoint.connected:
            return
        if self._ended:
            raise Outage(_ENDED)
        pause_s = self._attempted_s + BETWEEN_CONNECTION_ATTEMPTS_S - self._clock.monotonic_s()
        if pause_s > 0:
            await self._wait(pause_s, wakes=False)
        self._attempted_s = self._clock.monotonic_s()
        try:
            await self._endpoint.connect()
        except Outage as error:
            self.down = str(error)
            self._retry_s = self._clock.monotonic_s() + self._backoff.failed(self._chance())
            raise
        if self._ended:  # a job connected while the owner ended
            self._endpoint.close()
            raise Outage(_ENDED)
        self.down = None
        self._retry_s = -math.inf
        self._backoff.succeeded()
        self.connections += 1

    async def read(self, block: Block, stats: PollStats) -> Sequence[int]:
        """One block's words. Raises Outage, Refused."""
        return await self._counted(self._endpoint.read(block), stats)

    async def write(self, write: WireWrite, stats: PollStats) -> None:
        """Writes once. Raises Outage, Refused."""
        stats.writes += 1
        await self._counted(self._endpoint.write(write.unit_id, write.function, write.address, write.words), stats)

    async def _counted(self, request: Awaitable[T], stats: PollStats) -> T:
        began_s = self._clock.monotonic_s()
        outcome = Outcome.CONNECTION
        try:
            answer = await request
            outcome = Outcome.OK
        except NoAnswer:
            outcome = Outcome.TIMEOUT
            raise
        except Refused:
            outcome = Outcome.EXCEPTION
            raise
        finally:
            stats.request(outcome, self._clock.monotonic_s() - began_s)
        return answer

    async def _wait(self, seconds: float, *, wakes: bool) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._call_later(seconds, lambda: _resolve(over))
        self._woken = over if wakes else None
        try:
            await over
        finally:
            timer.cancel()
            self._woken = None

    def _wake(self) -> None:
        if self._woken is not None:
            _resolve(self._woken)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
