"""What agents tell of their recharge points, understood: results end commands, telemetry and status fill the pages.

The messages themselves go their way byte for byte, whatever is found here: an agent may be anybody's PLC, and what it
leaves out or writes otherwise is no reason to keep its message from Kafka. Only a command's second end is held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import msgspec
import structlog

from evedge.core.commands import CommandResult
from evedge.core.model import Link, Quality, Value
from evedge.core.reading import Identity, LinkState
from evedge.core.times import from_rfc3339
from evedge.core.topics import Leaf

log = structlog.get_logger()
T = TypeVar("T")


class Commands(Protocol):
    """Follows the commands that were passed on."""

    def heard(
        self, result: CommandResult, recharge_point: str
    ) -> tuple[bool, Callable[[], asyncio.Future[None]] | None]: ...


class Views(Protocol):
    """What is known of each recharge point now."""

    def agent_telemetry(
        self, recharge_point: str, values: dict[str, Value], *, measured_at_ms: int, quality: Quality
    ) -> None: ...

    def agent_status(self, recharge_point: str, state: LinkState, *, since_ms: int | None) -> None: ...


class Presence(Protocol):
    """Knows which agents are connected."""

    def spoke(self, recharge_point: str) -> None: ...


class _Telemetry(msgspec.Struct):
    measured_at: str
    values: dict[str, Value]
    quality: Quality | None = None


class _Status(msgspec.Struct):
    state: Link
    reason: str | None = None
    since: str | None = None
    vendor: str | None = None
    model: str | None = None
    serial_number: str | None = None
    firmware: str | None = None


_decode_telemetry = msgspec.json.Decoder(_Telemetry).decode
_decode_status = msgspec.json.Decoder(_Status).decode
_decode_result = msgspec.json.Decoder(CommandResult).decode


class AgentNews:
    """`recharge_points`: those that agents own. Anything else is not listened to."""

    def __init__(self, recharge_points: Iterable[str], *, commands: Commands, views: Views, presence: Presence) -> None:
        self._recharge_points = frozenset(recharge_points)
        self._commands = commands
        self._views = views
        self._presence = presence

    def result(self, recharge_point: str, payload: bytes) -> tuple[bool, Callable[[], asyncio.Future[None]] | None]:
        """A step of a command, before it is accepted. False: drop it. What comes beside is called once it is kept."""
        if recharge_point not in self._recharge_points:
            return True, None
        result = _understood(_decode_result, payload)
        return (True, None) if result is None else self._commands.heard(result, recharge_point)

    def told(self, recharge_point: str, leaf: Leaf, payload: bytes) -> None:
        """Telemetry or status that was accepted."""
        if recharge_point not in self._recharge_points:
            return
        if leaf is Leaf.TELEMETRY:
            self._telemetry(recharge_point, payload)
        elif leaf is Leaf.STATUS:
            self._status(recharge_point, payload)

    def _telemetry(self, recharge_point: str, payload: bytes) -> None:
        found = _understood(_decode_telemetry, payload)
        measured_at_ms = None if found is None else _time(found.measured_at)
        if found is None or measured_at_ms is None:
            log.debug("telemetry_not_understood", recharge_point=recharge_point)
            return
        quality = found.quality or (Quality.GOOD if found.values else Quality.BAD)
        self._views.agent_telemetry(recharge_point, found.values, measured_at_ms=measured_at_ms, quality=quality)

    def _status(self, recharge_point: str, payload: bytes) -> None:
        found = _understood(_decode_status, payload)
        if found is None:
            log.debug("status_not_understood", recharge_point=recharge_point)
            return
        identity = Identity(found.vendor, found.model, found.serial_number, found.firmware)
        since_ms = None if found.since is None else _time(found.since)
        self._views.agent_status(recharge_point, LinkState(found.state, found.reason, identity), since_ms=since_ms)
        self._presence.spoke(recharge_point)


def _understood(decode: Callable[[bytes], T], payload: bytes) -> T | None:
    try:
        return decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _time(text: str) -> int | None:
    try:
        found = from_rfc3339(text)
    except ValueError:
        return None
    return found if found >= 0 else None
