"""How a limit or a pause is seen to hold, on every device that comes with evedge."""

import pytest

from evedge import profiles
from evedge.core.profile import Limit, Register, Table
from evedge.core.profile_limit import WriteStep
from evedge.core.verify import Expectation, expectations

WITH_LIMIT = [name for name in profiles.names() if profiles.load_profile(name).limit is not None]
FOUR = ("abb-terra-ac", "alfen-eve-ng9xx", "keba-kecontact-p40", "phoenix-contact-charx-sec-3xxx")
CURRENTS = (6.0, 10.55, 13.0, 16.0)


def written(name, current_a):
    limit = profiles.load_profile(name).limit
    writes = limit.pause_writes() if current_a is None else limit.resume_writes(current_a)
    return limit, writes, expectations(writes, limit, current_a)


def shown(limit, expectation, writes, current_a):
    """What a device that obeys shows in the register."""
    for write in writes:
        if write.register is expectation.register:
            return write.register.decode(write.words)
    register = expectation.register
    if register is limit.readback:
        (value,) = [write.value for write in writes if write.register is limit.register]
    else:
        value = limit.round_down(current_a)
        if register.unit == "W":
            value *= limit.watts_per_ampere
    return register.decode(register.encode(value))


def test_there_are_profiles_to_look_at():
    assert {"abb-terra-ac", "alfen-eve-ng9xx", "keba-kecontact-p40", "phoenix-contact-charx-sec-3xxx"} <= set(
        WITH_LIMIT
    )


@pytest.mark.parametrize("current_a", CURRENTS)
@pytest.mark.parametrize("name", WITH_LIMIT)
def test_a_device_that_obeys_is_seen_to(name, current_a):
    limit, writes, expected = written(name, current_a)
    assert expected or limit.in_force is None
    for one in expected:
        assert one.register.readable
        assert one.met(shown(limit, one, writes, current_a)), one.seen(shown(limit, one, writes, current_a))


@pytest.mark.parametrize("current_a", CURRENTS)
@pytest.mark.parametrize("name", WITH_LIMIT)
def test_a_device_that_took_another_limit_is_seen_not_to(name, current_a):
    limit, _, expected = written(name, current_a)
    other_writes = limit.resume_writes(current_a + 3)
    shows = (limit.readback, limit.in_force, limit.register)
    of_limit = [one for one in expected if any(one.register is register for register in shows)]
    assert of_limit or not expected
    for one in of_limit:
        assert not one.met(shown(limit, one, other_writes, current_a + 3))


@pytest.mark.parametrize("name", WITH_LIMIT)
def test_a_pause_is_seen_where_what_was_written_can_be_read(name):
    limit, writes, expected = written(name, None)
    for one in expected:
        assert one.met(shown(limit, one, writes, None))
        running = limit.resume_writes(16.0)
        if any(write.register is one.register for write in running) or one.register is limit.readback:
            assert not one.met(shown(limit, one, running, 16.0))


@pytest.mark.parametrize("name", WITH_LIMIT)
def test_an_optional_setpoint_has_something_instead(name):
    limit, _, expected = written(name, 10.0)
    for one in expected:
        if one.register.optional and limit.in_force is not None:
            assert one.instead.register is limit.in_force
            assert one.instead.met(10.0)
            assert not one.instead.met(11.0)


def test_the_four_are_seen_as_their_manuals_say():
    assert [{one.register.name for one in written(name, 10.0)[2]} for name in FOUR] == [
        {"current_limit_setpoint"},
        {"current_limit_set"},
        {"current_limit_a"},
        {"current_limit_set", "enable_set"},
    ]


def register(name, *, scale=1.0, unit="A", **changed):
    keys = {"table": Table.HOLDING, "address": 1, "type": "uint16", "words": 1, "writable": True, **changed}
    return Register(name=name, scale=scale, unit=unit, **keys)


def limit_of(setpoint, *, readback=None, in_force=None, watts=None):
    step = WriteStep(setpoint, None)
    return Limit(
        register=setpoint, readback=readback, in_force=in_force, min_current_a=6.0, max_current_a=32.0,
        watts_per_ampere=watts, min_write_interval_s=0.0, min_pause_interval_s=0.0, wears_out=False,
        set_steps=(step,), pause_steps=(WriteStep(setpoint, 0.0),), resume_steps=(step,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "met"), [(10.0, True), (11.0, True), (12.0, False), (9.0, False), (None, False), ("10", False)]
)
def test_a_coarse_readback_may_round_what_was_written_or_cut_it_off(value, met):
    limit = limit_of(register("set", scale=0.001), readback=register("held", scale=1.0))
    (expected,) = expectations(limit.writes_for(10.9), limit, 10.9)
    assert expected.met(value) is met


def test_a_fine_readback_must_show_what_was_written():
    limit = limit_of(register("set"), readback=register("held", scale=0.001))
    (expected,) = expectations(limit.writes_for(10.9), limit, 10.9)
    assert expected.met(10.0)
    assert not expected.met(10.9)


def test_a_limit_in_watts_is_held_against_watts_in_force():
    in_force = register("power_limit_w", unit="W")
    limit = limit_of(register("set", unit="W", readable=False), in_force=in_force, watts=690.0)
    (expected,) = expectations(limit.writes_for(10.0), limit, 10.0)
    assert expected.met(6900.0)
    assert not expected.met(7590.0)


def test_a_register_that_clears_itself_is_not_read_back():
    setpoint = register("set", self_clearing=True)
    limit = limit_of(setpoint)
    assert expectations(limit.writes_for(10.0), limit, 10.0) == ()


def test_a_truth_value_is_not_a_number():
    assert not Expectation(register("x"), exactly=1).met(True)
    assert Expectation(register("x"), exactly=True).met(True)
    assert not Expectation(register("x"), at_most=1.0).met(True)


def test_what_was_seen_is_told_in_words():
    assert Expectation(register("held"), exactly=10.0).seen(16.0) == "held holds 16"
    assert Expectation(register("held"), exactly=10.0).seen(None) == "held holds nothing"
