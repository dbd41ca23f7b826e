"""One question to a running gateway, and its answer. No proxy is asked on the way, whatever the environment says."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from evedge.core.errors import EvedgeError, Outage, Refused, UsageError
from evedge.web.control_names import short_path

T = TypeVar("T")
DEADLINE_S = 5.0
SHOWN_CHARACTERS = 200


class NobodyListensError(Outage):
    """There is no running gateway at that place."""


def get_url(url: str, path: str) -> bytes:
    """What the gateway at `url` serves at `path`. Raises EvedgeError in one line."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:  # half a bracket of an IPv6 address
        raise UsageError(f"{url} is no URL such as http://127.0.0.1:8080") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{url} is no URL such as http://127.0.0.1:8080")
    try:
        port = parts.port
    except ValueError:
        raise UsageError(f"{url} has no port between 0 and 65535") from None
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return _get(make(parts.hostname, port, timeout=DEADLINE_S), parts.path.rstrip("/") + path, place)


def get_socket(socket_path: Path, path: str) -> bytes:
    """The same over the gateway's own socket."""
    return _get(_SocketConnection(socket_path), path, str(socket_path))


def decode(body: bytes, shape: type[T], place: str) -> T:
    """An answer as what it should be."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EvedgeError(f"{place} answers, but not as this version of evedge does: {error}") from error


def _get(connection: http.client.HTTPConnection, path: str, place: str) -> bytes:
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NobodyListensError(f"{place}: no evedge answers there ({error.strerror})") from error
    except TimeoutError as error:
        raise Outage(f"{place}: no answer within {DEADLINE_S:g} s") from error
    except OSError as error:
        raise Outage(f"{place}: {error.strerror or error}") from error
    except http.client.HTTPException as error:
        raise EvedgeError(f"{place} does not speak HTTP as evedge does: {type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        text = " ".join(body[: 4 * SHOWN_CHARACTERS].decode(errors="replace").split())[:SHOWN_CHARACTERS]
        raise Refused(f"{place} answers {answer.status}: {text or answer.reason}")
    return body


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._path) as name:
            self.sock.connect(name)
