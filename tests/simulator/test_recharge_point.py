from __future__ import annotations

import asyncio

import pytest
from pymodbus.exceptions import ModbusIOException

from evedge.core.errors import EvedgeError, UsageError
from evedge.core.measurands import State
from evedge.profiles import load_profile, names
from evedge.simulator import Fault, ManualClock, SimulatedRechargePoint, Simulation

from .conftest import client_of, read_register, write_all

BUILT_IN = names()
LIMITED = [name for name in BUILT_IN if load_profile(name).limit]


def run_until(recharge_point, clock, state, seconds=3600):
    """Turn the clock until the recharge point is in this state."""
    for _ in range(seconds * 2):
        if recharge_point.state == state:
            return
        clock.advance(0.5)
    raise AssertionError(f"never {state}")


def close_to(register, value, other):
    """Equal but for what rounding to the register's resolution takes."""
    if isinstance(value, float) and isinstance(other, float | int):
        return abs(value - other) <= register.resolution
    return value == other


# -- what registers say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
async def test_every_register_of_every_profile_reads_as_what_the_device_holds(name, clock):
    profile = load_profile(name)
    async with SimulatedRechargePoint(profile, clock=clock) as rp, client_of(rp) as client:
        clock.advance(30)
        for register in profile.registers.values():
            if register.readable and not profile.denied(
                register.table, register.address, register.address + register.words - 1, "r"
            ):
                assert await read_register(client, profile, register) == rp.value(register.name), register.name


@pytest.mark.parametrize("name", BUILT_IN)
async def test_measurands_follow_the_car_and_agree_with_each_other(name, clock):
    profile = load_profile(name)
    async with SimulatedRechargePoint(profile, clock=clock) as rp, client_of(rp) as client:
        clock.advance(40)
        truth = rp.measured()
        assert truth["active_power_w"] == pytest.approx(
            sum(truth[f"voltage_l{n}_v"] * truth[f"current_l{n}_a"] for n in (1, 2, 3))
        )
        seen = {}
        for register in profile.registers.values():
            value = truth.get(register.name)
            if register.readable and isinstance(value, float) and register.kind == "number":
                seen[register.name] = await read_register(client, profile, register)
                assert close_to(register, seen[register.name], value), register.name
        assert seen.get("active_power_w", 1000) > 900


# Codes as the vendors' documents name them: written down here by hand, so that a wrong rule in a profile shows.
GOLDEN = [
    ("abb-terra-ac", 0x400C, 2, {State.AVAILABLE: [0, 0], State.CHARGING: [0, 0x0400]}),
    ("keba-kecontact-p40", 1000, 2, {State.CHARGING: [0, 3]}),
    ("keba-kecontact-p40", 1004, 2, {State.AVAILABLE: [0, 0], State.CHARGING: [0, 7]}),
    ("alfen-eve-ng9xx", 1201, 1, {State.AVAILABLE: [0x4100], State.CHARGING: [0x4332]}),
    ("phoenix-contact-charx-sec-3xxx", 1299, 1, {State.AVAILABLE: [0x4131], State.CHARGING: [0x4332]}),
]


@pytest.mark.parametrize(("name", "address", "count", "codes"), GOLDEN)
async def test_states_are_said_in_the_devices_own_codes(name, address, count, codes, clock):
    profile = load_profile(name)
    async with SimulatedRechargePoint(profile, clock=clock) as rp, client_of(rp) as client:
        for state, words in codes.items():
            run_until(rp, clock, state)
            answer = await client.read_holding_registers(address, count=count, device_id=rp.unit_id)
            assert answer.registers == words


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_state_of_a_visit_is_read_back_or_the_nearest_one(name, clock):
    profile = load_profile(name)
    rp = SimulatedRechargePoint(profile, clock=clock, seed=2)
    told = {}
    for _ in range(2400):
        clock.advance(1)
        values = rp.registers()
        if rp.state not in told:
            state = next(
                (r.state for r in profile.state if r.when is None or _true(r.when, values)),
                State.UNKNOWN,
            )
            told[rp.state] = state
            if profile.plugged is not None:
                assert _true(profile.plugged, values) == rp.car.plugged
    assert told[State.CHARGING] == State.CHARGING
    assert told[State.AVAILABLE] == State.AVAILABLE
    assert not {State.FAULTED, State.UNKNOWN, State.UNAVAILABLE} & set(told.values())


def _true(expression, values):
    from evedge.core.expressions import Missing, Names  # noqa: PLC0415 -- only here

    known = Names()
    known.update({name: value for name, value in values.items() if value is not None})
    try:
        return bool(expression(known))
    except Missing:
        return False


async def test_energy_on_the_meter_is_the_integral_of_power(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock, seed=3) as rp:
        before, summed = rp.car.energy_wh, 0.0
        for _ in range(600):
            clock.advance(0.5)
            summed += rp.measured()["active_power_w"] * 0.5 / 3600
        assert summed > 50
        assert rp.car.energy_wh - before == pytest.approx(summed)
        assert rp.value("energy_import_wh") == pytest.approx(rp.car.energy_wh, abs=10)


async def test_tables_text_and_little_word_order(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock) as rp, client_of(rp) as client:
        run_until(rp, clock, State.CHARGING)
        clock.advance(10)
        for name in ("status_text", "ready", "enable", "active_power_w", "energy_import_wh", "session_duration_s"):
            assert await read_register(client, odd, odd.registers[name]) == rp.value(name)
        assert (rp.value("status_text"), rp.value("ready")) == ("C", True)
        assert 0 < rp.value("session_duration_s") < 60


async def test_the_same_seed_gives_the_same_device_and_its_neighbour_another(odd):
    def life(seed):
        clock = ManualClock()
        rp = SimulatedRechargePoint(odd, seed=seed, clock=clock)
        story = []
        for _ in range(120):
            clock.advance(1)
            story.append(rp.registers())
        return story

    assert life(5) == life(5)
    assert life(5) != life(6)
    assert life(5)[0]["serial_number"] != life(6)[0]["serial_number"]


# -- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIMITED)
async def test_a_limit_is_obeyed_within_a_second_and_a_pause_and_its_end_too(name, clock):
    profile = load_profile(name)
    async with SimulatedRechargePoint(profile, clock=clock) as rp, client_of(rp) as client:
        run_until(rp, clock, State.CHARGING)
        clock.advance(10)
        assert rp.car.currents_a[0] > 12
        await write_all(client, profile, profile.limit.writes_for(10.0))
        clock.advance(1)
        assert 8 < rp.car.currents_a[0] <= 10
        assert rp.limit_in_force_a == pytest.approx(profile.limit.round_down(10.0))
        for register in (profile.limit.readback, profile.limit.in_force):
            if register is not None:
                seen = await read_register(client, profile, register)
                assert profile.limit.current_of(seen) == pytest.approx(10.0, abs=profile.limit.step_a)
        await write_all(client, profile, profile.limit.pause_writes())
        clock.advance(1)
        assert (rp.car.power_w, rp.state) == (0.0, State.SUSPENDED_EVSE)
        await write_all(client, profile, profile.limit.resume_writes(8.0))
        clock.advance(5)
        assert 6 < rp.car.currents_a[0] <= 8
        assert rp.state is State.CHARGING


async def test_the_limit_in_force_is_the_lowest_of_set_hardware_and_cable(clock):
    profile = load_profile("abb-terra-ac")
    seed = next(s for s in range(50) if SimulatedRechargePoint(profile, seed=s).limit_in_force_a == 20.0)
    async with SimulatedRechargePoint(profile, seed=seed, clock=clock) as rp, client_of(rp) as client:
        await write_all(client, profile, profile.limit.writes_for(32.0))
        assert rp.value("current_limit_setpoint") == 32.0
        assert await read_register(client, profile, profile.registers["current_limit_a"]) == 20.0


async def test_a_device_nobody_speaks_to_falls_back_at_its_time_and_returns(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock) as rp, client_of(rp) as client:
        run_until(rp, clock, State.CHARGING)
        clock.advance(7200)
        assert not rp.fell_back
        await client.write_register(70, 60, device_id=7)
        await client.write_register(71, 7, device_id=7)
        clock.advance(59)
        assert not rp.fell_back
        await client.write_register(71, 7, device_id=7)
        clock.advance(59)
        await client.read_holding_registers(71, device_id=7)
        assert (rp.fell_back, rp.limit_in_force_a) == (False, 16.0)
        clock.advance(1)
        assert (rp.fell_back, rp.limit_in_force_a) == (True, 7.0)
        clock.advance(1)
        assert max(rp.car.currents_a) <= 7.0
        await write_all(client, odd, odd.limit.writes_for(12.0))
        assert (rp.fell_back, rp.limit_in_force_a) == (False, 12.0)


# -- access ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda c: c.read_holding_registers(999, device_id=7), 2),
        (lambda c: c.read_holding_registers(60, count=2, device_id=7), 2),
        (lambda c: c.read_holding_registers(36, count=3, device_id=7), 2),
        (lambda c: c.read_holding_registers(20, count=3, device_id=7), 2),
        (lambda c: c.read_holding_registers(30, count=5, device_id=7), 2),
        (lambda c: c.read_holding_registers(20, count=11, device_id=7), 3),
        (lambda c: c.read_input_registers(20, device_id=7), 2),
        (lambda c: c.write_register(20, 1, device_id=7), 2),
        (lambda c: c.write_register(60, 1, device_id=7), 2),
        (lambda c: c.write_registers(50, [100, 1, 1], device_id=7), 2),
        (lambda c: c.write_coil(401, True, device_id=7), 2),
        (lambda c: c.write_register(50, 161, device_id=7), 3),
        (lambda c: c.write_register(50, 59, device_id=7), 3),
        (lambda c: c.write_registers(50, [100, 3], device_id=7), 3),
        (lambda c: c.mask_write_register(address=50, and_mask=0, or_mask=1, device_id=7), 1),
        (lambda c: c.readwrite_registers(read_address=50, read_count=1, values=[1], device_id=7), 1),
        (lambda c: c.read_device_information(device_id=7), 1),
    ],
)
async def test_what_the_map_does_not_allow_is_refused_and_changes_nothing(call, code, clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock) as rp, client_of(rp) as client:
        before = rp.registers()
        answer = await call(client)
        assert answer.isError()
        assert answer.exception_code == code
        assert rp.registers() == before
        assert not rp.writes


async def test_a_hole_inside_a_span_reads_as_zero_and_writes_may_join_neighbours(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock) as rp, client_of(rp) as client:
        assert (await client.read_holding_registers(30, count=3, device_id=7)).registers[1] == 0
        assert not (await client.write_registers(50, [100, 2], device_id=7)).isError()
        assert (rp.value("limit_set"), rp.value("extra")) == (10.0, 2)
        (write,) = rp.writes
        assert (write.at, write.address, write.words, write.registers) == (1000.0, 50, (100, 2), ("limit_set", "extra"))


async def test_a_device_that_takes_one_quantity_per_request_takes_no_other(clock):
    profile = load_profile("keba-kecontact-p40")
    async with SimulatedRechargePoint(profile, clock=clock) as rp, client_of(rp) as client:
        assert not (await client.read_holding_registers(1000, count=2, device_id=255)).isError()
        for address, count, code in ((1000, 1, 2), (1001, 2, 2), (1008, 4, 3)):
            answer = await client.read_holding_registers(address, count=count, device_id=255)
            assert answer.exception_code == code
        assert (await client.read_input_registers(1000, count=2, device_id=255)).exception_code == 1
        assert (await client.write_registers(5004, [10000], device_id=255)).exception_code == 1
        assert rp.requests.refused == 5


async def test_another_unit_id_gets_no_answer(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock) as rp, client_of(rp, timeout=1.0) as client:
        with pytest.raises(ModbusIOException):
            await client.read_holding_registers(30, device_id=8)
        assert rp.requests.unanswered == 1


async def test_connectors_by_stride_are_separate_and_those_it_lacks_are_no_registers(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock, connectors=2) as rp, client_of(rp) as client:
        clock.advance(60)
        assert not (await client.write_register(150, 80, device_id=7)).isError()
        assert (rp.value("limit_set"), rp.value("limit_set", connector=2)) == (16.0, 8.0)
        energy = odd.registers["energy_import_wh"]
        seen = [await read_register(client, odd, energy, moved=moved) for moved in (0, 100)]
        assert seen == [rp.value("energy_import_wh", connector=n) for n in (1, 2)]
        assert seen[0] != seen[1]
        assert (await client.read_holding_registers(180, count=8, device_id=7)).exception_code == 2
    async with SimulatedRechargePoint(odd, clock=clock) as rp, client_of(rp) as client:
        assert (await client.read_holding_registers(130, device_id=7)).exception_code == 2


async def test_connectors_by_unit_id_and_the_station_have_their_own(clock):
    profile = load_profile("alfen-eve-ng9xx")
    async with SimulatedRechargePoint(profile, clock=clock, connectors=2) as rp, client_of(rp) as client:
        clock.advance(60)
        register = profile.registers["energy_import_wh"]
        for number in (1, 2):
            seen = await read_register(client, profile, register, unit_id=number)
            assert seen == rp.value("energy_import_wh", connector=number)
        assert (await read_register(client, profile, profile.registers["serial_number"])) == rp.serial_number
        assert (await client.read_holding_registers(157, count=11, device_id=1)).exception_code == 2


def test_more_connectors_than_the_device_has_are_refused(odd):
    with pytest.raises(UsageError, match="cannot have 3 connectors"):
        SimulatedRechargePoint(odd, connectors=3)


async def test_two_clients_see_the_same_device(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock) as rp, client_of(rp) as one, client_of(rp) as two:
        clock.advance(20)
        await one.write_register(50, 90, device_id=7)
        answers = await asyncio.gather(
            *(client.read_holding_registers(50, device_id=7) for client in (one, two) for _ in range(20))
        )
        assert {tuple(answer.registers) for answer in answers} == {(90,)}


# -- faults ---------------------------------------------------------------------------------------------------------


async def test_frozen_shows_old_values_while_the_device_lives_on_and_obeys(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock) as rp, client_of(rp) as client:
        run_until(rp, clock, State.CHARGING)
        clock.advance(10)
        rp.set_faults("frozen")
        seen = await client.read_holding_registers(32, device_id=7)
        await client.write_register(50, 60, device_id=7)
        clock.advance(10)
        assert (await client.read_holding_registers(32, device_id=7)).registers == seen.registers
        assert (await client.read_holding_registers(50, device_id=7)).registers == [160]
        assert rp.car.currents_a[0] <= 6.0
        rp.set_faults()
        assert (await client.read_holding_registers(50, device_id=7)).registers == [60]
        assert (await client.read_holding_registers(32, device_id=7)).registers[0] <= 60


async def test_ignored_writes_are_acknowledged_and_listed_but_change_nothing(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock, faults=["ignore-writes"]) as rp, client_of(rp) as client:
        assert not (await client.write_register(50, 60, device_id=7)).isError()
        assert (await client.read_holding_registers(50, device_id=7)).registers == [160]
        assert [write.obeyed for write in rp.writes] == [False]
        rp.set_faults()
        await client.write_register(50, 60, device_id=7)
        assert rp.value("limit_set") == 6.0
        assert [write.obeyed for write in rp.writes] == [False, True]


async def test_busy_is_exception_six_and_can_be_switched_off(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock, faults=[Fault.BUSY]) as rp, client_of(rp) as client:
        assert (await client.read_holding_registers(50, device_id=7)).exception_code == 6
        rp.set_faults()
        assert not (await client.read_holding_registers(50, device_id=7)).isError()


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.GARBAGE, Fault.RESET])
async def test_without_an_answer_the_client_fails_and_after_the_fault_it_does_not(fault, clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock) as rp:
        async with client_of(rp, timeout=1.0) as client:
            rp.set_faults(fault)
            with pytest.raises(ModbusIOException):
                await client.read_holding_registers(50, device_id=7)
            assert rp.requests.unanswered == 1
        rp.set_faults()
        async with client_of(rp) as client:
            assert not (await client.read_holding_registers(50, device_id=7)).isError()


async def test_slow_answers_come_after_the_time_given(clock, odd):
    async with SimulatedRechargePoint(odd, clock=clock, faults=["slow"], slow_s=3.0) as rp:
        async with client_of(rp, timeout=1.0) as client:
            with pytest.raises(ModbusIOException):
                await client.read_holding_registers(50, device_id=7)
        async with client_of(rp, timeout=20) as client:
            assert not (await client.read_holding_registers(50, device_id=7)).isError()


def test_an_unknown_fault_is_named_with_those_that_exist(odd):
    with pytest.raises(UsageError, match="unknown fault 'tired': choose from silent, slow, reset"):
        SimulatedRechargePoint(odd, faults=["tired"])


# -- many -----------------------------------------------------------------------------------------------------------


async def test_two_hundred_in_one_process_differ_and_answer(odd):
    async with Simulation(odd, count=200, seed=1) as simulation:
        points = simulation.recharge_points
        assert len({rp.port for rp in points}) == 200
        assert len({rp.serial_number for rp in points}) == 200

        async def ask(rp):
            async with client_of(rp) as client:
                return not (await client.read_holding_registers(30, device_id=7)).isError()

        assert all(await asyncio.gather(*map(ask, points)))


async def test_when_one_port_is_taken_none_stays_open(odd):
    async with SimulatedRechargePoint(odd) as taken:
        simulation = Simulation(odd, count=2, port=taken.port - 1)
        with pytest.raises(EvedgeError, match=f"cannot listen on 127.0.0.1:{taken.port}"):
            async with simulation:
                pass
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", taken.port - 1)


def test_ports_beyond_the_last_are_refused(odd):
    with pytest.raises(UsageError, match="beyond 65535"):
        Simulation(odd, count=10, port=65_530)
