"""The socket that `evedge journal` asks."""

import asyncio
import json
import socket
import stat

import pytest
from aiohttp import ClientSession, UnixConnector

from evedge.cli.http_get import get_socket
from evedge.core.errors import Outage, Refused
from evedge.core.status import JournalStat, Letter
from evedge.web.control import ControlServer
from evedge.web.control_names import DEAD_LETTERS_PATH, STAT_PATH
from status_example import STATUS

LETTER = Letter(
    at="2026-11-23T09:00:00.000Z",
    mqtt_topic="a/b",
    kafka_topic="t",
    reason="not_json",
    error="trailing comma",
    ce_id=None,
    key="k",
    key_base64=None,
    value=None,
    value_base64="/w==",
    headers={},
)


class Source:
    fails = None

    def journal_stat(self):
        return JournalStat(running=True, journal=STATUS.links.journal, queues=STATUS.queues)

    async def dead_letters(self):
        if self.fails:
            raise self.fails
        return [LETTER]


async def ask(path, what):
    async with (
        ClientSession(connector=UnixConnector(str(path))) as client,
        client.get(f"http://localhost{what}") as answer,
    ):
        return answer.status, await answer.text()


async def test_it_tells_what_the_journal_holds(tmp_path):
    async with ControlServer(tmp_path, Source()) as server:
        status, body = await ask(server.path, STAT_PATH)
        assert (status, json.loads(body)["journal"]["waiting"]) == (200, 8)
        status, body = await ask(server.path, DEAD_LETTERS_PATH)
        assert (status, json.loads(body)[0]["reason"]) == (200, "not_json")


async def test_only_the_owner_may_open_it(tmp_path):
    async with ControlServer(tmp_path, Source()) as server:
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600


async def test_it_is_gone_afterwards_and_closes_twice(tmp_path):
    async with ControlServer(tmp_path, Source()) as server:
        await server.close()
        assert not server.path.exists()


async def test_a_dead_gateways_socket_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    async with ControlServer(tmp_path, Source()) as server:
        assert (await ask(server.path, STAT_PATH))[0] == 200


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "control.sock"
    path.write_text("precious")
    server = ControlServer(tmp_path, Source())
    with pytest.raises(Refused, match="is not a socket: move it away"):
        await server.__aenter__()
    await server.close()
    assert path.read_text() == "precious"


async def test_a_deep_state_dir_can_be_asked_too(tmp_path):
    deep = tmp_path / ("x" * 120) / ("y" * 120)
    deep.mkdir(parents=True)
    async with ControlServer(deep, Source()) as server:
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
        body = await asyncio.to_thread(get_socket, server.path, STAT_PATH)
    assert json.loads(body)["running"] is True
    assert not server.path.exists()


async def test_a_directory_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(Refused, match=r"cannot listen on .*: No such file or directory"):
        async with ControlServer(tmp_path / "nowhere", Source()):
            pass


async def test_a_file_that_cannot_be_read_is_told(tmp_path):
    source = Source()
    source.fails = Outage("journal.db: disk I/O error")
    async with ControlServer(tmp_path, source) as server:
        assert await ask(server.path, DEAD_LETTERS_PATH) == (503, "journal.db: disk I/O error\n")
