"""A clock that a test turns: nothing waits, and what falls due happens in its order."""

import asyncio
import heapq
import itertools


class TurnedTime:
    """A flow's `Clock`, and its `call_later`."""

    def __init__(self, now_s=1000.0):
        self.now_s = now_s
        self._timers = []
        self._order = itertools.count()

    def monotonic_s(self):
        return self.now_s

    def wall_ms(self):
        return 1_700_000_000_000 + round(self.now_s * 1000)

    def call_later(self, seconds, callback):
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self.now_s + seconds, next(self._order), timer))
        return timer

    async def sleep(self, seconds):
        over = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: over.done() or over.set_result(None))
        try:
            await over
        finally:
            timer.cancel()

    async def advance(self, seconds):
        """Turns the clock on; each timer fires at its time, and what it sets off runs before the next one."""
        await settle()
        end_s = self.now_s + seconds
        while self._timers and self._timers[0][0] <= end_s + 1e-9:
            when_s, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self.now_s = max(self.now_s, when_s)
                timer.callback()
                await settle()
        self.now_s = end_s
        await settle()


class _Timer:
    def __init__(self, callback):
        self.callback = callback
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


async def settle():
    """Lets every task run until it waits for something."""
    for _ in range(30):
        await asyncio.sleep(0)
