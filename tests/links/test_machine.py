"""The machine's readings, from this machine."""

import asyncio
import threading

import pytest

from evedge.core.errors import Outage
from evedge.links.machine import Machine


async def test_it_reads_this_machine(tmp_path):
    reading = await Machine(tmp_path).read()
    assert 0 <= reading.cpu_percent <= 100
    assert 0 < reading.memory_used_percent < 100
    assert reading.memory_available_bytes > 0
    assert reading.disk_free_bytes > 0
    assert reading.process_rss_bytes > 1_000_000
    assert reading.load_1m >= 0
    assert reading.temperature_c is None or -40 < reading.temperature_c < 150


async def test_a_directory_that_is_gone_is_an_outage(tmp_path):
    with pytest.raises(Outage, match=r"the machine's readings: .*No such file"):
        await Machine(tmp_path / "gone").read()


async def test_while_one_reading_hangs_no_other_one_is_begun(tmp_path, monkeypatch):
    machine = Machine(tmp_path)
    go_on = threading.Event()
    take = machine._read
    monkeypatch.setattr(machine, "_read", lambda: go_on.wait(10) and take())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await machine.read()
    with pytest.raises(Outage, match="still hang"):
        await machine.read()
    go_on.set()
    await machine._reading
    assert (await machine.read()).process_rss_bytes
