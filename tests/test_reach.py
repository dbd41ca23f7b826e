"""What `evedge check --connect` tries, against real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from evedge.config import Config, parse
from evedge.config.mistakes import Data
from evedge.config_profiles import resolve_profiles
from evedge.core.plan import make_plan
from evedge.links.mock_kafka import MockKafka
from evedge.profiles import load_profile
from evedge.reach import try_everything
from modbus_peer import Peer, Request, silent


@contextlib.asynccontextmanager
async def listening(*, hang_up: bool = False) -> AsyncIterator[int]:
    """A TCP server that takes connections and says nothing; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not hang_up:
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
    dead = closed_port()
    async with Peer() as peer:
        found = await tried(config(recharge_points=[point("rp-01", peer.port), point("rp-02", dead)]))
    plan = make_plan(load_profile("abb-terra-ac"))
    block = next(block for block in (*plan.poll, *plan.identity) if not block.optional)
    assert found == [
        ("mqtt.bind", True, "127.0.0.1:0 is free"),
        ("recharge point rp-01", True, f"127.0.0.1:{peer.port} answers ({block})"),
        ("recharge point rp-02", False, f"127.0.0.1:{dead}: connection refused"),
    ]
    assert [request.function for request in peer.requests] == [3], "one read, and no write"


async def test_recharge_points_behind_one_address_share_one_connection() -> None:
    async with Peer() as peer:
        points = [point("rp-01", peer.port, unit_id=1), point("rp-02", peer.port, unit_id=2)]
        found = await tried(config(recharge_points=points))
    assert [ok for _, ok, _ in found] == [True, True, True]
    assert [request.unit_id for request in peer.requests] == [1, 2]
    assert peer.connections == 1


async def test_a_device_that_refuses_does_not_fit_its_profile() -> None:
    async def refuse(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.exception(2))

    async with Peer(refuse) as peer:
        found = await tried(config(recharge_points=[point("rp-01", peer.port)]))
    assert found[1] == (
        "recharge point rp-01",
        False,
        f"127.0.0.1:{peer.port} answers, but refuses the first request of abb-terra-ac: illegal data address",
    )


async def test_a_device_that_says_nothing_costs_its_timeout() -> None:
    async with Peer(silent) as peer:
        found = await tried(config(recharge_points=[point("rp-01", peer.port, timeout_s=0.1)]))
    assert found[1] == ("recharge point rp-01", False, f"127.0.0.1:{peer.port}: no answer within 0.1 s")


async def test_topics_that_kafka_lacks_are_named(mock_kafka: MockKafka) -> None:
    for topic in ("evedge.telemetry", "evedge.alerts", "evedge.status", "evedge.commands", "factory.energy"):
        mock_kafka.create_topic(topic)
    server = mock_kafka.bootstrap
    routes: list[Data] = [{"mqtt_topic": "factory/+/energy", "kafka_topic": "factory.energy"}]
    found = await tried(config(kafka={"bootstrap_servers": [server]}, routes=routes))
    lacking = ("gateway-telemetry", "gateway-status", "command-results", "dead-letters")
    assert found[1:] == [
        ("kafka.bootstrap_servers", True, f"{server} accepts connections"),
        *(
            (f"Kafka topic evedge.{name}", False, "is not there, or not for this user: `evedge topics --create`")
            for name in lacking
        ),
        ("kafka.topics", False, "5 of 9 topics are there"),
    ]


async def test_an_address_in_use_is_said_so() -> None:
    async with listening() as port:
        found = await tried(config(mqtt={"bind": f"127.0.0.1:{port}"}))
    assert found == [
        ("mqtt.bind", False, f"127.0.0.1:{port} is in use: evedge runs already, or another program is there")
    ]


async def test_an_address_of_another_machine_is_said_so() -> None:
    found = await tried(config(web={"bind": "192.0.2.1:8080"}))
    assert found[1] == ("web.bind", False, "192.0.2.1:8080: cannot assign requested address")


async def test_a_broker_elsewhere_is_connected_to() -> None:
    async with listening() as broker:
        found = await tried(config(mqtt={"url": f"mqtt://127.0.0.1:{broker}"}))
    assert found == [("mqtt.url", True, f"127.0.0.1:{broker} accepts connections")]


async def test_what_is_not_kafka_is_said_so() -> None:
    async with listening(hang_up=True) as port:
        found = await tried(config(kafka={"bootstrap_servers": [f"127.0.0.1:{port}"]}))
    assert found[1][:2] == ("kafka.bootstrap_servers", True)
    assert found[2][:2] == ("kafka", False)
    assert found[2][2].startswith(f"Kafka at 127.0.0.1:{port} cannot be reached")


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
