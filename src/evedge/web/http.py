"""An HTTP server that only answers questions: GET and HEAD, on whatever socket it is given.

Every answer carries the headers of `guard`, a handler that fails is a short 500 and one log entry, and strangers cannot
pile up: connections are bounded, and one that asks nothing is closed. Knows nothing of what it serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import structlog
from aiohttp import web

from evedge.web.guard import HEADERS

log = structlog.get_logger()

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
ProtocolFactory: TypeAlias = Callable[[], asyncio.Protocol]

MAX_CONNECTIONS = 100
SILENT_S = 10.0
"""How long a connection may be open without having asked for anything."""
KEEP_ALIVE_S = 30.0
CLOSE_S = 1.0


class HttpServer:
    """`open` makes it serve, `close` ends it. `admits`: whether a request with these Host headers is answered."""

    def __init__(self, routes: Mapping[str, Handler], *, admits: Callable[[Sequence[str]], bool]) -> None:
        self._admits = admits
        self._failing: dict[str, str] = {}
        self._silent: dict[web.RequestHandler, asyncio.TimerHandle] = {}  # the longest silent first
        self._listening: asyncio.Server | None = None
        app = web.Application(middlewares=[self._answer])
        app.on_response_prepare.append(_add_headers)
        app.add_routes([web.get(path, handler) for path, handler in routes.items()])
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_BadRequests(logging.getLogger(__name__)),
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=CLOSE_S,
        )

    async def open(self, listen: Callable[[ProtocolFactory], Awaitable[asyncio.Server]]) -> asyncio.Server:
        """Serve what `listen` opens. What it raises is passed on, with nothing left open."""
        await self._runner.setup()
        try:
            self._listening = await listen(self._connection)
        except BaseException:
            await self.close()
            raise
        return self._listening

    async def close(self) -> None:
        """Stop listening and close what is open. May be called twice."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        await self._runner.cleanup()
        for timer in self._silent.values():
            timer.cancel()
        self._silent.clear()

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or (len(server.connections) >= MAX_CONNECTIONS and not self._make_room()):
            return _Refusal()
        protocol = server()
        loop = asyncio.get_running_loop()
        self._silent[protocol] = loop.call_later(SILENT_S, self._close_silent, protocol)
        return protocol

    def _make_room(self) -> bool:
        """The one that has been silent longest goes: idle sockets must not keep a monitor from `/healthz`."""
        silent = next(iter(self._silent), None)
        if silent is None:
            return False
        self._silent[silent].cancel()
        self._close_silent(silent)
        return True

    def _close_silent(self, protocol: web.RequestHandler) -> None:
        self._silent.pop(protocol, None)
        protocol.force_close()

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        timer = self._silent.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        if not self._admits(request.headers.getall("Host", [])):
            return web.Response(
                status=403, text="This name is not served here: see allowed_hosts under [web] in the configuration.\n"
            )
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            return web.Response(status=answer.status, text=f"{answer.status} {answer.reason}\n", headers=_kept(answer))
        except Exception as error:  # noqa: BLE001 -- the last border of one request: the server goes on
            self._failed(request.path, error)
            return web.Response(status=500, text="500 This went wrong here; the log says more.\n")
        self._failing.pop(request.path, None)
        return response

    def _failed(self, path: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if self._failing.get(path) != text:  # whoever asks every two seconds would fill the log
            log.error("request_failed", path=path, error=text, exc_info=error)
        self._failing[path] = text


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG001 -- aiohttp's shape
    for name, value in HEADERS.items():
        if name == "Server":
            response.headers[name] = value  # aiohttp put its own, with version numbers
        else:
            response.headers.setdefault(name, value)


def _kept(answer: web.HTTPException) -> dict[str, str]:
    return {"Allow": answer.headers["Allow"]} if "Allow" in answer.headers else {}


class _Refusal(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _BadRequests(logging.LoggerAdapter[logging.Logger]):
    """Takes what aiohttp logs of requests that are none: other people's mistakes are no errors of ours."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **_: Any) -> None:
        error = exc_info if isinstance(exc_info, BaseException) else None
        log.debug("request_refused", what=str(msg) % args if args else str(msg), error=repr(error))

    def error(self, msg: object, *args: object, **_: Any) -> None:
        log.debug("request_refused", what=str(msg) % args if args else str(msg))
