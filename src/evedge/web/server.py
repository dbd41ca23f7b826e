"""The page, the health checks, the metrics, the status and its changes, on the `[web] bind` address.

Nothing here changes anything. What is served comes from a `Source`, which holds no secrets.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Collection
from importlib.resources import files
from types import TracebackType
from typing import Protocol, Self

import msgspec
import structlog
from aiohttp import web

from evedge.core.errors import Refused
from evedge.core.status import Status
from evedge.web.events import Events
from evedge.web.guard import PAGE_POLICY, Hosts
from evedge.web.http import Handler, HttpServer, ProtocolFactory
from evedge.web.metrics import Figures, render

log = structlog.get_logger()

SCRIPTS = ("page", "stream", "model", "sections", "rows", "format")
PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript") for name in SCRIPTS},
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""What the page consists of: the path, the file in `static/`, its content type."""

_REASONS = {
    errno.EADDRINUSE: "another program listens there; stop it or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE",
}


class Source(Protocol):
    """What is true now. `ready`: None, or why the gateway is not."""

    def status(self) -> Status: ...

    def figures(self) -> Figures: ...

    def ready(self) -> str | None: ...


class WebServer:
    """An async context manager: inside it serves, after it all its connections are closed.

    port: 0 picks a free one; once entered, the attribute says which. Raises Refused, in one line, where it cannot
    listen.
    """

    def __init__(self, host: str, port: int, source: Source, *, allowed_hosts: Collection[str] = ()) -> None:
        self.host = host
        self.port = port
        self._source = source
        self._events = Events(source.status)
        self._http = HttpServer(
            {
                "/healthz": self._health,
                "/readyz": self._ready,
                "/metrics": self._metrics,
                "/api/v1/status": self._status,
                "/api/v1/events": self._events.handle,
                **{path: _page(name, content_type) for path, (name, content_type) in PAGE_FILES.items()},
            },
            admits=Hosts(host, allowed_hosts).allow,
        )

    @property
    def address(self) -> str:
        """`host:port` as it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def listening(self) -> int:
        """How many follow the events."""
        return self._events.listening

    def __repr__(self) -> str:
        return f"<WebServer {self.address}>"

    async def __aenter__(self) -> Self:
        server = await self._http.open(self._listen)
        self.port = server.sockets[0].getsockname()[1]
        log.info("web_opened", url=f"http://{self.address}/")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop serving. May be called twice."""
        await self._events.close()  # first: the server waits for its handlers, and these end only when told to
        await self._http.close()

    async def _listen(self, protocol: ProtocolFactory) -> asyncio.Server:
        try:
            return await asyncio.get_running_loop().create_server(protocol, self.host, self.port)
        except OSError as error:
            reason = "there is no such host" if isinstance(error, socket.gaierror) else None
            reason = reason or _REASONS.get(error.errno or 0) or error.strerror or str(error)
            raise Refused(f"[web] bind: cannot listen on {self.address}: {reason}") from error

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._source.ready()
        return web.Response(text="ready\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = render(self._source.figures(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._source.status()), content_type="application/json")


def _page(name: str, content_type: str) -> Handler:
    body = files("evedge.web").joinpath("static", name).read_bytes()

    async def serve(_: web.Request) -> web.Response:
        return web.Response(
            body=body,
            content_type=content_type,
            charset="utf-8",
            headers={"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"},
        )

    return serve
