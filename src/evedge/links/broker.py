"""amqtt as the router: its subscriptions, its matching, its retained messages; never a socket.

A `Broker` whose sessions have no connection: the handler of each is a door to one of our outboxes, so amqtt's
time-outs, queues and acknowledgements are never met (docs/decisions/0002-front-and-router.md says why).
What is ours: fan-out is a plain call, wildcards are found by level, the match is kept per topic until a subscription
changes, QoS is the lower of publisher's and subscriber's, a session with several matching filters gets one message with
the highest QoS among them, retained messages and filters have a bound.

Knows nothing of sockets, users or rights. Runs in the event loop's thread only.

Invariants: every session amqtt knows is "connected" and has a door; `_matched[topic]` holds what the subscriptions say
now, or nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import structlog
from amqtt.broker import Broker
from amqtt.session import OutgoingApplicationMessage, Session

from evedge.core.counters import MqttCounters
from evedge.core.log_budget import LogBudget
from evedge.links.mqtt_filters import FilterTree

log = structlog.get_logger()
_Result = TypeVar("_Result")

REFUSED = 0x80
RETAINED_OVERHEAD = 256
"""Bytes that a retained message costs beside its topic and payload: objects, and its place in the table."""
MAX_FILTER_BYTES = 33_554_432
"""What the filters of all sessions may cost together; more are refused. Some ten thousands of the usual length."""
FILTER_OVERHEAD = 512
"""Bytes that a subscription costs beside its filter."""
_KNOWN_TOPICS = 10_000
_KNOWN_TOPIC_LENGTH = 256
_CONFIG = {"listeners": {"default": {"type": "external", "bind": "unused:0"}}, "plugins": {}}


class Outbox(Protocol):
    """Where a subscriber's messages go. Returns at once, whatever the subscriber does."""

    def deliver(self, topic: str, payload: bytes, qos: int, retain: bool) -> None: ...


class _Door:
    """All that amqtt asks of a session's handler."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox

    async def mqtt_publish(self, topic: str, data: bytes | bytearray, qos: int, retain: bool) -> None:
        self.outbox.deliver(topic, bytes(data), qos, retain)

    async def stop(self) -> None:
        """Nothing runs behind a door."""


class Router(Broker):  # type: ignore[misc]  # amqtt ships no complete types
    """`async with Router(…) as router`: ready inside. `publish` delivers before it returns."""

    def __init__(self, *, max_retained_bytes: int = 16_777_216, counters: MqttCounters | None = None) -> None:
        super().__init__(_CONFIG)
        self.counters = counters if counters is not None else MqttCounters()
        self._max_retained_bytes = max_retained_bytes
        self._filters: dict[str, set[str]] = {}
        self._filter_bytes = 0
        self._wildcards = FilterTree()
        self._matched: dict[str, tuple[tuple[Outbox, int], ...]] = {}
        self._log_budget = LogBudget()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.transitions.state == "started":
            await self.shutdown()

    def __repr__(self) -> str:
        retained = self.counters.retained
        return f"<Router {len(self._sessions)} sessions, {len(self._subscriptions)} filters, {retained} retained>"

    def open(self, client_id: str, outbox: Outbox) -> None:
        """A session begins; what it subscribes to goes to this outbox."""
        session = Session()
        session.client_id = client_id
        session.clean_session = False
        session.transitions.connect()  # amqtt delivers to sessions in this state and leaves the rest to its own queues
        self._sessions[client_id] = (session, _Door(outbox))
        self._filters[client_id] = set()

    def close(self, client_id: str) -> None:
        """A session ends, with its subscriptions. Unknown ones are none."""
        for topic_filter in self._filters.get(client_id, set()).copy():
            self.unsubscribe(client_id, topic_filter)
        self._filters.pop(client_id, None)
        self._sessions.pop(client_id, None)

    def subscribe(self, client_id: str, topic_filter: str, qos: int) -> int:
        """Takes or replaces a subscription; returns the QoS granted, or 0x80."""
        session = self._sessions[client_id][0]
        if topic_filter in self._filters[client_id]:
            self._del_subscription(topic_filter, session)  # amqtt would keep the QoS of the first SUBSCRIBE
        elif self._filter_bytes + _filter_size(topic_filter) > MAX_FILTER_BYTES:
            return REFUSED
        else:
            self._filter_bytes += _filter_size(topic_filter)
            self._filters[client_id].add(topic_filter)
        granted = int(_at_once(self.add_subscription((topic_filter, qos), session)))
        if granted == REFUSED:
            self._forget(client_id, topic_filter)
        elif _has_wildcard(topic_filter):
            self._wildcards.add(topic_filter)
        self._forget_matches(topic_filter)
        return granted

    def unsubscribe(self, client_id: str, topic_filter: str) -> None:
        """Ends a subscription; one that never was is none."""
        if topic_filter not in self._filters.get(client_id, ()):
            return
        self._del_subscription(topic_filter, self._sessions[client_id][0])
        self._forget(client_id, topic_filter)
        self._forget_matches(topic_filter)

    def send_retained(self, client_id: str, topic_filter: str, qos: int) -> None:
        """Delivers what is retained under this filter, to this session only, marked as retained."""
        outbox = self._sessions[client_id][1].outbox
        if _has_wildcard(topic_filter):
            found = [kept for topic, kept in self._retained_messages.items() if self._matches(topic, topic_filter)]
        else:
            kept = self._retained_messages.get(topic_filter)
            found = [kept] if kept is not None else []
        for kept in found:
            outbox.deliver(kept.topic, kept.data, min(qos, kept.qos), retain=True)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Delivers to every session that subscribes, and keeps the message if it is to be retained. Never waits."""
        if retain:
            self._retain(topic, payload, qos)
        matched = self._matched.get(topic)
        if matched is None:
            matched = self._match(topic)
        for outbox, granted in matched:
            outbox.deliver(topic, payload, min(granted, qos), False)

    def retained_topics(self) -> list[tuple[str, bytes, int]]:
        """Topic, payload and QoS of all that is retained."""
        return [(kept.topic, kept.data, kept.qos) for kept in self._retained_messages.values()]

    def _forget(self, client_id: str, topic_filter: str) -> None:
        self._filters[client_id].discard(topic_filter)
        self._filter_bytes -= _filter_size(topic_filter)
        if not self._subscriptions.get(topic_filter):
            self._subscriptions.pop(topic_filter, None)
            self._wildcards.discard(topic_filter)

    def _match(self, topic: str) -> tuple[tuple[Outbox, int], ...]:
        """The outboxes that get this topic, each once, with the highest QoS granted among its filters (3.3.5)."""
        filters = [topic] if topic in self._subscriptions else []
        filters += self._wildcards.matching(topic)
        granted: dict[str, int] = {}
        for topic_filter in filters:
            for session, qos in self._subscriptions[topic_filter]:
                granted[session.client_id] = max(qos, granted.get(session.client_id, 0))
        matched = tuple((self._sessions[client_id][1].outbox, qos) for client_id, qos in granted.items())
        if len(topic) <= _KNOWN_TOPIC_LENGTH:
            if len(self._matched) >= _KNOWN_TOPICS:
                self._matched.clear()
            self._matched[topic] = matched
        return matched

    def _forget_matches(self, topic_filter: str) -> None:
        if _has_wildcard(topic_filter):
            self._matched.clear()
        else:
            self._matched.pop(topic_filter, None)

    def _retain(self, topic: str, payload: bytes, qos: int) -> None:
        """Keeps, replaces or (empty payload) deletes; what does not fit is refused, and the old one goes (3.3.1.3)."""
        old = self._retained_messages.get(topic)
        size = _retained_size(topic, payload) if payload else 0
        old_size = _retained_size(topic, old.data) if old is not None else 0
        if self.counters.retained_bytes - old_size + size > self._max_retained_bytes:
            self.counters.retained_refused += 1
            left_out = self._log_budget.take("retained_refused", asyncio.get_running_loop().time())
            if left_out is not None:
                log.error(
                    "retained_message_refused",
                    topic=topic,
                    payload_bytes=len(payload),
                    max_retained_bytes=self._max_retained_bytes,
                    left_out=left_out,
                )
            payload, size = b"", 0  # a subscriber must not be shown an older message as the last one
        _at_once(self.retain_message(None, topic, payload, qos))
        self.counters.retained_bytes += size - old_size
        self.counters.retained = len(self._retained_messages)

    async def _run_broadcast(self, running_tasks: deque[asyncio.Task[OutgoingApplicationMessage]]) -> None:  # noqa: ARG002
        """What comes by amqtt's own `internal_message_broadcast` goes the same way: no task each, no walk each."""
        message = await self._broadcast_queue.get()
        self.publish(message["topic"], bytes(message["data"]), message.get("qos", 2), retain=False)


def _retained_size(topic: str, payload: bytes) -> int:
    return len(topic) + len(payload) + RETAINED_OVERHEAD


def _filter_size(topic_filter: str) -> int:
    return len(topic_filter) + FILTER_OVERHEAD


def _has_wildcard(topic_filter: str) -> bool:
    return "+" in topic_filter or "#" in topic_filter


def _at_once(call: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of a coroutine that never waits. amqtt's are such without plugins; the tests hold that."""
    try:
        call.send(None)
    except StopIteration as done:
        result: _Result = done.value
        return result
    call.close()
    raise RuntimeError(f"amqtt's {call!r} waits, which it does not in the version this was written for")
