"""Every figure, one a line, as ratios: python bench/run.py

A unit is a turn of a fixed loop in pure Python on the same machine in the same minute (yardstick.py): compare units,
never microseconds of two machines. The machine is shared with Kafka and the recharge points, so take differences below
a tenth for noise.
"""

import subprocess
import sys
from pathlib import Path

import durable
import polls


def main() -> None:
    for measure in (polls.measure, durable.measure):
        print(measure(), flush=True)
    print("\nDeliveries to subscribers (mqtt_router.py):", flush=True)
    subprocess.run([sys.executable, Path(__file__).with_name("mqtt_router.py")], check=True)


if __name__ == "__main__":
    main()
