"""How late the event loop runs what is due: everything in the process shares it, so one blocking call delays all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from evedge.flows.clock import Clock

WINDOW_S = 15.0
LOOK_EVERY_S = 0.5


class LoopLag:
    """`run` is its task. The largest lateness of the last WINDOW_S is kept."""

    def __init__(self, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._seen: deque[tuple[float, float]] = deque()  # when, and how late; ever smaller from left to right

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due_s = self._clock.monotonic_s() + LOOK_EVERY_S
            await self._sleep(LOOK_EVERY_S)
            now_s = self._clock.monotonic_s()
            self.note(max(now_s - due_s, 0.0), now_s)

    def note(self, lag_s: float, now_s: float) -> None:
        """One look: what came before and was not later than this one does not matter any more."""
        while self._seen and self._seen[-1][1] <= lag_s:
            self._seen.pop()
        self._seen.append((now_s, lag_s))

    @property
    def largest_s(self) -> float:
        """Seconds; 0 before the first look."""
        oldest_s = self._clock.monotonic_s() - WINDOW_S
        while self._seen and self._seen[0][0] < oldest_s:
            self._seen.popleft()
        return self._seen[0][1] if self._seen else 0.0
