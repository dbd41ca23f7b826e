from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evedge.simulator.car import MIN_CURRENT_A, TICK_S, Car, Phase, visit

MINUTES = 60.0


def drive(car: Car, until_s: float, offered_a: float = 16.0, from_s: float = 0.0) -> list[Car]:
    """Watch a car tick by tick; the car itself is the record of the moment."""
    for tick in range(round(from_s / TICK_S) + 1, round(until_s / TICK_S) + 1):
        car.advance(tick * TICK_S, offered_a)
        yield car


def until_charging(car: Car, offered_a: float = 16.0) -> float:
    """Seconds after which it draws what it wants."""
    for tick in range(1, 200):
        car.advance(tick * TICK_S, offered_a)
        if car.currents_a[0] > 0.9 * min(offered_a, car.visit.max_current_a if car.visit else 99):
            return tick * TICK_S
    raise AssertionError("never charged")


@pytest.mark.parametrize("seed", range(50))
def test_the_first_car_comes_within_three_seconds_and_charges_within_ten_for_minutes(seed):
    assert visit(seed, 0).comes_after_s <= 3.0
    assert until_charging(Car(seed, 0.0)) <= 10.0
    assert visit(seed, 0).stays_s >= 7 * MINUTES


def test_the_same_seed_tells_the_same_story_and_another_seed_another():
    def story(seed):
        return [(c.phase, c.currents_a, c.voltages_v, c.energy_wh) for c in drive(Car(seed, 0.0), 5 * MINUTES)]

    assert story(7) == story(7)
    assert story(7) != story(8)


@given(cuts=st.lists(st.floats(0.01, 900.0), max_size=20))
def test_reading_more_often_changes_nothing(cuts):
    watched, alone = Car(3, 100.0), Car(3, 100.0)
    for moment in sorted(cuts):
        watched.advance(100.0 + moment, 16.0)
    watched.advance(1000.0, 16.0)
    alone.advance(1000.0, 16.0)
    assert (watched.energy_wh, watched.currents_a, watched.soc) == (alone.energy_wh, alone.currents_a, alone.soc)


def test_energy_is_the_sum_of_power_over_time():
    car = Car(11, 0.0)
    start = car.energy_wh
    summed = sum(c.power_w * TICK_S / 3600 for c in drive(car, 10 * MINUTES))
    assert summed > 100
    assert car.energy_wh - start == pytest.approx(summed)


def test_power_is_voltage_times_current_summed_over_the_phases():
    for car in drive(Car(2, 0.0), 2 * MINUTES):
        assert car.power_w == pytest.approx(sum(u * i for u, i in zip(car.voltages_v, car.currents_a, strict=True)))


@given(seed=st.integers(0, 500), offered_a=st.floats(0, 40), then_a=st.floats(0, 40))
def test_nobody_ever_draws_more_than_is_offered_and_nothing_below_the_minimum(seed, offered_a, then_a):
    car = Car(seed, 0.0)
    for offered, start, end in ((offered_a, 0.0, 60.0), (then_a, 60.0, 120.0)):
        for _ in drive(car, end, offered, start):
            assert max(car.currents_a) <= offered
            if offered < MIN_CURRENT_A:
                assert car.power_w == 0.0


def test_a_lower_limit_is_obeyed_at_the_next_tick():
    car = Car(4, 0.0)
    at = until_charging(car)
    car.advance(at + TICK_S, 8.0)
    assert 0 < car.currents_a[0] <= 8.0


def test_current_offered_again_is_drawn_again_within_seconds():
    car = Car(4, 0.0)
    at = until_charging(car)
    car.advance(at + 5, 0.0)
    assert car.power_w == 0
    assert car.wants_current
    car.advance(at + 9, 10.0)
    assert car.currents_a[0] > 9.0


def phases_seen(seed: int, until_s: float) -> list[Phase]:
    seen = [Phase.AWAY]
    seen.extend(car.phase for car in drive(Car(seed, 0.0), until_s))
    return [b for a, b in pairwise(seen) if a != b]


def test_a_visit_goes_from_plugging_to_leaving_and_the_next_one_comes():
    seed = next(s for s in range(100) if visit(s, 0).pauses)
    seen = phases_seen(seed, visit(seed, 0).stays_s + 60)
    assert seen[:2] == [Phase.PREPARING, Phase.CHARGING]
    assert Phase.PAUSING in seen
    leaving = seen.index(Phase.LEAVING)
    assert seen[leaving : leaving + 3] == [Phase.LEAVING, Phase.AWAY, Phase.PREPARING]


def test_a_battery_that_gets_full_tapers_and_stops():
    seed, number = next((s, n) for s in range(200) for n in range(1, 3) if visit(s, n).soc_at_arrival > 0.993)
    car = Car(seed, 0.0)
    current_at = {}
    for _ in drive(car, 3 * 3600, 32.0):
        if car.phase is Phase.FULL:
            break
        if car.visit == visit(seed, number):
            current_at[round(car.soc, 4)] = car.currents_a[0]
    assert car.phase is Phase.FULL
    assert car.power_w == 0
    assert max(current_at.values()) < 0.8 * visit(seed, number).max_current_a


def test_session_energy_starts_anew_with_each_car_and_the_meter_does_not():
    car, last_total, sessions = Car(5, 0.0), 0.0, []
    for _ in drive(car, 2 * 3600):
        assert car.energy_wh >= last_total
        last_total = car.energy_wh
        if car.phase is Phase.PREPARING:
            sessions.append(car.session_energy_wh)
    assert set(sessions) == {0.0}


def test_batteries_and_onboard_chargers_vary():
    cars = [visit(seed, 0) for seed in range(40)]
    assert len({car.battery_wh for car in cars}) > 4
    assert {car.phases for car in cars} == {1, 2, 3}
