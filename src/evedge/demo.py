"""Everything on one machine: simulated recharge points, the gateway, and a Kafka in memory unless one is given.

The parts are the real ones and talk over real TCP; only Kafka is librdkafka's mock cluster. What the gateway runs with
is written as a configuration file, so that a second terminal can use it: `evedge send --config FILE rp-01 …`.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from evedge.app import Addresses, Gateway, Signals
from evedge.config import Config, load
from evedge.config_kafka import kafka_settings, kafka_topics
from evedge.config_profiles import resolve_profiles
from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import EvedgeError, Outage
from evedge.core.model import Stream
from evedge.links.kafka_admin import KafkaAdmin
from evedge.links.kafka_reader import KafkaReader
from evedge.links.kafka_settings import KafkaSettings
from evedge.links.mock_kafka import MockKafka
from evedge.links.systemd import Systemd
from evedge.profiles import load_profile
from evedge.simulator.simulation import Simulation

PROFILE = "abb-terra-ac"
SEED = 7
PARTITIONS = 3
READ_TIMEOUT_S = 0.5
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """recharge_points: how many. kafka: a real one's `host:port`; None: in memory."""

    recharge_points: int = 3
    kafka: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the parts of a running demo are."""

    config_file: Path
    addresses: Addresses
    kafka: str
    modbus_ports: tuple[int, ...]


async def run_demo(
    settings: Settings,
    signals: Signals,
    *,
    started: Callable[[Place], None],
    arrived: Callable[[ConsumedRecord], None],
) -> None:
    """Run until `signals.stop`. `started` is told where everything is, `arrived` of each telemetry record on Kafka."""
    async with AsyncExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="evedge-demo-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        simulation = await stack.enter_async_context(
            Simulation(load_profile(PROFILE), count=settings.recharge_points, seed=SEED)
        )
        ports = tuple(point.port for point in simulation.recharge_points)
        mock = stack.enter_context(MockKafka()) if settings.kafka is None else None
        bootstrap = mock.bootstrap if mock is not None else settings.kafka or ""
        file = directory / "evedge.toml"
        file.write_text(_configuration(directory, ports, bootstrap))
        config = load(file, environ={})
        client = kafka_settings(config)
        if client is None:
            raise EvedgeError("the demo's configuration names no Kafka")
        await _make_topics(config, client, mock)

        def ready(addresses: Addresses) -> None:
            started(Place(file, addresses, bootstrap, ports))

        watching = asyncio.create_task(_watch(config, client, arrived), name="demo[watch]")
        try:
            await Gateway(config, resolve_profiles(config), systemd=Systemd({}), ready=ready).run(signals)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _make_topics(config: Config, client: KafkaSettings, mock: MockKafka | None) -> None:
    specs = kafka_topics(config)
    if mock is not None:
        for spec in specs:
            mock.create_topic(spec.name, PARTITIONS)
        return
    async with KafkaAdmin(client) as admin:
        existing = await admin.existing_topics()
        await admin.create([spec for spec in specs if spec.name not in existing])


async def _watch(config: Config, client: KafkaSettings, arrived: Callable[[ConsumedRecord], None]) -> None:
    """Reads telemetry back from Kafka, as somebody in the cloud would."""
    topics = config.kafka.topics.resolved(config.gateway.id) if config.kafka is not None else {}
    reader = KafkaReader(client, [topics[Stream.TELEMETRY]])
    while True:
        try:
            async with reader:
                while True:
                    for record in await reader.read(READ_TIMEOUT_S):
                        arrived(record)
        except Outage:
            await asyncio.sleep(RETRY_S)
            reader = KafkaReader(client, [topics[Stream.TELEMETRY]], positions=reader.positions)


def _configuration(directory: Path, ports: Sequence[int], kafka: str) -> str:
    points = "\n".join(
        f'[[recharge_points]]\nid = "rp-{number:02d}"\nhost = "127.0.0.1"\nport = {port}\nprofile = "{PROFILE}"\n'
        for number, port in enumerate(ports, 1)
    )
    return f"""# Written by `evedge demo`; gone when it ends.
[gateway]
id = "demo"
state_dir = "{directory}"

[mqtt]
bind = "127.0.0.1:{_free_port(1883)}"
allow_anonymous = true

[kafka]
bootstrap_servers = ["{kafka}"]

[[routes]]
mqtt_topic = "factory/+/energy"
kafka_topic = "factory.energy"
key = "{{1}}"

[web]
bind = "127.0.0.1:{_free_port(8080)}"

{points}"""


def _free_port(wanted: int) -> int:
    """The port people expect where it is free, any other where it is not."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in (wanted, 0):
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    return 0
