import pytest
from hypothesis import given
from hypothesis import strategies as st

from evedge.flows.schedule import Schedule


def starts(schedule, moments):
    """The starts taken when the schedule is asked at these moments."""
    taken = []
    for now in moments:
        if schedule.due(now):
            taken.append(schedule.next_s)
            schedule.start(now)
    return taken


def test_starts_are_absolute_and_do_not_drift():
    schedule = Schedule(1.0, slot=3, now_s=100.0)
    late = [100.3 + n + 0.0999 for n in range(1000)]  # each poll is begun a little late
    assert starts(schedule, late) == [round(100.3 + n, 1) for n in range(1000)]
    assert schedule.missed == 0


def test_endpoints_are_spread_over_the_slots_of_the_interval():
    first = [Schedule(1.0, slot=slot, now_s=50.0).next_s for slot in range(12)]
    assert sorted(set(first)) == [50.0, 50.1, 50.2, 50.3, 50.4, 50.5, 50.6, 50.7, 50.8, 50.9]
    assert first[10:] == first[:2]


def test_polls_of_one_slot_start_at_the_same_moment_whenever_they_were_made():
    early, late = Schedule(1.0, slot=4, now_s=10.0), Schedule(1.0, slot=4, now_s=17.77)
    early.start(17.0)
    late.start(18.4)
    assert early.next_s == 18.4
    early.start(18.4)
    assert early.next_s == late.next_s == 19.4


def test_a_slow_poll_skips_the_starts_it_missed_and_they_are_counted():
    schedule = Schedule(1.0, slot=0, now_s=10.0)
    assert schedule.start(10.0) == 0
    assert schedule.start(13.4) == 2  # of 11, 12 and 13 one poll is made, late
    assert schedule.next_s == 14.0
    assert schedule.start(14.7) == 1  # one at 15 would bunch with this one
    assert schedule.next_s == 16.0
    assert schedule.missed == 3


def test_an_interval_is_rounded_up_to_whole_slots():
    assert Schedule(1.01, slot=0, now_s=0.0).interval_s == 1.1
    assert Schedule(0.02, slot=0, now_s=0.0).interval_s == 0.1
    assert Schedule(0.3, slot=0, now_s=0.0).interval_s == 0.3


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError):
        Schedule(0, slot=0, now_s=0.0)


@given(
    interval=st.floats(0.1, 3600),
    slot=st.integers(0, 100_000),
    now=st.floats(0, 1e8),
    waits=st.lists(st.floats(0, 5000), max_size=30),
)
def test_the_next_start_is_near_and_no_two_polls_are_nearer_than_half_an_interval(interval, slot, now, waits):
    schedule = Schedule(interval, slot=slot, now_s=now)
    assert now - 1e-6 <= schedule.next_s <= now + schedule.interval_s + 1e-6
    last = None
    for wait in waits:
        now += wait
        if schedule.due(now):
            schedule.start(now)
            half = schedule.interval_s / 2
            assert now + half - 1e-6 <= schedule.next_s <= now + 3 * half + 1e-6
            assert last is None or now - last >= schedule.interval_s / 2 - 1e-6
            last = now
