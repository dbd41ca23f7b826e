from __future__ import annotations

import contextlib

import pytest
from pymodbus.client import AsyncModbusTcpClient

from evedge.core.profile import Table, load
from evedge.simulator import ManualClock, SimulatedRechargePoint


@pytest.fixture
def clock():
    return ManualClock(1000.0)


@contextlib.asynccontextmanager
async def client_of(recharge_point: SimulatedRechargePoint, *, timeout: float = 3.0):
    """A connected pymodbus client that neither retries nor reconnects."""
    client = AsyncModbusTcpClient(
        recharge_point.host, port=recharge_point.port, timeout=timeout, retries=0, reconnect_delay=0
    )
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()


async def read_register(client, profile, register, *, unit_id=None, moved=0):
    """One register read alone and decoded, or the response that says why not."""
    calls = {
        Table.HOLDING: client.read_holding_registers,
        Table.INPUT: client.read_input_registers,
        Table.COIL: client.read_coils,
        Table.DISCRETE: client.read_discrete_inputs,
    }
    connection = profile.connection
    if unit_id is None:
        station = register.scope == "station" and connection.station_unit_id is not None
        unit_id = connection.station_unit_id if station else connection.unit_id
    call = calls[register.table]
    response = await call(register.address + moved, count=register.words, device_id=unit_id)
    if response.isError():
        return response
    words = response.bits[: register.words] if register.table.is_bits else response.registers
    return register.decode(words)


async def write_all(client, profile, writes):
    """What a commander writes, in its order, with the function the profile asks for."""
    for write in writes:
        register, unit_id = write.register, profile.connection.unit_id
        if register.table is Table.COIL:
            response = await client.write_coil(register.address, bool(write.words[0]), device_id=unit_id)
        elif register.words == 1 and register.write_fc != 16:
            response = await client.write_register(register.address, write.words[0], device_id=unit_id)
        else:
            response = await client.write_registers(register.address, list(write.words), device_id=unit_id)
        assert not response.isError(), (register.name, response)


ODD = """
[device]
vendor = "Oddity"
model = "Two"

[connection]
unit_id = 7
connectors = { by = "address_stride", stride = 100, count = 2 }

[reads]
max_registers = 10
spans = [{ first = 30, last = 35 }]
deny = [{ first = 34, last = 34, why = "it restarts" }]

[defaults]
word_order = "little"

[registers]
status_text = { address = 10, type = "string", count = 1, enum = { A = "no vehicle", B = "vehicle", C = "charging" } }
ready = { table = "discrete", address = 3, type = "bool" }
enable = { table = "coil", address = 400, type = "bool", access = "rw" }
active_power_w = { address = 20, type = "float32", unit = "W" }
energy_import_wh = { table = "input", address = 0, type = "uint32", unit = "Wh", scale = 10 }
current_limit_a = { address = 30, scale = 0.1, unit = "A" }
current_l1_a = { address = 32, scale = 0.1, unit = "A" }
session_duration_s = { address = 36, type = "uint32", unit = "s" }
limit_set = { address = 50, scale = 0.1, unit = "A", access = "rw", min = 6, max = 16 }
extra = { address = 51, access = "rw", enum = { 1 = "one", 2 = "two" } }
secret = { address = 60, access = "w", type = "uint32" }
silence_timeout = { address = 70, unit = "s", access = "rw", min = 0, max = 600 }
silence_current = { address = 71, unit = "A", access = "rw", min = 6, max = 16, also = [0] }
serial_number = { address = 80, type = "string", count = 8, scope = "station" }

[[state]]
when = "status_text == 'A'"
is = "available"
[[state]]
when = "status_text == 'C' and ready"
is = "charging"
[[state]]
when = "status_text == 'B' and not enable"
is = "suspended_evse"
[[state]]
when = "status_text == 'B' and ready"
is = "suspended_ev"
[[state]]
when = "status_text == 'B'"
is = "preparing"

[plugged]
when = "status_text in ('B', 'C')"

[limit]
register = "limit_set"
pause = [{ register = "enable", value = false }]
resume = [{ register = "limit_set", value = "limit" }, { register = "enable", value = true }]

[failsafe]
kind = "any_write"
timeout = "silence_timeout"
timeout_off = 0
fallback_current = "silence_current"
"""
"""A device nobody sells: every table, text states, little words, a stride, a hole that may be read and one that not."""


@pytest.fixture
def odd():
    return load(ODD, "odd")
