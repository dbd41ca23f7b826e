"""What a poll costs: CPU from the Modbus request to Kafka's confirmation, at one poll a second and recharge point.

python bench/polls.py [recharge points] [seconds]
"""

import sys
import tempfile
import time
from pathlib import Path

from place import gateway, kafka, recharge_points
from yardstick import yardstick

PROFILE = "abb-terra-ac"
WARM_UP_S = 5.0
ROUTE = "evedge.telemetry"


def measure(count: int = 100, seconds: float = 15.0) -> str:
    """One line."""
    with (
        yardstick() as stick,
        tempfile.TemporaryDirectory() as folder,
        kafka() as address,
        recharge_points(PROFILE, count) as ports,
        gateway(Path(folder), address, ports, PROFILE) as run,
    ):
        time.sleep(WARM_UP_S)
        polls, cpu_s = -run.counted("evedge_messages_confirmed_total", ROUTE), -run.cpu_s()
        time.sleep(seconds)
        cpu_s += run.cpu_s()
        polls += run.counted("evedge_messages_confirmed_total", ROUTE)
        memory_mib = run.memory_mib()
    if polls < count * seconds * 0.9:
        return f"CPU per poll, {count} recharge points at 1 Hz: not told, only {polls} polls in {seconds:g} s"
    cost_us = cpu_s / polls * 1e6
    return (
        f"CPU per poll, {count} recharge points at 1 Hz: {cost_us / stick.unit_us:.1f} units "
        f"({cost_us:.0f} µs here, {polls} polls, {memory_mib:.0f} MiB)"
    )


if __name__ == "__main__":
    print(measure(*(int(argument) for argument in sys.argv[1:3])))
