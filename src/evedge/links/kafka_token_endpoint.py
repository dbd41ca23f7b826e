"""Tokens for OAUTHBEARER from an identity provider: OAuth 2.0's client credentials grant (RFC 6749, 4.4).

One request, at a login, when the last token is used up for the most part; nothing runs in between. Whatever goes wrong
is an error of the login, which is tried again as every login is. Neither the client's secret nor a token is ever part
of a message.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping

import aiohttp
import msgspec
from aiokafka.abc import AbstractTokenProvider

from evedge.links.kafka_token import TokenError, expiry_s

DEADLINE_S = 10.0
USED_UP = 0.8
"""A token is asked for anew after this part of its life."""
_MAX_ANSWER_BYTES = 65_536


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


class _Refusal(msgspec.Struct):
    error: str = ""


class TokenEndpoint(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped here
    """Asks `url` as `client_id` with `secret`. `extensions` go to Kafka beside each token."""

    def __init__(
        self,
        url: str,
        client_id: str,
        secret: str,
        *,
        scope: str | None = None,
        extensions: Mapping[str, str] | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._client_id = client_id
        self._secret = secret
        self._scope = scope
        self._extensions = dict(extensions or {})
        self._now_s = now_s
        self._token = ""
        self._good_until_s = float("-inf")

    def extensions(self) -> dict[str, str]:
        """What Kafka is told beside the token (KIP-342)."""
        return self._extensions

    async def token(self) -> str:
        """A token that is good for a while. Raises TokenError."""
        if self._now_s() >= self._good_until_s:
            answer = await self._ask()
            now_s = self._now_s()
            expires_s = expiry_s(answer.access_token)
            life_s = answer.expires_in if answer.expires_in is not None else (expires_s or now_s) - now_s
            self._token, self._good_until_s = answer.access_token, now_s + USED_UP * life_s
        return self._token

    async def _ask(self) -> _Answer:
        form = {"grant_type": "client_credentials", **({"scope": self._scope} if self._scope else {})}
        # As Kafka's own client does unless told otherwise: RFC 6749 would have both percent-encoded first.
        login = base64.b64encode(f"{self._client_id}:{self._secret}".encode()).decode()
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                aiohttp.ClientSession(headers={"Authorization": f"Basic {login}"}) as session,
                session.post(self._url, data=form, allow_redirects=False) as response,
            ):
                status, body = response.status, await response.content.read(_MAX_ANSWER_BYTES)
        except TimeoutError:
            raise self._error(f"no answer within {DEADLINE_S:g} s") from None
        except aiohttp.ClientError as error:
            raise self._error(str(error) or type(error).__name__) from None
        if status != 200:
            raise self._error(f"answers {status}{_reason(body)}")
        try:
            return msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._error("its answer holds no access_token") from None

    def _error(self, what: str) -> TokenError:
        return TokenError(f"no token from {self._url} (kafka.sasl_token_url): {what}")


def _reason(body: bytes) -> str:
    """` (invalid_client)`: the error's code (RFC 6749, 5.2) and nothing else of what came."""
    try:
        code = msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return f" ({code[:60]})" if code.isprintable() and code else ""
