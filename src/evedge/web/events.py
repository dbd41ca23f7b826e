"""The status as it changes, for many listeners: server-sent events (WHATWG HTML, section 9.2).

Each connection starts with an event `status`, the document of `/api/v1/status`; events `change` follow, at most one a
second, with the parts that changed. So a listener that was away needs no numbers to go on: it connects again. Comments
tell a silent gateway from a lost connection.

Every frame is made once for all, and only while somebody listens. What is bounded: listeners, and the frames that wait
for each; one who does not read is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

import msgspec
import structlog
from aiohttp import web

from evedge.core.status import Status
from evedge.web.changes import NOTHING, changes

log = structlog.get_logger()

EVERY_S = 1.0
HEARTBEAT_S = 5.0
MAX_LISTENERS = 32
MAX_WAITING = 8
"""Frames that may wait for one listener, beside the one on its way."""
SILENT_MS = 20_000
"""How long sent bytes may go without the other side's word before the system gives a connection up."""

HEARTBEAT = b": still here\n\n"
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",  # nginx would hold events back until its buffer is full
}


class Events:
    """The handler behind `/api/v1/events`. `status` gives the document. Holds a task while somebody listens."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._latest: Status | None = None
        self._whole: bytes | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Events {len(self._listeners)} listening>"

    @property
    def listening(self) -> int:
        """How many listen."""
        return len(self._listeners)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one listener until it leaves, is too slow, or `close`."""
        if request.method == "HEAD":
            return web.Response(headers=HEADERS)
        if self._closed or len(self._listeners) >= MAX_LISTENERS:
            why = "the gateway is stopping" if self._closed else f"{MAX_LISTENERS} listen already"
            return web.Response(status=503, text=f"{why}\n", headers={"Retry-After": "5"})
        listener = _Listener(request, self._first())
        self._listeners.add(listener)
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._tell(), name="web[events]")
            return await listener.serve()
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """End every stream now and take no more. May be called twice."""
        self._closed = True
        for listener in self._listeners:
            listener.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _first(self) -> bytes:
        """What a newcomer is told: what the others hold, so that the same changes follow for all."""
        if self._latest is None:
            self._latest = self._status()
        if self._whole is None:
            self._whole = _frame("status", self._latest)
        return self._whole

    async def _tell(self) -> None:
        """Look once in a while and tell all listeners, until there are none."""
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                for listener in [one for one in self._listeners if one.is_gone]:
                    listener.end()
                    self._listeners.discard(listener)
                if not self._listeners:
                    return
                frame = self._look()
                if frame is None and loop.time() - told_at >= HEARTBEAT_S:
                    frame = HEARTBEAT
                if frame is not None:
                    told_at = loop.time()
                    for listener in self._listeners:
                        listener.tell(frame)
        except Exception as error:  # the last border of this task: listeners come again, and are told 500
            log.error("events_failed", error=f"{type(error).__name__}: {error}", exc_info=error)
            for listener in self._listeners:
                listener.end()
        finally:
            self._task = self._latest = self._whole = None

    def _look(self) -> bytes | None:
        before, after = self._latest, self._status()
        if before is None or [one.id for one in before.recharge_points] != [one.id for one in after.recharge_points]:
            self._latest, self._whole = after, _frame("status", after)
            return self._whole
        self._latest, self._whole = after, None  # also where nothing changed: a newcomer must get the ages of now
        changed = changes(before, after)
        return None if changed == NOTHING else _frame("change", changed)


class _Listener:
    """One connection and what waits for it."""

    def __init__(self, request: web.Request, first: bytes) -> None:
        self._request = request
        self._waiting = deque([first])
        self._woken = asyncio.Event()
        self._ended = False

    @property
    def is_gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def tell(self, frame: bytes) -> None:
        """Queue a frame; cut the connection off when too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            log.info("web_listener_dropped", remote=self._request.remote, waiting=len(self._waiting))
            self._cut_off()
            return
        self._waiting.append(frame)
        self._woken.set()

    def end(self) -> None:
        """End the stream: properly when the reader keeps up, else by cutting it off."""
        if self._waiting:
            self._cut_off()
        self._ended = True
        self._woken.set()

    async def serve(self) -> web.StreamResponse:
        response = web.StreamResponse(headers=HEADERS)
        _give_up_on_silence(self._request)
        with contextlib.suppress(ConnectionError):
            await response.prepare(self._request)
            while not self._ended:
                while self._waiting:
                    await response.write(self._waiting[0])
                    self._waiting.popleft()
                self._woken.clear()
                if not self._ended:
                    await self._woken.wait()
        return response

    def _cut_off(self) -> None:
        self._ended = True
        self._woken.set()
        if self._request.transport is not None:
            self._request.transport.abort()


def _give_up_on_silence(request: web.Request) -> None:
    """A laptop that was shut says no good-bye: without this it would hold its place for a quarter of an hour."""
    opened = request.get_extra_info("socket")
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
    if opened is not None and option is not None:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.IPPROTO_TCP, option, SILENT_MS)


def _frame(event: str, content: msgspec.Struct) -> bytes:
    """An event whose data is JSON, which has no line breaks of its own here."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(content))
