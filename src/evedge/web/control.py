"""The running gateway's journal, for `evedge journal`: HTTP on a socket in `state_dir` that only its owner may open.

The journal's file must not be opened by a second process, so the one that has it open is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec
from aiohttp import web

from evedge.core.errors import Outage, Refused
from evedge.core.status import JournalStat, Letter
from evedge.web.control_names import DEAD_LETTERS_PATH, SOCKET_NAME, STAT_PATH, short_path
from evedge.web.http import HttpServer, ProtocolFactory

BACKLOG = 16


class JournalSource(Protocol):
    """What the journal holds. `dead_letters` raises Outage where the file cannot be read."""

    def journal_stat(self) -> JournalStat: ...

    async def dead_letters(self) -> list[Letter]: ...


class ControlServer:
    """An async context manager: inside, the socket is there and answers; after, it is gone.

    Enter it only while the state directory is locked: a socket that is there already is then a dead one and is
    replaced. Raises Refused where it cannot be made.
    """

    def __init__(self, state_dir: Path, source: JournalSource) -> None:
        self.path = state_dir / SOCKET_NAME
        self._source = source
        self._made = False
        self._http = HttpServer({STAT_PATH: self._stat, DEAD_LETTERS_PATH: self._dead_letters}, admits=lambda _: True)

    def __repr__(self) -> str:
        return f"<ControlServer {self.path}>"

    async def __aenter__(self) -> Self:
        await self._http.open(self._listen)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop answering and remove the socket. May be called twice."""
        await self._http.close()
        if self._made:
            self._made = False
            with contextlib.suppress(OSError):  # newer asyncio removed it already
                self.path.unlink()

    async def _listen(self, protocol: ProtocolFactory) -> asyncio.Server:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._replace()
            with short_path(self.path) as name:
                opened.bind(name)
            self._made = True
            self.path.chmod(0o600)  # before it listens: nobody can connect in between
            opened.setblocking(False)
            return await asyncio.get_running_loop().create_unix_server(protocol, sock=opened, backlog=BACKLOG)
        except OSError as error:
            opened.close()
            raise Refused(f"gateway.state_dir: cannot listen on {self.path}: {error.strerror or error}") from error
        except BaseException:
            opened.close()
            raise

    def _replace(self) -> None:
        try:
            kind = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(kind):
            raise Refused(f"gateway.state_dir: {self.path} is not a socket: move it away")
        self.path.unlink()

    async def _stat(self, _: web.Request) -> web.Response:
        return _json(msgspec.json.encode(self._source.journal_stat()))

    async def _dead_letters(self, _: web.Request) -> web.Response:
        try:
            letters = await self._source.dead_letters()
        except Outage as outage:
            return web.Response(status=503, text=f"{outage}\n")
        return _json(msgspec.json.encode(letters))


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
