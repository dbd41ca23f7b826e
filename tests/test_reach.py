"""What `evedge check --connect` tries, against real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from evedge.config import Config, parse
from evedge.config.mistakes import Data
from evedge.config_profiles import resolve_profiles
from evedge.reach import try_everything


@contextlib.asynccontextmanager
async def listening(connections: list[str] | None = None) -> AsyncIterator[int]:
    """A TCP server that takes connections and says nothing; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connections is not None:
            connections.append("one")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def closed_port() -> int:
    with contextlib.closing(socket.socket()) as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def config(**sections: Data) -> Config:
    quiet: dict[str, Data] = {"gateway": {"id": "a"}, "mqtt": {"bind": "127.0.0.1:0"}, "web": {"bind": ""}}
    return parse(quiet | sections)


def point(name: str, port: int, **keys: Data) -> dict[str, Data]:
    return {"id": name, "host": "127.0.0.1", "port": port, "profile": "abb-terra-ac", **keys}


async def tried(given: Config) -> list[tuple[str, bool, str]]:
    trials = await try_everything(given, resolve_profiles(given), deadline_s=2.0)
    return [(trial.subject, trial.ok, trial.seen) for trial in trials]


async def test_a_recharge_point_that_answers_and_one_that_does_not() -> None:
    async with listening() as port:
        dead = closed_port()
        found = await tried(config(recharge_points=[point("rp-01", port), point("rp-02", dead)]))
    assert found == [
        ("mqtt.bind", True, "127.0.0.1:0 is free"),
        ("recharge point rp-01", True, f"127.0.0.1:{port} accepts connections"),
        ("recharge point rp-02", False, f"127.0.0.1:{dead}: connection refused"),
    ]


async def test_recharge_points_behind_one_address_share_one_connection() -> None:
    connections: list[str] = []
    async with listening(connections) as port:
        found = await tried(config(recharge_points=[point("rp-01", port, unit_id=1), point("rp-02", port, unit_id=2)]))
    assert [ok for _, ok, _ in found] == [True, True, True]
    assert connections == ["one"]


async def test_an_address_in_use_is_said_so() -> None:
    async with listening() as port:
        found = await tried(config(mqtt={"bind": f"127.0.0.1:{port}"}))
    assert found == [
        ("mqtt.bind", False, f"127.0.0.1:{port} is in use: evedge runs already, or another program is there")
    ]


async def test_an_address_of_another_machine_is_said_so() -> None:
    found = await tried(config(web={"bind": "192.0.2.1:8080"}))
    assert found[1] == ("web.bind", False, "192.0.2.1:8080: cannot assign requested address")


async def test_a_broker_elsewhere_and_kafka_are_connected_to() -> None:
    async with listening() as broker, listening() as kafka:
        dead = closed_port()
        found = await tried(
            config(
                mqtt={"url": f"mqtt://127.0.0.1:{broker}"},
                kafka={"bootstrap_servers": [f"127.0.0.1:{kafka}", f"127.0.0.1:{dead}"]},
            )
        )
    assert found == [
        ("mqtt.url", True, f"127.0.0.1:{broker} accepts connections"),
        ("kafka.bootstrap_servers", True, f"127.0.0.1:{kafka} accepts connections"),
        ("kafka.bootstrap_servers", False, f"127.0.0.1:{dead}: connection refused"),
    ]


async def test_a_silent_address_costs_one_deadline() -> None:
    """A listener whose queue is full lets further connections wait."""
    with contextlib.closing(socket.socket()) as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            client = waiting.enter_context(contextlib.closing(socket.socket()))
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        given = config(recharge_points=[point("rp-01", port)])
        trials = await try_everything(given, resolve_profiles(given), deadline_s=0.2)
    assert trials[1].seen == f"127.0.0.1:{port}: no connection within 0.2 s"
