"""What a recharge point is brought to: purposes, pauses, leases and what follows them."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from evedge.core.commands import Action, Command, Purpose
from evedge.core.desired import Bounds, Desired, OnLapse, apply, apply_all, lapse, next_end_ms, remember, target

NOW_MS = 1_790_000_000_000
BOUNDS = Bounds(min_current_a=6.0, max_current_a=32.0, fallback_current_a=None, on_lapse=None)


def command(command_id, action=Action.SET_CURRENT_LIMIT, current_a=None, *, purpose=Purpose.MARKET, lease_s=None):
    return Command(
        id=command_id,
        gateway="site-042",
        recharge_point="rp-01",
        action=action,
        issued_at_ms=None,
        expires_at_ms=NOW_MS + 60_000,
        lease_s=lease_s,
        issuer=None,
        purpose=purpose,
        current_a=current_a,
        accepted_at_ms=NOW_MS,
    )


def limit(current_a, purpose=Purpose.MARKET, lease_s=None, command_id=None):
    return command(command_id or f"{purpose}-{current_a:g}", current_a=current_a, purpose=purpose, lease_s=lease_s)


PAUSE = command("pause", Action.PAUSE)
RESUME = command("resume", Action.RESUME)


def brought_to(*commands, bounds=BOUNDS, before_a=None):
    return target(apply_all(remember(Desired(), before_a), commands), bounds)


def test_without_a_command_the_device_is_left_as_it_is():
    assert target(Desired(), BOUNDS) is None
    assert target(remember(Desired(), 16.0), BOUNDS) is None


def test_the_lowest_purpose_applies():
    found = brought_to(limit(20, Purpose.MARKET), limit(10, Purpose.GRID), limit(16, Purpose.USER))
    assert (found.current_a, found.command_id, found.why) == (10.0, "grid-10", "grid limit")


def test_a_purpose_holds_one_limit():
    assert brought_to(limit(8), limit(20)).current_a == 20.0
    assert brought_to(limit(20), limit(8, Purpose.SITE), limit(12, Purpose.SITE)).current_a == 12.0


@pytest.mark.parametrize("current_a", [0.0, 0.1, 5.999])
def test_below_the_minimum_it_pauses(current_a):
    found = brought_to(limit(current_a))
    assert found.pauses
    assert "is below the minimum of 6 A: paused" in found.why
    assert found.command_id == f"market-{current_a:g}"


def test_the_minimum_itself_is_a_limit():
    assert brought_to(limit(6)).current_a == 6.0


def test_above_the_maximum_the_maximum_applies():
    found = brought_to(limit(63))
    assert (found.current_a, found.why) == (32.0, "32 A is the maximum here")


def test_a_maximum_below_the_minimum_pauses():
    bounds = Bounds(min_current_a=6.0, max_current_a=5.0, fallback_current_a=None, on_lapse=None)
    assert brought_to(limit(10), bounds=bounds).pauses


def test_a_pause_holds_until_resume():
    assert brought_to(limit(10), PAUSE).pauses
    assert brought_to(limit(10), PAUSE, limit(20)).pauses
    assert brought_to(limit(10), PAUSE, limit(20), RESUME).current_a == 20.0


def test_after_a_resume_alone_the_limit_before_applies():
    assert brought_to(PAUSE, RESUME, before_a=16.0).current_a == 16.0
    assert brought_to(RESUME, before_a=16.0).current_a == 16.0


FALLBACKS = [
    # fallback_current_a, limit before the first command, what follows
    (10.0, 16.0, 10.0),
    (10.0, None, 10.0),
    (None, 16.0, 16.0),
    (None, 40.0, 32.0),
    (40.0, None, 32.0),
    (None, None, 32.0),
    (None, 0.0, None),
    (5.0, 16.0, None),
]


@pytest.mark.parametrize(("configured_a", "before_a", "follows_a"), FALLBACKS)
def test_the_fallback_is_configured_or_was_before_or_is_the_devices_own(configured_a, before_a, follows_a):
    bounds = msgspec_bounds(fallback_current_a=configured_a)
    state = apply(remember(Desired(), before_a), limit(8, lease_s=10))
    state, lapsed = lapse(state, bounds, NOW_MS + 10_000)
    assert lapsed == (("market-8", OnLapse.FALLBACK),)
    assert target(state, bounds).current_a == follows_a


def msgspec_bounds(**changed):
    keys = {"min_current_a": 6.0, "max_current_a": 32.0, "fallback_current_a": None, "on_lapse": None, **changed}
    return Bounds(**keys)


def test_the_limit_before_is_that_before_the_first_leased_command():
    state = apply_all(remember(Desired(), 32.0), [limit(20), limit(10, lease_s=10)])
    state, _ = lapse(state, BOUNDS, NOW_MS + 10_000)
    assert target(state, BOUNDS).current_a == 20.0
    state = apply_all(state, [limit(25), limit(8, lease_s=10)])
    state, _ = lapse(state, BOUNDS, NOW_MS + 10_000)
    assert target(state, BOUNDS).current_a == 20.0  # the first one's


def test_what_was_remembered_is_not_overwritten():
    assert remember(remember(Desired(), 16.0), 10.0).fallback_a == 16.0
    assert remember(apply(Desired(), limit(8)), 8.0).fallback_a is None


@pytest.mark.parametrize(
    ("purpose", "on_lapse", "follows"),
    [
        (Purpose.MARKET, None, OnLapse.FALLBACK),
        (Purpose.USER, None, OnLapse.FALLBACK),
        (Purpose.SITE, None, OnLapse.FALLBACK),
        (Purpose.GRID, None, OnLapse.HOLD),
        (Purpose.GRID, OnLapse.FALLBACK, OnLapse.FALLBACK),
        (Purpose.MARKET, OnLapse.HOLD, OnLapse.HOLD),
        (Purpose.MARKET, OnLapse.PAUSE, OnLapse.PAUSE),
    ],
)
def test_what_follows_a_lease(purpose, on_lapse, follows):
    bounds = msgspec_bounds(fallback_current_a=16.0, on_lapse=on_lapse)
    state, lapsed = lapse(apply(Desired(), limit(8, purpose, lease_s=10)), bounds, NOW_MS + 10_000)
    assert lapsed == ((f"{purpose}-8", follows),)
    assert target(state, bounds).current_a == {"fallback": 16.0, "hold": 8.0, "pause": None}[follows]
    again, nothing = lapse(state, bounds, NOW_MS + 10**9)
    assert (again, nothing) == (state, ())
    after = apply(state, limit(12, purpose))
    assert target(after, bounds).current_a == 12.0  # a new limit ends what followed


@pytest.mark.parametrize(
    ("purpose", "on_lapse", "pauses"),
    [
        (Purpose.MARKET, None, False),
        (Purpose.GRID, None, True),
        (Purpose.MARKET, OnLapse.HOLD, True),
        (Purpose.MARKET, OnLapse.PAUSE, True),
        (Purpose.GRID, OnLapse.FALLBACK, False),
    ],
)
def test_what_follows_a_pause_with_a_lease(purpose, on_lapse, pauses):
    bounds = msgspec_bounds(on_lapse=on_lapse)
    pause = command("pause", Action.PAUSE, purpose=purpose, lease_s=10)
    state = apply_all(Desired(), [limit(20), pause])
    assert target(lapse(state, bounds, NOW_MS + 9999)[0], bounds).pauses
    state, lapsed = lapse(state, bounds, NOW_MS + 10_000)
    assert lapsed == (("pause", bounds.after(purpose)),)
    assert target(state, bounds).pauses is pauses
    assert target(apply(state, RESUME), bounds).current_a == 20.0


def test_only_the_lease_that_ran_out_ends():
    state = apply_all(Desired(), [limit(8, lease_s=10), limit(12, Purpose.SITE, lease_s=20)])
    assert next_end_ms(state) == NOW_MS + 10_000
    state, lapsed = lapse(state, BOUNDS, NOW_MS + 10_000)
    assert [command_id for command_id, _ in lapsed] == ["market-8"]
    assert target(state, BOUNDS).current_a == 12.0
    assert next_end_ms(state) == NOW_MS + 20_000
    assert next_end_ms(lapse(state, BOUNDS, NOW_MS + 20_000)[0]) is None


def test_a_lease_does_not_end_early():
    state = apply(Desired(), limit(8, lease_s=10))
    assert lapse(state, BOUNDS, NOW_MS + 9999) == (state, ())


COMMANDS = st.one_of(
    st.builds(
        limit,
        st.floats(0, 80),
        st.sampled_from(Purpose),
        st.none() | st.floats(0.1, 100),
        st.uuids().map(str),
    ),
    st.just(PAUSE),
    st.just(RESUME),
)


@given(st.lists(COMMANDS, max_size=8), st.none() | st.floats(0, 80), st.sampled_from([None, *OnLapse]))
def test_a_target_is_within_bounds_or_a_pause_and_survives_the_disk(commands, before_a, on_lapse):
    bounds = msgspec_bounds(on_lapse=on_lapse)
    state = apply_all(remember(Desired(), before_a), commands)
    for now_ms in (NOW_MS, NOW_MS + 50_000, NOW_MS + 200_000):
        state, _ = lapse(state, bounds, now_ms)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Desired) == state
        found = target(state, bounds)
        assert (found is None) == (not commands)
        if found is not None and found.current_a is not None:
            assert 6.0 <= found.current_a <= 32.0
            asked = [hold.current_a for hold in state.limits]
            assert not asked or found.current_a <= max(min(asked), 6.0)
        assert len({hold.purpose for hold in state.limits}) == len(state.limits)
    assert next_end_ms(state) is None
