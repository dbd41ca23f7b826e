"""What several tests of the heart share: records, time that a test turns, and stand-ins by shape.

`TurnedLoop` is an event loop whose time jumps to the next timer instead of waiting for it: `asyncio.sleep(3600)` takes
no time, and what falls due in between happens in its order.
"""

import asyncio
import selectors
from collections import Counter

from evedge.core.model import Record

EPOCH_MS = 1_790_000_000_000
"""The wall clock when a turned loop starts: 2026-09-21T14:13:20Z."""


def record(value=b"{}", *, lane="telemetry", durable=True, key=b"site-042/rp-01", headers=(), timestamp_ms=EPOCH_MS):
    return Record(lane, key, value, tuple(headers), timestamp_ms, durable)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self):
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout=None):
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            ready = super().select(10)
            if not ready:
                raise RuntimeError("everything waits, and nothing will ever happen")
            return ready
        self.now_s += timeout
        return []


class TurnedLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now_s


class TurnedPolicy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = TurnedLoop


class LoopClock:
    """A flow's clock that shows the running loop's time. `off_ms` sets the wall clock, and only that, wrong."""

    def __init__(self):
        self.off_ms = 0

    def wall_ms(self):
        return EPOCH_MS + round((self.monotonic_s() - 1000.0) * 1000) + self.off_ms

    def monotonic_s(self):
        return asyncio.get_running_loop().time()


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now_ms=EPOCH_MS):
        self.now_ms = now_ms
        self.now_s = 1000.0

    def wall_ms(self):
        return self.now_ms

    def monotonic_s(self):
        return self.now_s


class Alerts:
    """Which alerts are raised; `told` is everything that was said, in order."""

    def __init__(self):
        self.raised = {}
        self.told = []

    def raise_alert(self, kind, message, *, recharge_point=None, severity=None, details=None):
        if kind not in self.raised:
            self.told.append(("raised", kind))
        self.raised[kind] = message

    def clear_alert(self, kind, *, recharge_point=None):
        if self.raised.pop(kind, None) is not None:
            self.told.append(("cleared", kind))


async def settle():
    """Lets every task run until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)


async def until(condition, *, turns=100_000):
    """Waits, turn by turn of the loop, until the condition holds."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


def lane_sum(counts):
    """Whether a lane's counts add up."""
    return counts.accepted == counts.confirmed + counts.waiting + Counter(counts.dropped).total()
