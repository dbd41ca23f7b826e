"""How late the event loop is."""

import asyncio

from evedge.flows.loop_lag import LoopLag
from turned_time import TurnedTime, settle


def test_the_largest_of_the_window_is_shown():
    time = TurnedTime(100.0)
    lag = LoopLag(time)
    assert lag.largest_s == 0.0
    for at_s, late_s in ((100.0, 0.3), (105.0, 0.1), (110.0, 0.2)):
        lag.note(late_s, at_s)
    time.now_s = 110.0
    assert lag.largest_s == 0.3
    time.now_s = 116.0
    assert lag.largest_s == 0.2
    time.now_s = 126.0
    assert lag.largest_s == 0.0


async def test_being_held_up_is_seen():
    time = TurnedTime()
    lag = LoopLag(time, sleep=time.sleep)
    task = asyncio.create_task(lag.run())
    await settle()
    await time.advance(5.0)
    assert lag.largest_s < 0.001
    time.now_s += 2.5  # nothing ran meanwhile
    await time.advance(0.5)
    assert 2.0 <= lag.largest_s <= 2.5
    task.cancel()
    await asyncio.wait([task])
