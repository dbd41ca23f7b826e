"""`evedge status` as a program, against a web server on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest

from evedge.cli.status import duration
from evedge.core.status import UNTOUCHED, LimitNow
from evedge.web.server import WebServer
from status_example import STATUS, TurnedSource


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with WebServer("127.0.0.1", 0, TurnedSource()) as server:
        yield server


async def evedge(*arguments: str, stdout: int = asyncio.subprocess.PIPE, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "evedge", *arguments, stdout=stdout, stderr=asyncio.subprocess.PIPE, env=environment
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, (out or b"").decode(), err.decode()


async def test_a_pipe_gets_plain_lines(server: WebServer) -> None:
    code, out, err = await evedge("status", "--url", f"http://{server.address}")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert out.splitlines()[0] == (
        "gateway site-042 is online, evedge 1.2.3, up 3 h 5 min since 2026-11-23T09:00:00.000Z"
    )
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for wanted in (
        "offline rp-07 2026-11-23T09:00:00.000Z agent plc-1 is not connected",
        "rp-01 online charging 11.04 kW 10.0 A 10 A: market limit 0.4 s -",
        "rp-07 offline - - - - - agent plc-1 is not connected",
        "rp-01 market 10 A 2026-11-23T12:20:00.000Z dr-service, command c-1",
        "MQTT up 127.0.0.1:1883, 3 clients",
        "Kafka down 127.0.0.1:9092: connection refused",
        "evedge.telemetry blocked Kafka at 127.0.0.1:9092: connection refused",
        "journal up 4,096 of 1,048,576 bytes, 8 waiting",
        "evedge.telemetry 100 91 8 1 dead_letter",
    ):
        assert wanted in lines


async def test_a_terminal_gets_tables(server: WebServer) -> None:
    terminal, end = pty.openpty()
    try:
        code, _, err = await evedge("status", "--url", f"http://{server.address}", stdout=end, TERM="xterm-256color")
        seen = os.read(terminal, 65_536).decode(errors="replace")
    finally:
        os.close(terminal)
        os.close(end)
    assert (code, err) == (0, "")
    assert "\x1b[32monline" in seen
    assert "───" in seen


async def test_json_is_what_the_api_serves(server: WebServer) -> None:
    code, out, _ = await evedge("status", "--url", f"http://{server.address}", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(msgspec.json.encode(STATUS))


async def test_a_proxy_of_the_environment_is_not_asked(server: WebServer) -> None:
    code, _, _ = await evedge("status", "--url", f"http://{server.address}", http_proxy="http://127.0.0.1:1")
    assert code == 0


async def test_nobody_there_is_one_line(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    assert await evedge("status", "--url", url) == (
        1,
        "",
        f"evedge: {url}: no evedge answers there (Connection refused)\n",
    )


async def test_another_server_is_one_line() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n<html/>")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        code, out, err = await evedge("status", "--url", f"http://127.0.0.1:{port}")
    assert (code, out) == (1, "")
    assert err.startswith(f"evedge: http://127.0.0.1:{port} answers, but not as this version of evedge does: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999999"])
async def test_a_url_that_is_none_is_wrong_usage(url: str) -> None:
    code, _, err = await evedge("status", "--url", url)
    assert code == 2
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (41.2, "41 s"),
        (119.9, "120 s"),
        (720, "12 min"),
        (11_100, "3 h 5 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_a_device_that_nobody_commanded_is_told_in_few_words() -> None:
    point = msgspec.structs.replace(
        STATUS.recharge_points[0], limit=LimitNow(current_a=None, paused=False, why=UNTOUCHED, holds=[])
    )
    source = TurnedSource()
    source.shown = msgspec.structs.replace(STATUS, recharge_points=[point])
    async with WebServer("127.0.0.1", 0, source) as server:
        code, out, _ = await evedge("status", "--url", f"http://{server.address}")
    assert code == 0
    assert "rp-01 online charging 11.04 kW 10.0 A as the device has it 0.4 s -" in [
        " ".join(line.split()) for line in out.splitlines()
    ]
