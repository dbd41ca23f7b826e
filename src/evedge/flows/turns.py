"""Turns at something that serves one at a time: its owner works on, and gives way where it is convenient.

The owner calls `give` between two pieces of its work; who wants a turn waits in `take`, first come, first served, and
has the thing alone until it leaves the block. Knows nothing of Modbus.

Invariants: at most one holder; `MAX_WAITING` is the bound; after `end` nobody waits, and nobody who comes does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from evedge.core.errors import Outage

MAX_WAITING = 64


class Turns:
    """`wake` is called when somebody begins to wait, so that an idle owner can give way at once."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[tuple[asyncio.Future[None], asyncio.Future[None]]] = deque()
        self._ended: str | None = "nobody serves this yet"

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self) -> None:
        """The owner is there."""
        self._ended = None

    def end(self, reason: str) -> None:
        """The owner is gone: who waits, and who comes later, gets Outage."""
        self._ended = reason
        while self._waiting:
            granted, _ = self._waiting.popleft()
            if not granted.done():
                granted.set_exception(Outage(reason))

    async def give(self) -> None:
        """Lets everybody who waits have their turn; returns when nobody does."""
        while self._waiting:
            granted, left = self._waiting.popleft()
            if not granted.done():
                granted.set_result(None)
                await left

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """A turn, alone. Raises Outage when there is no owner (any more) or too many wait."""
        if self._ended is not None:
            raise Outage(self._ended)
        if len(self._waiting) >= MAX_WAITING:
            raise Outage(f"{MAX_WAITING} commands wait for this device already")
        loop = asyncio.get_running_loop()
        granted, left = loop.create_future(), loop.create_future()
        self._waiting.append((granted, left))
        self._wake()
        try:
            await granted
            yield
        finally:
            granted.cancel()  # who gave up is passed over
            if not left.done():  # it is when the owner was cancelled while it waited for us
                left.set_result(None)
