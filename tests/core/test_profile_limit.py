import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.profile_texts import MINIMAL, text
from evedge.core.profile import load

MODE = "[registers]\nmode = { address = 10 }\n"


def profile(registers, limit, failsafe=""):
    return load(text(registers=MODE + registers, limit="[limit]\n" + limit, failsafe=failsafe), "test")


def sent(writes):
    return [(write.register.name, write.value, write.words, write.then_wait_s) for write in writes]


SIMPLE = (
    'limit_set = { address = 20, scale = 0.1, unit = "A", access = "rw", min = 6, max = 16 }\n',
    'register = "limit_set"\npause = [{ register = "limit_set", value = 0 }]\n',
)


@st.composite
def limits(draw):
    kind = draw(st.sampled_from(["uint16", "uint32", "float32"]))
    scale = draw(st.sampled_from([1, 0.1, 0.01, 0.001])) if kind != "float32" else 1
    watts = draw(st.sampled_from([None, 690.0, 230.0]))
    unit = "W" if watts else "A"
    scale = 100 if watts and kind == "uint16" else scale
    registers = f'limit_set = {{ address = 20, type = "{kind}", scale = {scale}, unit = "{unit}", access = "w" }}\n'
    limit = 'register = "limit_set"\nmax_current_a = 32\npause = [{ register = "limit_set", value = 0 }]\n'
    return profile(registers, limit + (f"watts_per_ampere = {watts}\n" if watts else "")).limit


@given(limits(), st.floats(6, 100))
def test_a_limit_is_never_rounded_up_and_loses_less_than_a_step(limit, current_a):
    wanted = min(current_a, 32)
    rounded = limit.round_down(current_a)
    assert rounded <= wanted + 1e-5
    assert wanted - rounded < limit.step_a + 1e-9
    (write,) = limit.writes_for(current_a)
    held = limit.current_of(limit.register.decode(write.words))
    assert math.isclose(held, rounded, rel_tol=1e-6)
    assert math.isclose(limit.round_down(rounded), rounded, rel_tol=1e-9)


@pytest.mark.parametrize("current_a", [-1, 0, 0.1, 5.99, math.nan])
def test_below_the_minimum_nothing_is_written_as_a_limit(current_a):
    limit = profile(*SIMPLE).limit
    with pytest.raises(ValueError, match="pause instead"):
        limit.writes_for(current_a)
    with pytest.raises(ValueError, match="pause instead"):
        limit.resume_writes(current_a)


def test_one_register_sets_pauses_and_resumes():
    limit = profile(*SIMPLE).limit
    assert sent(limit.writes_for(10.59)) == [("limit_set", 10.5, (105,), 0.0)]
    assert sent(limit.writes_for(99)) == [("limit_set", 16.0, (160,), 0.0)]
    assert sent(limit.pause_writes()) == [("limit_set", 0.0, (0,), 0.0)]
    assert sent(limit.resume_writes(6)) == [("limit_set", 6.0, (60,), 0.0)]
    assert (limit.readback.name, limit.in_force, limit.step_a, limit.max_current_a) == ("limit_set", None, 0.1, 16.0)


def test_a_limit_that_is_one_register_for_each_phase():
    registers = "".join(
        f'limit_l{phase}_set = {{ address = {10 + 2 * phase}, type = "float32", unit = "A", access = "w", max = 32 }}\n'
        for phase in (1, 2, 3)
    )
    steps = [f'{{ register = "limit_l{phase}_set", value = "limit" }}' for phase in (1, 2, 3)]
    zeros = [step.replace('"limit" }', "0 }") for step in steps]
    limit = profile(
        registers,
        f'register = "limit_l1_set"\nset = [{", ".join(steps)}]\npause = [{", ".join(zeros)}]\n',
    ).limit
    assert [write.words for write in limit.writes_for(16)] == [(0x4180, 0)] * 3
    assert [write.register.name for write in limit.pause_writes()] == ["limit_l1_set", "limit_l2_set", "limit_l3_set"]


def test_a_limit_in_watts_with_a_pause_that_is_not_zero():
    limit = profile(
        'limit_set = { address = 20, type = "uint32", unit = "W", access = "rw", min = 1547, max = 22080 }\n',
        'register = "limit_set"\nwatts_per_ampere = 690\npause = [{ register = "limit_set", value = 1547 }]\n',
    ).limit
    assert sent(limit.writes_for(10)) == [("limit_set", 6900, (0, 6900), 0.0)]
    assert sent(limit.pause_writes()) == [("limit_set", 1547.0, (0, 1547), 0.0)]
    assert (limit.max_current_a, limit.current_of(6900)) == (32.0, 10.0)


def test_control_is_taken_before_the_limit_and_given_time():
    limit = profile(
        'control_set = { address = 160, access = "rw", enum = { 0 = "off", 0x8000 = "on" } }\n'
        'limit_set = { address = 162, scale = 0.001, unit = "A", access = "rw", max = 32, na = [0xFFFF] }\n',
        'register = "limit_set"\n'
        'set = [{ register = "control_set", value = "on", then_wait_s = 1 }, '
        '{ register = "limit_set", value = "limit" }]\n'
        'pause = [{ register = "limit_set", value = 0 }]\n',
    ).limit
    assert sent(limit.writes_for(6)) == [("control_set", "on", (0x8000,), 1.0), ("limit_set", 6.0, (6000,), 0.0)]


def test_a_coil_that_releases():
    limit = profile(
        'limit_set = { address = 300, unit = "A", access = "rw", max = 32 }\n'
        'enable_set = { address = 400, table = "coil", access = "rw" }\n',
        'register = "limit_set"\npause = [{ register = "enable_set", value = false }]\n'
        'resume = [{ register = "limit_set", value = "limit" }, { register = "enable_set", value = true }]\n',
    ).limit
    assert sent(limit.pause_writes()) == [("enable_set", False, (0,), 0.0)]
    assert limit.pause_writes()[0].register.write_fc == 5
    assert sent(limit.resume_writes(8)) == [("limit_set", 8.0, (8,), 0.0), ("enable_set", True, (1,), 0.0)]


@pytest.mark.parametrize(
    ("failsafe", "timeout_s", "interval_s"),
    [
        ('kind = "none"', None, None),
        ('kind = "unknown"\ntimeout_s = 60', None, None),
        ('kind = "any_read"\ntimeout_s = 60', None, 30),
        ('kind = "any_read"\ntimeout_s = 60', 20, 10),
        ('kind = "any_request"\ntimeout_off = 0', 0, None),
        ('kind = "any_request"', None, None),
        ('kind = "any_write"\ntimeout_off = 65535', 65535, None),
        ('kind = "any_write"\ntimeout_off = 65535', 30, 15),
        ('kind = "rewrite_setpoint"\ntimeout_s = 60\nrefresh_every_s = 25', None, 25),
        ('kind = "rewrite_setpoint"\ntimeout_s = 60\nrefresh_every_s = 25', 20, 10),
        ('kind = "rewrite_setpoint"\nrefresh_every_s = 25', None, 25),
    ],
)
def test_how_often_it_must_be_refreshed(failsafe, timeout_s, interval_s):
    assert profile(*SIMPLE, f"[failsafe]\n{failsafe}\n").failsafe.refresh_interval_s(timeout_s) == interval_s


@pytest.mark.parametrize(("kind", "reads", "limit"), [("any_read", True, False), ("any_request", True, False),
    ("rewrite_setpoint", False, True), ("any_write", False, True), ("none", False, False)])  # fmt: skip
def test_what_refreshes_it(kind, reads, limit):
    failsafe = profile(*SIMPLE, f'[failsafe]\nkind = "{kind}"\n').failsafe
    assert (failsafe.refreshed_by_reads, failsafe.refreshed_by_limit) == (reads, limit)


def test_a_refresh_says_again_what_is_wanted_now_also_a_pause():
    one = profile(*SIMPLE, '[failsafe]\nkind = "rewrite_setpoint"\ntimeout_s = 60\n')
    assert sent(one.failsafe.refresh_writes(one.limit, 10)) == sent(one.limit.writes_for(10))
    assert sent(one.failsafe.refresh_writes(one.limit, None)) == sent(one.limit.pause_writes())


def test_a_heartbeat_is_written_whatever_the_limit():
    registers = 'heartbeat_set = { address = 3328, access = "w", enum = { 0x55AA = "alive" } }\n' + SIMPLE[0]
    failsafe = '[failsafe]\nkind = "heartbeat_value"\ntimeout_s = 10\nrefresh_every_s = 4\n'
    failsafe += 'refresh = [{ register = "heartbeat_set", value = "alive" }]\n'
    failsafe += (
        'recovery = [{ register = "heartbeat_set", value = "alive" }, { register = "limit_set", value = "limit" }]\n'
    )
    one = profile(registers, SIMPLE[1], failsafe)
    for current_a in (None, 10):
        assert sent(one.failsafe.refresh_writes(one.limit, current_a)) == [("heartbeat_set", "alive", (0x55AA,), 0.0)]
    assert one.failsafe.refresh_interval_s() == 4
    assert [step.register.name for step in one.failsafe.recovery_steps] == ["heartbeat_set", "limit_set"]


def test_a_profile_without_a_limit_reads_only():
    assert load("\n".join(MINIMAL.values()), "test").limit is None
