"""Where an agent's own messages leave: what is its recharge points' goes to the gateway, what is the process' stays.

The gateway's status, telemetry, alerts and results are the gateway's to tell; an agent's log and pages have its own.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from evedge.core.model import Stream

RECHARGE_POINT_STREAMS = (Stream.TELEMETRY, Stream.STATUS, Stream.ALERTS, Stream.COMMAND_RESULTS)


class Publisher(Protocol):
    """Where messages are kept and go on."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        stream: Stream,
        recharge_point: str | None,
        timestamp_ms: int,
        durable: bool,
        retain: bool = False,
    ) -> asyncio.Future[None] | None: ...


class AgentOutlet:
    """A Publisher before a Publisher."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        stream: Stream,
        recharge_point: str | None,
        timestamp_ms: int,
        durable: bool,
        retain: bool = False,
    ) -> asyncio.Future[None] | None:
        """As the intake's; None, and no more, for what is not a recharge point's."""
        if recharge_point is None or stream not in RECHARGE_POINT_STREAMS:
            return None
        return self._publisher.publish(
            topic,
            payload,
            stream=stream,
            recharge_point=recharge_point,
            timestamp_ms=timestamp_ms,
            durable=durable,
            retain=retain,
        )


class NoSubscribers:
    """The router of a process without a broker."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Nobody here subscribes."""
