"""Notices that another consumer took this one's place in its group.

A static member that joins again under the same id replaces the one before. That one should learn it by the error
FENCED_INSTANCE_ID, but aiokafka 0.14 does not tell its id in heartbeats and commits, so the broker answers only that
it does not know this member; aiokafka then joins again, replaces the newcomer, and the two throw each other out for
ever. So the answers of the group's coordinator are looked at here before aiokafka sees them: a member that is unknown
although its last answer was good, and younger than the session timeout, was replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import UnknownMemberIdError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from evedge.links.kafka_errors import FencedInstanceIdError

_REPLACED = {UnknownMemberIdError.errno, FencedInstanceIdError.errno}
_OF_MEMBERS = (HeartbeatRequest, JoinGroupRequest, SyncGroupRequest)
"""Requests that only a member gets a good answer to."""


class ReplacedError(Exception):
    """Not aiokafka's, so that none of its retries swallows it."""


class Membership:
    """Looks at every answer of a consumer's coordinator. Made before the consumer subscribes."""

    def __init__(self, consumer: AIOKafkaConsumer, session_timeout_s: float) -> None:
        self.replaced = False
        self._session_timeout_s = session_timeout_s
        self._now = asyncio.get_running_loop().time
        self._last_good_s = self._now()
        coordinator = consumer._coordinator  # noqa: SLF001 -- the only way to the coordinator's answers
        self._ask: Callable[[Any], Awaitable[Any]] = coordinator._send_req  # noqa: SLF001
        coordinator._send_req = self._watched  # noqa: SLF001

    @property
    def silent_s(self) -> float:
        """How long ago the coordinator answered this member the last time."""
        return self._now() - self._last_good_s

    async def _watched(self, request: Any) -> Any:
        response = await self._ask(request)
        if not _REPLACED.isdisjoint(_error_codes(response)):
            fenced = FencedInstanceIdError.errno in set(_error_codes(response))
            if fenced or self.silent_s < self._session_timeout_s:
                self.replaced = True
                raise ReplacedError
        elif isinstance(request, _OF_MEMBERS):
            self._last_good_s = self._now()
        return response


def _error_codes(response: Any) -> Iterator[int]:
    """Of the answer as a whole (join, sync, heartbeat), or of each partition (commit)."""
    code = getattr(response, "error_code", None)
    if code is not None:
        yield code
    for _topic, partitions in getattr(response, "topics", ()):
        for partition in partitions:
            yield partition[-1]
