import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evedge.core.plan import make_plan
from evedge.profiles import load_profile, names
from profiles.sheets import SHEETS, Device

ABB, KEBA = "abb-terra-ac", "keba-kecontact-p40"
ALFEN, CHARX = "alfen-eve-ng9xx", "phoenix-contact-charx-sec-3xxx"
CODED = {"state", "plugged", "error_code"}


def poll(name, device, connector=1, known=None):
    plan = make_plan(load_profile(name), connector=connector)
    known = {"firmware_number": 10201} if known is None else known
    return plan.decode(device.answer(plan.poll), known)


def test_every_profile_has_a_sheet():
    assert set(names()) >= set(SHEETS)


@pytest.mark.parametrize("name", SHEETS)
def test_a_profile_offers_what_its_sheet_lists(name):
    assert set(load_profile(name).measurands) - CODED == set(SHEETS[name])


@pytest.mark.parametrize("name", SHEETS)
@given(data=st.data())
def test_measurands_are_what_the_sheet_says(name, data):
    profile = load_profile(name)
    device, expected = Device(), {}
    for measurand, (address, letter, scale, *unit) in SHEETS[name].items():
        size = struct.calcsize(">" + letter)
        if letter in "fd":
            raw = data.draw(st.floats(0, 1e6, width=8 * size))
        else:
            raw = data.draw(st.integers(0, min(2**48, (1 << 8 * size - 1) - 1)))
        device.put(unit[0] if unit else profile.connection.unit_id, address, letter, raw)
        expected[measurand] = raw * scale
    reading = poll(name, device)
    assert reading.errors == {}
    assert reading.derived == []
    for measurand, value in expected.items():
        assert math.isclose(reading.values[measurand], value, rel_tol=1e-6, abs_tol=1e-9), measurand


@pytest.mark.parametrize(
    ("state", "lock", "limit_ma", "error", "expected"),
    [
        (0, 0, 16000, 0, ("available", False, "no error")),
        (1, 0x101, 16000, 0, ("preparing", True, "no error")),
        (2, 0x111, 16000, 0, ("suspended_ev", True, "no error")),
        (2, 0x111, 0, 0, ("suspended_evse", True, "no error")),
        (3, 0x111, 16000, 0, ("suspended_evse", True, "no error")),
        (4, 0x111, 16000, 0, ("charging", True, "no error")),
        (5, 0x111, 16000, 0, ("finishing", True, "no error")),
        (5, 0x11, 16000, 0, ("available", False, "no error")),
        (5, 0x111, 16000, 16384, ("faulted", True, "Modbus communication lost")),
        (9, 0x111, 16000, 0, ("unknown", False, "no error")),
    ],
)
@pytest.mark.parametrize("flag", [0, 0x8000])
def test_abb_states(state, lock, limit_ma, error, expected, flag):
    device = Device()
    device.put(1, 0x400C, "I", state << 8 | flag)
    device.put(1, 0x400A, "I", lock)
    device.put(1, 0x400E, "I", limit_ma)
    device.put(1, 0x4008, "I", error)
    values = poll(ABB, device).values
    assert (values["state"], values["plugged"], values["error_code"]) == expected


def test_abb_reads_one_request_a_poll_and_knows_its_firmware():
    plan = make_plan(load_profile(ABB))
    device = Device()
    device.put(1, 0x4000, "Q", 0x54220420_48210123)
    device.put(1, 0x4004, "I", 0x01021300)
    assert [(block.address, block.count) for block in plan.poll] == [(0x4006, 30)]
    assert plan.decode_identity(device.answer(plan.identity)) == {
        "vendor": "ABB", "model": "Terra AC (TAC-W)", "serial_number": "5422042048210123", "firmware": "1.2.13",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "plug", "expected"),
    [
        (0, 0, ("unavailable", False)),
        (1, 1, ("available", False)),
        (1, 7, ("preparing", True)),
        (2, 3, ("available", False)),
        (2, 7, ("suspended_ev", True)),
        (3, 7, ("charging", True)),
        (4, 0, ("faulted", False)),
        (5, 7, ("suspended_evse", True)),
        (5, 5, ("suspended_evse", True)),
        (8, 5, ("unknown", True)),
    ],
)
def test_keba_states(state, plug, expected):
    device = Device()
    device.put(255, 1000, "I", state)
    device.put(255, 1004, "I", plug)
    values = poll(KEBA, device).values
    assert (values["state"], values["plugged"]) == expected


def test_keba_asks_for_each_quantity_alone():
    plan = make_plan(load_profile(KEBA))
    assert all(block.count == 2 for block in (*plan.poll, *plan.identity, *plan.config))
    pause = plan.profile.connection.pause_between_requests_s
    assert len(plan.poll) * pause < plan.profile.connection.poll_interval_s


@pytest.mark.parametrize(("firmware", "energy_wh"), [(10200, 123456.0), (10201, 12345.6)])
def test_keba_counts_whole_watt_hours_before_firmware_1_2_1(firmware, energy_wh):
    device = Device()
    device.put(255, 1036, "I", 123456)
    plan = make_plan(load_profile(KEBA))
    device.put(255, 1018, "I", firmware)
    readings = plan.decode_registers(device.answer(plan.identity))
    known = {name: reading.value for name, reading in readings.items()}
    assert known["firmware"] == ("1.2.0" if firmware == 10200 else "1.2.1")
    reading = poll(KEBA, device, known=known)
    assert reading.values["energy_import_wh"] == energy_wh
    assert reading.derived == []


def test_keba_counts_nothing_while_its_firmware_is_not_known():
    reading = poll(KEBA, Device(), known={})
    missing = "firmware_number is not known yet"
    assert reading.errors == {"energy_import_wh": missing, "session_energy_wh": missing}


@pytest.mark.parametrize(
    ("mode3", "available", "limit", "expected"),
    [
        ("A", 1, 16.0, ("available", False)),
        ("E", 1, 16.0, ("available", False)),
        ("A", 0, 16.0, ("unavailable", False)),
        ("B1", 1, 16.0, ("preparing", True)),
        ("B2", 1, 16.0, ("suspended_ev", True)),
        ("B2", 1, 0.0, ("suspended_evse", True)),
        ("C1", 1, 0.0, ("suspended_evse", True)),
        ("C2", 1, 16.0, ("charging", True)),
        ("D2", 0, 16.0, ("charging", True)),
        ("F", 1, 16.0, ("faulted", False)),
        ("Z9", 1, 16.0, ("unknown", False)),
    ],
)
def test_alfen_states(mode3, available, limit, expected):
    device = Device()
    device.put_text(1, 1201, mode3, 5)
    device.put(1, 1200, "H", available)
    device.put(1, 1206, "f", limit)
    values = poll(ALFEN, device).values
    assert (values["state"], values["plugged"]) == expected


def test_alfen_sockets_are_unit_ids_and_the_station_has_its_own():
    device = Device()
    device.put(1, 344, "f", 100.0)
    device.put(2, 344, "f", 200.0)
    device.put(200, 1102, "f", 31.5)
    device.put_text(200, 117, "Alfen NV", 5)
    device.put_text(200, 157, "ACE0123456", 11)
    values = poll(ALFEN, device, connector=2).values
    assert (values["active_power_w"], values["temperature_c"]) == (200.0, 31.5)
    plan = make_plan(load_profile(ALFEN), connector=2)
    identity = plan.decode_identity(device.answer(plan.identity))
    assert (identity["vendor"], identity["serial_number"]) == ("Alfen NV", "ACE0123456")


def test_alfen_gives_no_value_for_what_it_does_not_measure():
    device = Device()
    device.put(1, 308, "f", math.nan)
    reading = poll(ALFEN, device)
    assert "voltage_l2_v" not in reading.values
    assert reading.errors == {}
    assert "voltage_l1_v" in reading.values


@pytest.mark.parametrize(
    ("mode3", "enabled", "errors", "expected"),
    [
        ("A1", 0, 0, ("available", False, "no error")),
        ("B1", 0, 0, ("suspended_evse", True, "no error")),
        ("B1", 1, 0, ("preparing", True, "no error")),
        ("B2", 1, 0, ("suspended_ev", True, "no error")),
        ("C1", 0, 0, ("suspended_evse", True, "no error")),
        ("C2", 1, 0, ("charging", True, "no error")),
        ("C2", 1, 2, ("charging", True, "derating")),
        ("B2", 1, 2, ("suspended_ev", True, "derating")),
        ("B1", 1, 1 << 30, ("faulted", True, "RCD tripped")),
        ("F0", 1, 0, ("unavailable", False, "no error")),
        ("", 1, 0, ("unknown", None, "no error")),
    ],
)
def test_charx_states(mode3, enabled, errors, expected):
    device = Device()
    device.put_text(1, 1299, mode3, 1)
    device.put(1, 1300, "H", enabled)
    device.put(1, 1293, "I", errors)
    values = poll(CHARX, device).values
    assert (values["state"], values.get("plugged"), values["error_code"]) == expected


def test_charx_charge_points_are_thousands_and_the_station_is_not():
    device = Device()
    device.put(1, 3244, "i", 7_400_000)
    device.put_text(1, 100, "charx-1", 10)
    device.put_text(1, 3113, "ABC123", 3)
    assert poll(CHARX, device, connector=3).values["active_power_w"] == 7400.0
    plan = make_plan(load_profile(CHARX), connector=3)
    identity = plan.decode_identity(device.answer(plan.identity))
    assert (identity["model"], identity["serial_number"]) == ("charx-1", "ABC123")


def test_charx_marks_an_unknown_current():
    device = Device()
    device.put(1, 1238, "i", -1)
    reading = poll(CHARX, device)
    assert "current_l1_a" not in reading.values
    assert reading.errors == {}


def writes(name, sequence):
    plan = make_plan(load_profile(name))
    wired = [plan.wire_write(write) for write in sequence(load_profile(name).limit)]
    return [(one.unit_id, one.function, one.address, one.words) for one in wired]


@pytest.mark.parametrize(
    ("name", "sequence", "frames"),
    [
        (ABB, lambda limit: limit.writes_for(10.5504), [(1, 16, 0x4100, (0, 10550))]),
        (ABB, lambda limit: limit.pause_writes(), [(1, 16, 0x4100, (0, 0))]),
        (KEBA, lambda limit: limit.writes_for(16), [(255, 6, 5004, (16000,))]),
        (KEBA, lambda limit: limit.pause_writes(), [(255, 6, 5004, (0,))]),
        (ALFEN, lambda limit: limit.writes_for(10.5), [(1, 16, 1210, (0x4128, 0))]),
        (ALFEN, lambda limit: limit.pause_writes(), [(1, 16, 1210, (0, 0))]),
        (CHARX, lambda limit: limit.writes_for(10.9), [(1, 16, 1301, (10,))]),
        (CHARX, lambda limit: limit.pause_writes(), [(1, 16, 1300, (0,))]),
        (CHARX, lambda limit: limit.resume_writes(8), [(1, 16, 1301, (8,)), (1, 16, 1300, (1,))]),
    ],
)
def test_limits_and_pauses_are_the_vendors_writes(name, sequence, frames):
    assert writes(name, sequence) == frames
