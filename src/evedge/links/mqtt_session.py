"""What of an MQTT client outlives its socket: who it is, what it subscribes to, what it has yet to be given.

A session gives messages to its wire while there is one that takes them, and keeps them otherwise. QoS 1 and 2 are kept
until the client acknowledged them; on the next connection they are sent again, in order, with DUP (4.4). Knows no
socket, no rights, no other session; never waits.

Invariants:
- `size_bytes` is what is queued and what is sent but not acknowledged, at most `max_bytes`.
- At most `WINDOW` messages are sent and not acknowledged; their packet ids are the keys of `_sent`, oldest first.
- Nothing is sent past a message that waits: order is kept.
- A message that does not fit: the newest QoS 0 that waits goes first; is there none, the new message is dropped. Each
  is counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from evedge.core.counters import MqttCounters
from evedge.links.mqtt_frames import publish, pubrel

WINDOW = 64
"""Messages sent and not acknowledged. Small clients have small buffers; more gains nothing on a site's network."""
MESSAGE_OVERHEAD = 128
"""Bytes that a waiting message costs beside its topic and payload."""
MAX_PACKET_ID = 65_535


class Wire(Protocol):
    """The connection, as the session sees it. `writable`: false while the socket has more than it can pass on."""

    writable: bool

    def send(self, data: bytes) -> None: ...


class _Outgoing:
    """One message on its way to one client."""

    __slots__ = ("dropped", "payload", "qos", "released", "retain", "size", "topic")

    def __init__(self, topic: str, payload: bytes, qos: int, size: int, *, retain: bool) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.size = size
        self.dropped = False
        self.released = False  # QoS 2: the client has it, PUBREL was sent


class Session:
    """One client's session. `user` owns it; `clean`: it ends with its connection."""

    __slots__ = (
        "_counters",
        "_last_packet_id",
        "_max_bytes",
        "_queue",
        "_queued_qos0",
        "_sent",
        "_wire",
        "clean",
        "client_id",
        "received",
        "recovered",
        "size_bytes",
        "subscriptions",
        "user",
    )

    def __init__(
        self,
        client_id: str,
        user: str | None,
        *,
        clean: bool,
        max_bytes: int,
        counters: MqttCounters,
        received_ids: Iterable[int] = (),
    ) -> None:
        """received_ids: QoS 2 packet ids that an earlier run of the gateway accepted and did not release."""
        self.client_id = client_id
        self.user = user
        self.clean = clean
        self.subscriptions: dict[str, int] = {}
        self.received: dict[int, asyncio.Future[None] | None] = dict.fromkeys(received_ids)
        """QoS 2 packet ids in hand, each with what its acknowledgement waits for; None: it is accepted."""
        self.recovered = set(self.received)
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._counters = counters
        self._queue: deque[_Outgoing] = deque()
        self._queued_qos0: deque[_Outgoing] = deque()  # the QoS 0 ones among `_queue`, in the same order
        self._sent: dict[int, _Outgoing] = {}
        self._last_packet_id = 0
        self._wire: Wire | None = None

    def __repr__(self) -> str:
        state = "connected" if self._wire is not None else "away"
        return f"<Session {self.client_id} {state}, {len(self._queue)} waiting, {len(self._sent)} unacknowledged>"

    @property
    def waiting(self) -> int:
        """Messages the client has not acknowledged or not been sent."""
        return len(self._queue) + len(self._sent)

    def attach(self, wire: Wire) -> None:
        """The client is back: first what it did not acknowledge, then what waited."""
        self._wire = wire
        for packet_id, message in self._sent.items():
            if message.released:
                wire.send(pubrel(packet_id))
            else:
                wire.send(_frame(message, packet_id, dup=True))
        self.pump()

    def detach(self) -> None:
        """The connection is gone. QoS 0 that waited is dropped with it (4.1 asks to keep QoS 1 and 2 only)."""
        self._wire = None
        while self._queued_qos0:
            self._drop(self._queued_qos0.pop(), "offline")
        self._queue = deque(message for message in self._queue if not message.dropped)

    def deliver(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """A message for this client, with the QoS it is to have. Sent, kept, or dropped and counted; never waits."""
        wire = self._wire
        if wire is None and not qos:
            self._counters.dropped["offline"] += 1
            return
        if wire is not None and wire.writable and not self._queue:
            if not qos:
                wire.send(publish(topic, payload, 0, retain=retain))
                self._counters.delivered += 1
                return
            room = len(self._sent) < WINDOW
        else:
            room = False
        message = _Outgoing(topic, payload, qos, len(topic) + len(payload) + MESSAGE_OVERHEAD, retain=retain)
        if not self._has_room(message):
            self._counters.dropped["session_full"] += 1
            return
        self._grow(message.size)
        if room and wire is not None:
            self._send(wire, message)
            return
        self._queue.append(message)
        if not qos:
            self._queued_qos0.append(message)

    def pump(self) -> None:
        """Send what waits, as far as the socket and the window allow. Called when either may have changed."""
        wire, queue = self._wire, self._queue
        while queue and wire is not None and wire.writable:
            message = queue[0]
            if message.dropped:
                queue.popleft()
                continue
            if message.qos and len(self._sent) >= WINDOW:
                return
            queue.popleft()
            if message.qos:
                self._send(wire, message)
            else:
                self._queued_qos0.popleft()
                self._grow(-message.size)
                wire.send(_frame(message, 0))
                self._counters.delivered += 1

    def puback(self, packet_id: int) -> None:
        """The client has a QoS 1 message. Unknown ids mean nothing: an old connection's may come late."""
        message = self._sent.get(packet_id)
        if message is not None and message.qos == 1:
            self._forget(packet_id)

    def pubrec(self, packet_id: int) -> None:
        """The client has a QoS 2 message: let it go on, also where we no longer know it, so that it can finish."""
        message = self._sent.get(packet_id)
        if message is not None and message.qos == 2:
            message.released = True
            message.payload = b""
        if self._wire is not None:
            self._wire.send(pubrel(packet_id))

    def pubcomp(self, packet_id: int) -> None:
        """A QoS 2 exchange is complete."""
        message = self._sent.get(packet_id)
        if message is not None and message.released:
            self._forget(packet_id)

    def discard(self) -> None:
        """The session ends: what it held is no longer counted as held."""
        self.detach()
        self._grow(-self.size_bytes)
        self._queue.clear()
        self._sent.clear()

    def _send(self, wire: Wire, message: _Outgoing) -> None:
        packet_id = self._free_packet_id()
        self._sent[packet_id] = message
        wire.send(_frame(message, packet_id))
        self._counters.delivered += 1

    def _forget(self, packet_id: int) -> None:
        self._grow(-self._sent.pop(packet_id).size)
        if self._queue:
            self.pump()

    def _free_packet_id(self) -> int:
        packet_id = self._last_packet_id
        while True:
            packet_id = packet_id % MAX_PACKET_ID + 1
            if packet_id not in self._sent:  # the window is far smaller than the ids there are
                self._last_packet_id = packet_id
                return packet_id

    def _has_room(self, message: _Outgoing) -> bool:
        while self.size_bytes + message.size > self._max_bytes:
            if not message.qos or not self._queued_qos0:
                return False
            self._drop(self._queued_qos0.pop(), "session_full")
        return True

    def _drop(self, message: _Outgoing, reason: str) -> None:
        """Out of the account now; out of the queue when its turn comes."""
        message.dropped = True
        message.payload = b""
        self._grow(-message.size)
        self._counters.dropped[reason] += 1

    def _grow(self, size: int) -> None:
        self.size_bytes += size
        self._counters.session_bytes += size


def _frame(message: _Outgoing, packet_id: int, *, dup: bool = False) -> bytes:
    return publish(message.topic, message.payload, message.qos, retain=message.retain, packet_id=packet_id, dup=dup)
