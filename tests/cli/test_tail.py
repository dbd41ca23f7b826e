"""`evedge tail` as a program: what it shows, how it ends, and that it waits for a Kafka that is away."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from cli.kafka_cli import configuration, evedge
from evedge.links.mock_kafka import MockKafka
from kafka_server import RealKafka

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def tail(path: Path, *arguments: str) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "evedge", "tail", "--config", str(path), *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env={"PYTHONUNBUFFERED": "1"})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def stopped(process: Process) -> int:
    process.send_signal(signal.SIGINT)
    return await process.wait()


def put(bootstrap: str, topic: str, value: bytes, key: bytes = b"site-042/rp-01", **more: object) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value=value, key=key, **more)
    assert producer.flush(10) == 0


async def test_records_of_all_topics_are_shown_and_ctrl_c_ends_it(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    path = configuration(tmp_path, real_kafka.bootstrap, unique_name)
    evedge("topics", "--config", str(path), "--create")
    put(real_kafka.bootstrap, f"{unique_name}.telemetry", b'{"seq":1}', timestamp=1_795_424_400_123)
    async with tail(path, "--from-beginning") as process:
        line = (await process.stdout.readline()).decode()
        assert line == f'2026-11-23T09:00:00.123Z  {unique_name}.telemetry  site-042/rp-01  {{"seq":1}}\n'
        put(real_kafka.bootstrap, f"{unique_name}.factory", b"\x00\xff")
        assert (await process.stdout.readline()).decode().endswith("<2 bytes: 00 ff>\n")
        assert await stopped(process) == 0
        assert await process.stderr.read() == b""


async def test_one_stream_as_json_from_now_on(real_kafka: RealKafka, tmp_path: Path, unique_name: str) -> None:
    path = configuration(tmp_path, real_kafka.bootstrap, unique_name)
    topic = f"{unique_name}.alerts"
    async with tail(path, "--topic", "alerts", "--json") as process:
        assert (await process.stderr.readline()).decode() == f"not there yet: {topic}\n"
        evedge("topics", "--config", str(path), "--create")
        put(real_kafka.bootstrap, f"{unique_name}.status", b"not asked for")
        put(
            real_kafka.bootstrap,
            topic,
            b'{"id":"a1"}',
            headers=[("ce_id", b"1-2"), ("odd", b"\xff")],
            timestamp=1_795_424_400_123,
        )
        shown = json.loads(await process.stdout.readline())
        assert shown.pop("partition") in range(3)
        assert shown == {
            "topic": topic,
            "offset": 0,
            "key": "site-042/rp-01",
            "timestamp": "2026-11-23T09:00:00.123Z",
            "headers": {"ce_id": "1-2", "odd": {"base64": "/w=="}},
            "value": {"id": "a1"},
        }
        assert await stopped(process) == 0


async def test_kafka_may_be_away(mock_kafka: MockKafka, tmp_path: Path, unique_name: str) -> None:
    mock_kafka.create_topic(f"{unique_name}.telemetry")
    path = configuration(tmp_path, mock_kafka.bootstrap, unique_name)
    put(mock_kafka.bootstrap, f"{unique_name}.telemetry", b"one")
    async with tail(path, "--topic", "telemetry", "--from-beginning") as process:
        assert (await process.stdout.readline()).endswith(b"  one\n")
        mock_kafka.broker_down()
        assert (await process.stderr.readline()).endswith(b"waiting for it\n")
        mock_kafka.broker_up()
        put(mock_kafka.bootstrap, f"{unique_name}.telemetry", b"two")
        assert (await process.stdout.readline()).endswith(b"  two\n")
        assert await stopped(process) == 0


async def test_without_kafka_it_says_so_and_waits(tmp_path: Path, unique_name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    async with tail(configuration(tmp_path, address, unique_name)) as process:
        said = (await process.stderr.readline()).decode()
        assert said.startswith(f"Kafka at {address} cannot be reached: ")
        assert said.endswith("; waiting for it\n")
        assert await stopped(process) == 0
