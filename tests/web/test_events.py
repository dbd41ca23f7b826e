"""Server-sent events on a real socket, with listeners of every kind."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from structlog.testing import capture_logs

from evedge.core.model import Link
from evedge.web import events
from evedge.web.server import WebServer
from status_example import STATUS, TurnedSource

PATH = "/api/v1/events"
replace = msgspec.structs.replace


class CountedSource(TurnedSource):
    """Counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def status(self):
        self.asked += 1
        return super().status()


class BusySource(TurnedSource):
    """Something long changes at every look."""

    def __init__(self):
        super().__init__()
        self.looks = 0

    def status(self):
        self.looks += 1
        queue = replace(STATUS.queues[0], kafka_topic="t" * 500_000, accepted=self.looks)
        return replace(STATUS, queues=[queue])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(events, "EVERY_S", 0.02)


@pytest.fixture
def source():
    return CountedSource()


@pytest.fixture
async def server(source):
    async with WebServer("127.0.0.1", 0, source) as server:
        yield server


@pytest.fixture
async def client(server):
    async with ClientSession(
        f"http://{server.address}", timeout=ClientTimeout(total=20), cookie_jar=DummyCookieJar()
    ) as client:
        yield client


async def frame(answer):
    """The next event's name and data; of a comment, None and its text."""
    text = (await answer.content.readuntil(b"\n\n")).decode()
    lines = text.removesuffix("\n\n").split("\n")
    if lines[0].startswith(":"):
        return None, lines[0]
    (event, data) = lines
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def nobody_listens(server):
    async with asyncio.timeout(10):
        while server.listening:
            await asyncio.sleep(0)


def offline():
    point = replace(STATUS.recharge_points[0], state=Link.OFFLINE, reason="no answer")
    return replace(STATUS, recharge_points=[point, STATUS.recharge_points[1]])


@asynccontextmanager
async def deaf(server):
    """A listener that reads nothing of what it is sent, and has little room for it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as mute:
        mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        mute.setblocking(False)
        await loop.sock_connect(mute, ("127.0.0.1", server.port))
        await loop.sock_sendall(mute, f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield mute


async def test_the_first_event_is_the_status_and_then_what_changed(client, source):
    async with client.get(PATH) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert await frame(answer) == ("status", msgspec.to_builtins(STATUS))
        source.shown = offline()
        event, data = await frame(answer)
        assert event == "change"
        assert list(data) == ["recharge_points"]
        assert [(point["id"], point["state"]) for point in data["recharge_points"]] == [("rp-01", "offline")]


async def test_a_listener_that_comes_again_starts_with_everything(client, source):
    async with client.get(PATH) as answer:
        await frame(answer)
    source.shown = offline()
    async with client.get(PATH, headers={"Last-Event-ID": "17"}) as answer:
        event, data = await frame(answer)
        assert (event, data["gateway"]["id"]) == ("status", "site-042")
        while data["recharge_points"][0]["state"] != "offline":  # of a second ago at most; then the change follows
            _, data = await frame(answer)


async def test_one_that_joins_later_gets_the_same_changes(client, source):
    async with client.get(PATH) as first, client.get(PATH) as second:
        await frame(first)
        await frame(second)
        source.shown = offline()
        assert await frame(first) == await frame(second)
        async with client.get(PATH) as third:
            event, data = await frame(third)
            assert (event, data["recharge_points"][0]["state"]) == ("status", "offline")
            source.shown = STATUS
            assert await frame(first) == await frame(third)


async def test_one_that_joins_a_quiet_gateway_gets_the_ages_of_now(client, source):
    async with client.get(PATH) as first:
        await frame(first)
        source.shown = replace(STATUS, gateway=replace(STATUS.gateway, uptime_s=99_999.0))
        asked = source.asked
        while source.asked == asked:
            await asyncio.sleep(0.01)
        async with client.get(PATH) as second:
            assert (await frame(second))[1]["gateway"]["uptime_s"] == 99_999.0


async def test_a_quiet_gateway_says_that_it_is_there(client, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    async with client.get(PATH) as answer:
        assert (await frame(answer))[0] == "status"
        assert await frame(answer) == (None, ": still here")
        assert await frame(answer) == (None, ": still here")


async def test_nobody_who_listens_means_no_work(server, client, source):
    async with client.get(PATH) as answer:
        await frame(answer)
    await nobody_listens(server)
    asked = source.asked
    await asyncio.sleep(0.2)  # ten looks' time
    assert source.asked == asked


async def test_all_listeners_cost_one_look(client, source):
    async with client.get(PATH) as first, client.get(PATH) as second, client.get(PATH) as third:
        for answer in (first, second, third):
            await frame(answer)
        source.shown = offline()
        for answer in (first, second, third):
            await frame(answer)
        source.shown = STATUS
        asked = source.asked
        assert await frame(first) == await frame(second) == await frame(third)
        assert source.asked - asked <= 2


async def test_a_stop_ends_every_stream_at_once(server, client):
    async with client.get(PATH) as answer, client.get(PATH) as other:
        await frame(answer)
        async with asyncio.timeout(0.9):  # the server would wait a second for its handlers
            await server.close()
            assert await answer.content.read() == b""
            await other.content.read()


async def test_a_stop_does_not_wait_for_one_who_does_not_read():
    source = BusySource()
    async with WebServer("127.0.0.1", 0, source) as server, deaf(server):
        while source.looks < 3:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(0.9):
            await server.close()


async def test_one_who_does_not_read_is_cut_off_and_the_others_go_on():
    source = BusySource()
    async with (
        WebServer("127.0.0.1", 0, source) as server,
        ClientSession(f"http://{server.address}", read_bufsize=4 * 1024 * 1024) as client,
    ):
        with capture_logs() as logs:
            async with deaf(server), client.get(PATH) as reader:
                async with asyncio.timeout(20):
                    while not any(entry["event"] == "web_listener_dropped" for entry in logs):
                        await frame(reader)
                assert (await frame(reader))[0] == "change"
                while server.listening > 1:
                    await frame(reader)
        dropped = [entry for entry in logs if entry["event"] == "web_listener_dropped"]
    assert [(entry["remote"], entry["waiting"]) for entry in dropped] == [("127.0.0.1", events.MAX_WAITING)]


async def test_listeners_are_bounded_and_a_place_becomes_free(server, client, monkeypatch):
    monkeypatch.setattr(events, "MAX_LISTENERS", 1)
    async with client.get(PATH) as first:
        await frame(first)
        async with client.get(PATH) as second:
            assert (second.status, await second.text()) == (503, "1 listen already\n")
            assert second.headers["Retry-After"] == "5"
        async with client.get("/healthz") as answer:
            assert answer.status == 200
    await nobody_listens(server)
    async with client.get(PATH) as third:
        assert (await frame(third))[0] == "status"


async def test_a_foreign_host_hears_nothing(server, client):
    async with client.get(PATH, headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403
    assert server.listening == 0


async def test_only_a_get_listens(server, client):
    async with client.head(PATH) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
    async with client.post(PATH) as answer:
        assert answer.status == 405
    assert server.listening == 0


async def test_a_look_that_fails_ends_the_streams_until_it_is_well_again(server, client, source):
    with capture_logs() as logs:
        async with client.get(PATH) as answer:
            await frame(answer)
            source.fails = RuntimeError("broken")
            assert await answer.content.read() == b""
        async with client.get(PATH) as answer:
            assert answer.status == 500
    assert [entry["event"] for entry in logs] == ["events_failed", "request_failed"]
    source.fails = None
    async with client.get(PATH) as answer:
        assert (await frame(answer))[0] == "status"
