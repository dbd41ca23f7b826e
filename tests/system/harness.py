"""The gateway as a process, and the world around it: a configuration file, systemd's socket, Kafka read back, clients.

Nothing here knows how the gateway works inside; it is started as systemd starts it and judged by what comes out.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from evedge.config import load
from evedge.config_kafka import kafka_settings, kafka_topics
from evedge.core.delivery import ConsumedRecord
from evedge.links.kafka_admin import KafkaAdmin
from evedge.links.kafka_reader import KafkaReader
from evedge.links.kafka_settings import KafkaSettings
from evedge.simulator import SimulatedRechargePoint

DEADLINE_S = 30.0
"""For whatever must happen at all; far longer than it takes."""
INHERITED = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
"""Nothing else of this environment reaches the programs: no EVEDGE__ setting, no NOTIFY_SOCKET of somebody else's."""
STREAMS = (
    "telemetry",
    "alerts",
    "status",
    "gateway_telemetry",
    "gateway_status",
    "commands",
    "command_results",
    "dead_letters",
)


def free_port() -> int:
    """A port below those the system gives out by itself, so that nobody takes it while a gateway is down."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def polled(name: str, recharge_point: SimulatedRechargePoint, **keys: float) -> str:
    """A recharge point that the gateway reads, as the configuration names it."""
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return (
        f'[[recharge_points]]\nid = "{name}"\nhost = "127.0.0.1"\nport = {recharge_point.port}\n'
        f'unit_id = {recharge_point.unit_id}\nprofile = "{recharge_point.profile.name}"\n{more}'
    )


def configuration(
    folder: Path, name: str, *, kafka: str | None = None, mqtt_port: int, more: str = "", mqtt: str = ""
) -> str:
    """A site's file. Its gateway id and its Kafka topics begin with `name`, so that tests share a Kafka.

    Every topic below `factory/` is routed: its second level is the key. `mqtt` are further lines of that section.
    """
    topics = "\n".join(f'{stream} = "{name}.{stream}"' for stream in STREAMS)
    cloud = f"""
[kafka]
bootstrap_servers = ["{kafka}"]
[kafka.topics]
{topics}
[[routes]]
mqtt_topic = "factory/+/#"
kafka_topic = "{name}.factory"
key = "{{1}}"
content_type = "application/x-factory"
"""
    return f"""
[gateway]
id = "{name}"
state_dir = "{folder / "state"}"
[mqtt]
bind = "127.0.0.1:{mqtt_port}"
{mqtt or "allow_anonymous = true"}
[web]
bind = ""
{cloud if kafka is not None else ""}
{more}
"""


class NotifySocket:
    """What systemd would hear, line by line."""

    def __init__(self) -> None:
        self.address = f"@evedge-test-{uuid4().hex}"
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind("\0" + self.address[1:])

    async def hear(self, beginning: str) -> str:
        """The next line that begins so; what came before it is in `heard` too."""
        loop = asyncio.get_running_loop()
        while True:
            lines = (await loop.sock_recv(self._socket, 8192)).decode().splitlines()
            self.heard += lines
            for line in lines:
                if line.startswith(beginning):
                    return line

    def close(self) -> None:
        self._socket.close()


@dataclass
class GatewayProcess:
    """`evedge --config FILE`. Started again and again in one folder; its logs of all runs are in one file."""

    folder: Path
    text: str
    environ: Mapping[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        self.file = self.folder / "evedge.toml"
        self.file.write_text(self.text)
        self.stderr = self.folder / "stderr.log"
        self.stdout = self.folder / "stdout.log"
        self.notify = NotifySocket()

    async def spawn(self) -> None:
        """Start, and do not wait until it is ready."""
        environ = {**INHERITED, "NOTIFY_SOCKET": self.notify.address, **self.environ}
        with self.stdout.open("ab") as stdout, self.stderr.open("ab") as stderr:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "evedge",
                "--config",
                str(self.file),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environ,
            )

    async def start(self) -> Self:
        """Start, and return when it told systemd that it is ready."""
        await self.spawn()
        assert self.process is not None
        ready = asyncio.create_task(self.notify.hear("READY=1"))
        ended = asyncio.create_task(self.process.wait())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            assert ready.done(), f"ended with {self.process.returncode}:\n{self.said()}"
        finally:
            for task in (ready, ended):
                task.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status once it is gone."""
        assert self.process is not None
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """SIGKILL: as a power cut, for everything but the disk."""
        self.signal(signal.SIGKILL)
        await self.ended()

    def reconfigure(self, text: str) -> None:
        """The file as it is from now on; a running gateway reads it at SIGHUP."""
        self.text = text
        self.file.write_text(text)

    # What it said.

    def said(self) -> str:
        """Everything on standard error, of all runs."""
        return self.stderr.read_text()

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The log's lines, or those of one event."""
        found = [json.loads(line) for line in self.said().splitlines()]
        return [event for event in found if name is None or event["event"] == name]

    async def logged(self, name: str, **facts: object) -> dict[str, Any]:
        """Wait until the log tells an event, with these facts."""
        return await eventually(
            lambda: next((each for each in self.events(name) if facts.items() <= each.items()), None),
            f"event {name} {facts}",
        )

    def check_log(self) -> None:
        """Nothing but events, one a line, and no traceback in any of them."""
        assert "Traceback" not in self.said(), self.said()
        assert "task_failed" not in self.said()
        assert self.events() or not self.said()
        assert not self.stdout.read_bytes()

    # The cloud side.

    @property
    def kafka(self) -> KafkaSettings:
        settings = kafka_settings(load(self.file, environ={}))
        assert settings is not None
        return settings

    async def create_topics(self) -> None:
        async with KafkaAdmin(self.kafka) as admin:
            await admin.create(kafka_topics(load(self.file, environ={})))

    async def records(
        self, *streams: str, until: Callable[[list[ConsumedRecord]], object] = lambda _: False
    ) -> list[ConsumedRecord]:
        """Those topics from their beginning, read until what was read satisfies; in each partition's own order."""
        name = load(self.file, environ={}).gateway.id
        found: list[ConsumedRecord] = []
        async with KafkaReader(self.kafka, [f"{name}.{stream}" for stream in streams], from_beginning=True) as reader:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    while not until(found):
                        found += await reader.read(0.2)
            except TimeoutError:
                what = f"{streams}: not among {len(found)} records, of them {found[-3:]}\n{self.said()[-3000:]}"
                raise AssertionError(what) from None
        return sorted(found, key=lambda record: (record.topic, record.partition, record.offset))

    async def produce(self, stream: str, value: bytes | None, *, key: bytes) -> None:
        """A record on a topic of the gateway's, as anybody may write it."""
        name = load(self.file, environ={}).gateway.id
        async with AIOKafkaProducer(bootstrap_servers=",".join(self.kafka.bootstrap_servers)) as producer:
            await producer.send_and_wait(f"{name}.{stream}", value, key=key)

    async def evedge(self, *arguments: str) -> Finished:
        """Another command of the same program with the same file."""
        command, *others = arguments
        return await evedge(command, "--config", str(self.file), *others)


@asynccontextmanager
async def gateway(folder: Path, text: str, *, topics: bool = True, **environ: str) -> AsyncIterator[GatewayProcess]:
    """A running gateway; at the end it is stopped, and its log holds nothing but clean events."""
    process = GatewayProcess(folder, text, environ)
    try:
        if topics and "[kafka]" in text:
            await process.create_topics()
        await process.start()
        yield process
        if process.process is not None and process.process.returncode is None:
            assert await process.stop() == 0, process.said()
        process.check_log()
    finally:
        await end(process)


async def end(process: GatewayProcess) -> None:
    """However a test ended, nothing is left running."""
    if process.process is not None and process.process.returncode is None:
        process.process.kill()
        await process.process.wait()
    process.notify.close()


@dataclass(frozen=True)
class Finished:
    """What a command did."""

    status: int
    stdout: str
    stderr: str


async def evedge(*arguments: str) -> Finished:
    """`evedge …` until it ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "evedge",
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=INHERITED,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Finished(process.returncode, stdout.decode(), stderr.decode())


async def eventually(look: Callable[[], Any], what: str) -> Any:
    """What `look` finds, once it finds something."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (found := look()):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None
    return found


def decoded(records: Iterable[ConsumedRecord]) -> list[dict[str, Any]]:
    """The records' JSON values."""
    return [json.loads(record.value or b"") for record in records]


def headers(record: ConsumedRecord) -> dict[str, str]:
    """A record's headers as text; none may come twice."""
    found = {name: value.decode() for name, value in record.headers}
    assert len(found) == len(record.headers)
    return found


def of(records: Iterable[ConsumedRecord], recharge_point: str) -> list[dict[str, Any]]:
    """One recharge point's values, in their order."""
    return [value for value in decoded(records) if value.get("recharge_point") == recharge_point]


def distinct(records: Sequence[ConsumedRecord]) -> list[ConsumedRecord]:
    """As a consumer sees them that drops what carries a `ce_id` it has seen; the same id is the same message."""
    first: dict[str, ConsumedRecord] = {}
    for record in records:
        seen = first.setdefault(headers(record)["ce_id"], record)
        assert (seen.key, seen.value, seen.headers) == (record.key, record.value, record.headers)
    return list(first.values())
