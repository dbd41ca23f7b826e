"""The machine's own readings, by psutil. Taken in a thread: a disk or a sensor that hangs must not stop the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from evedge.core.errors import Outage
from evedge.core.machine import MachineReading

CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
"""Names of the sensors that stand for the processor, the best first; where none is known the hottest one counts."""


class Machine:
    """Reads the machine that `state_dir` lies on. CPU figures are over the time between two readings."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._process = psutil.Process()
        self._reading: asyncio.Future[MachineReading] | None = None
        psutil.cpu_percent()  # both begin to count here
        self._process.cpu_percent()

    async def read(self) -> MachineReading:
        """Raises Outage when nothing can be read, or when the reading before still hangs."""
        if self._reading is not None and not self._reading.done():
            raise Outage("the machine's readings still hang")
        self._reading = asyncio.get_running_loop().run_in_executor(None, self._read)
        try:
            return await asyncio.shield(self._reading)
        except (psutil.Error, OSError) as error:
            raise Outage(f"the machine's readings: {error}") from error

    def _read(self) -> MachineReading:
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(os.fspath(self._state_dir))
        return MachineReading(
            cpu_percent=psutil.cpu_percent(),
            load_1m=round(os.getloadavg()[0], 2),
            memory_used_percent=memory.percent,
            memory_available_bytes=memory.available,
            disk_used_percent=disk.percent,
            disk_free_bytes=disk.free,
            temperature_c=_temperature_c(),
            process_cpu_percent=self._process.cpu_percent(),
            process_rss_bytes=self._process.memory_info().rss,
        )


def _temperature_c() -> float | None:
    """The processor's temperature in °C; None where the machine has no sensor (a virtual machine, a container)."""
    sensors: dict[str, list[object]] = {}
    if hasattr(psutil, "sensors_temperatures"):  # not on every system
        with contextlib.suppress(OSError, ValueError):  # drivers come and go, and some write nonsense
            sensors = psutil.sensors_temperatures()
    for name in CPU_SENSORS:
        if (found := _hottest(sensors.get(name, ()))) is not None:
            return found
    return _hottest(reading for readings in sensors.values() for reading in readings)


def _hottest(readings: Iterable[object]) -> float | None:
    values = [getattr(reading, "current", None) for reading in readings]
    return max((float(value) for value in values if value is not None and -40 < value < 150), default=None)
