"""The token of OAUTHBEARER: read again at every login, so that whoever renews the file needs to tell nobody.

A token is good for a while only; something beside the gateway (a cloud's agent, a timer) writes a new one to the same
file. aiokafka asks for it whenever it opens a connection, and Kafka closes a connection whose token is over when it is
used next. A token that says itself that it is over is not sent: the line about it is then ours, and clear.

The token is never logged and stands in no error. Its signature is Kafka's to judge.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from aiokafka import conn
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError

from evedge.core.times import to_rfc3339

_MAX_BYTES = 65_536


class TokenError(KafkaError):  # type: ignore[misc]  # aiokafka is untyped here
    """No token that could be sent. aiokafka's own kind of error: it takes any other for a defect of its own."""


class _Authenticator(conn.OAuthAuthenticator):  # type: ignore[misc]  # aiokafka is untyped here
    """Takes note of a refused token.

    Kafka answers one with a challenge that holds the reason, and tells its error when that was acknowledged (RFC 7628,
    3.2.3). aiokafka 0.14 takes any answer for a yes; all that its next request would then tell is a closed connection.
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if payload:
            return b"\x01", True
        step: tuple[bytes, bool] | None = await super().step(payload)
        return step


conn.OAuthAuthenticator = _Authenticator  # connections make theirs by this name; the version is pinned


class _Claims(msgspec.Struct):
    exp: float | None = None  # seconds since 1970, RFC 7519


class Token(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped here
    """The token in `file`, or `text` where there is none; `extensions` go to Kafka beside it. `now_s`: wall clock."""

    def __init__(
        self,
        text: str,
        file: str | None,
        extensions: Mapping[str, str] | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._text = text
        self._extensions = dict(extensions or {})
        self._file = None if file is None else Path(file)
        self._now_s = now_s

    def extensions(self) -> dict[str, str]:
        """What Kafka is told beside the token (KIP-342)."""
        return self._extensions

    async def token(self) -> str:
        """What to log in with now. Raises TokenError."""
        text = self._text if self._file is None else await asyncio.to_thread(self._read, self._file)
        expires_s = expiry_s(text)
        if expires_s is not None and expires_s <= self._now_s():
            where = "kafka.sasl_password" if self._file is None else f"the file {self._file} (kafka.sasl_password_file)"
            raise TokenError(f"the token in {where} expired at {to_rfc3339(round(expires_s * 1000))}")
        return text

    @staticmethod
    def _read(file: Path) -> str:
        try:
            with file.open("rb") as opened:
                text = opened.read(_MAX_BYTES).decode("ascii").strip()
        except UnicodeDecodeError:
            raise TokenError(f"the file {file} (kafka.sasl_password_file) holds no token") from None
        except OSError as error:
            raise TokenError(f"the token's file {file} (kafka.sasl_password_file): {error.strerror}") from None
        if not text:
            raise TokenError(f"the file {file} (kafka.sasl_password_file) is empty")
        return text


def expiry_s(token: str) -> float | None:
    """When a JSON Web Token is over, in seconds since 1970; None where it does not say or is of another kind."""
    parts = token.split(".")
    if len(parts) != 3:  # header, claims, signature (RFC 7519)
        return None
    try:
        claims = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(claims, type=_Claims).exp
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None
