"""Opens the front's listening sockets. Every way in which that fails is one line that names the key to change."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from evedge.core.errors import Refused, UsageError
from evedge.links.mqtt_protocols import FrontSettings

BACKLOG = 1024
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def split_bind(bind: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` to host and port. Raises UsageError."""
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise UsageError(f'[mqtt] bind: "{bind}" is not "host:port"')
    return host.removeprefix("[").removesuffix("]"), int(port)


async def listen(
    key: str, bind: str, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None, timeout_s: float
) -> asyncio.Server:
    """One listening server. key: what an error names. timeout_s: of a TLS handshake. Raises Refused, UsageError."""
    host, port = split_bind(bind)
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(
            protocol,
            host or None,
            port,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=timeout_s if tls is not None else None,
        )
    except OSError as error:
        raise Refused(f"[mqtt] {key}: cannot listen on {bind}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; stop it or choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE"
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    return error.strerror or str(error)


def tls_context(settings: FrontSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer. A client certificate is asked for where there is a CA for them, and required where it is the
    only way to log in. Raises UsageError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls_cert_file is None:
        raise UsageError("[mqtt] tls_bind needs tls_cert_file and tls_key_file")
    with _files_named("tls_cert_file or tls_key_file", settings.tls_cert_file):
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    if settings.tls_client_ca_file is not None:
        with _files_named("tls_client_ca_file", settings.tls_client_ca_file):
            context.load_verify_locations(settings.tls_client_ca_file)
        other_ways = settings.allow_anonymous or any(user.password_hash is not None for user in settings.users)
        context.verify_mode = ssl.CERT_OPTIONAL if other_ways else ssl.CERT_REQUIRED
    return context


class _files_named:  # noqa: N801 -- reads as a with-statement
    """Turns what goes wrong with a file into one line."""

    def __init__(self, key: str, path: Path) -> None:
        self._key = key
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ssl.SSLError):
            raise UsageError(
                f"[mqtt] {self._key}: {self._path} does not hold what it should ({error.reason})"
            ) from error
        if isinstance(error, OSError):
            raise UsageError(f"[mqtt] {self._key}: {error.filename or self._path}: {error.strerror}") from error


def watch_peer(transport: asyncio.BaseTransport) -> None:
    """Has the kernel notice a peer that is gone for good, for clients that set no keep-alive of MQTT's own."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # Linux has all three
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def common_name(transport: asyncio.BaseTransport) -> str | None:
    """The common name of the client's certificate, where it showed one that the CA vouches for."""
    certificate = transport.get_extra_info("peercert")
    if not certificate:
        return None
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return names[0] if len(names) == 1 else None
