"""The parts of a measurement, each in a process of its own: Kafka in memory, recharge points, the gateway.

What is measured is the gateway's CPU time alone, user and system, between two moments at which nothing is under way.
"""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_TIMEOUT_S = 30.0
_STREAMS = "telemetry alerts status gateway-telemetry gateway-status commands command-results dead-letters"
_TOPICS = ["factory", *(f"evedge.{name}" for name in _STREAMS.split())]
_KAFKA = """
import sys
from evedge.links.mock_kafka import MockKafka
with MockKafka(dict.fromkeys(sys.argv[1:], 3)) as kafka:
    print(kafka.bootstrap, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _running(*arguments: str, **options) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def kafka() -> Iterator[str]:
    """Its `host:port`."""
    with _running("-c", _KAFKA, *_TOPICS, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()


@contextmanager
def recharge_points(profile: str, count: int) -> Iterator[list[int]]:
    """Their ports. Cars charge there, so values change from poll to poll."""
    arguments = ("-m", "evedge", "simulate", "--profile", profile, "--count", str(count), "--port", "0")
    with _running(*arguments, stdout=subprocess.PIPE, text=True) as process:
        yield [int(re.search(r":(\d+) unit id", process.stdout.readline())[1]) for _ in range(count)]


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    process: psutil.Process
    mqtt_port: int
    web_port: int

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    def memory_mib(self) -> float:
        return self.process.memory_info().rss / 2**20

    def counted(self, metric: str, route: str) -> int:
        """One of its counters, summed over what else it is told apart by."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        wanted = [line for line in lines if line.startswith(metric + "{") and f'route="{route}"' in line]
        return round(sum(float(line.rpartition(" ")[2]) for line in wanted))


@contextmanager
def gateway(folder: Path, kafka_address: str, ports: list[int], profile: str) -> Iterator[Gateway]:
    """Ready inside."""
    mqtt_port, web_port = _free_port(), _free_port()
    points = "".join(
        f'[[recharge_points]]\nid = "rp-{number}"\nhost = "127.0.0.1"\nport = {port}\nprofile = "{profile}"\n'
        f"poll_interval_s = 1.0\n"
        for number, port in enumerate(ports)
    )
    file = folder / "evedge.toml"
    file.write_text(f"""
[gateway]
id = "bench"
state_dir = "{folder / "state"}"
[mqtt]
bind = "127.0.0.1:{mqtt_port}"
allow_anonymous = true
[kafka]
bootstrap_servers = ["{kafka_address}"]
[[routes]]
mqtt_topic = "factory/#"
kafka_topic = "factory"
[web]
bind = "127.0.0.1:{web_port}"
[log]
level = "warning"
{points}""")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notify:
        name = f"evedge-bench-{os.getpid()}"
        notify.bind("\0" + name)
        notify.settimeout(START_TIMEOUT_S)
        environ = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": "@" + name}
        with _running("-m", "evedge", "--config", str(file), env=environ) as process:
            while b"READY=1" not in notify.recv(8192):
                pass
            yield Gateway(psutil.Process(process.pid), mqtt_port, web_port)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
