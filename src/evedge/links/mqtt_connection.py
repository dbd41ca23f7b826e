"""One client's socket: frames in, frames out, and the order in which promises are made.

Lives from accept to the socket's end; what outlives it is in `mqtt_session`, and who comes in is decided in
`mqtt_front`. Everything here is a plain call from the event loop; it waits for nothing.

Invariants:
- A PUBLISH is acknowledged after the intake's future for its read resolved, in the order of the publishes, and never
  when that future failed or the publish was denied.
- What is in flight towards the intake has a bound; beyond it the socket is not read, and the keep-alive clock stands
  still. Until then PINGREQ, SUBSCRIBE and acknowledgements are served while publishes wait.
- `_end` happens once, however the connection ends: the session is let go, the will is published or not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Flag, auto
from typing import Protocol

import structlog

from evedge.core.counters import MqttCounters
from evedge.core.log_budget import LogBudget
from evedge.core.model import Publish, Publisher
from evedge.core.rights import Ownership, Rights
from evedge.links.mqtt_flow import MESSAGE_OVERHEAD, Flow
from evedge.links.mqtt_frames import (
    PINGRESP,
    Connect,
    Disconnect,
    Frame,
    FrameReader,
    Pingreq,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    ReturnCode,
    Subscribe,
    Unsubscribe,
    UnsupportedVersion,
    Will,
    connack,
    puback,
    pubcomp,
    pubrec,
    suback,
    unsuback,
)
from evedge.links.mqtt_listen import watch_peer
from evedge.links.mqtt_protocols import FrontSettings, Intake, Presence, Router
from evedge.links.mqtt_session import Session

log = structlog.get_logger()

HIGH_WATER = 65_536
"""Bytes on their way to one socket beyond which deliveries wait in the session."""
MAX_UNREAD_ACKS = 262_144
"""Bytes on their way to one socket beyond which it is not read: it sends, and does not take its acknowledgements."""
MAX_SUBSCRIPTIONS = 1000
"""Per session; more are refused."""
CLOSE_S = 3.0
"""How long a closed socket may take to pass on its last bytes."""
_KNOWN_TOPICS = 1000
_REFUSED = 0x80


class Hold(Flag):
    """Why a socket is not read at present."""

    LOGIN = auto()
    FLOW = auto()
    OUTPUT = auto()
    STOP = auto()


@dataclass(slots=True)
class _Pending:
    """One socket read's publishes on their way to being accepted."""

    future: asyncio.Future[None] | None
    acks: bytes
    size: int
    received: tuple[int, ...]


class House(Protocol):
    """The front, as a connection sees it."""

    settings: FrontSettings
    counters: MqttCounters
    intake: Intake
    router: Router
    presence: Presence
    ownership: Ownership
    flow: Flow
    log_budget: LogBudget

    def arrived(self, connection: Connection) -> None: ...

    def knocked(self, connection: Connection, connect: Connect) -> None: ...

    def ended(self, connection: Connection, will: Will | None) -> None: ...

    def gone(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol of one socket. `publisher` and `session` are None until the client is let in."""

    def __init__(self, house: House) -> None:
        self.publisher: Publisher | None = None
        self.session: Session | None = None
        self.writable = True
        self.transport: asyncio.Transport | None = None
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(house.settings.max_packet_bytes)
        self._rights = Rights()
        self._will: Will | None = None
        self._early: list[Frame] = []  # what came behind CONNECT while it was being decided
        self._may: set[str] = set()  # topics this client was found to be allowed to publish on
        self._pending: deque[_Pending] = deque()
        self._in_flight = 0
        self._holds = Hold(0)
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._ended = False
        self._keep_alive_s = 0.0
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._knocked = False

    def __repr__(self) -> str:
        who = self.publisher.client_id if self.publisher is not None else "not logged in"
        return f"<Connection {who} from {self.peer}, {self._in_flight} bytes in flight, held by {self._holds}>"

    @property
    def peer(self) -> str:
        """Where the client connects from."""
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        return f"{name[0]}:{name[1]}" if name else "unknown"

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- what asyncio promises for a stream server
        self.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        watch_peer(transport)
        self._timer = self._loop.call_later(self._house.settings.connect_timeout_s, self._no_connect)
        self._house.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._heard_at = self._loop.time()
        frames = self._reader.feed(data)
        if self._knocked:
            self._take(frames)
        elif frames:
            self._knock(frames)
        if self._reader.error is not None and not self._ended:
            self._malformed(str(self._reader.error), old_version=isinstance(self._reader.error, UnsupportedVersion))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._unhold(Hold.OUTPUT)
        if self.session is not None and not self._ended:
            self.session.pump()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._end("lost", self._will)
        if self._timer is not None:
            self._timer.cancel()
        self._house.gone(self)

    # What the front calls.

    def open(self, publisher: Publisher, rights: Rights, session: Session, connect: Connect, *, present: bool) -> None:
        """Let in: CONNACK, what the session holds, then what the client sent meanwhile."""
        self.publisher = publisher
        self.session = session
        self._rights = rights
        self._will = connect.will
        self._keep_alive_s = connect.keep_alive_s * 1.5
        self.send(connack(ReturnCode.ACCEPTED, session_present=present))
        session.attach(self)
        if self._keep_alive_s:
            self._heard_at = self._loop.time()
            self._timer = self._loop.call_later(self._keep_alive_s, self._check_alive)
        self._house.presence.connected(publisher)
        self._unhold(Hold.LOGIN)
        if self._house.flow.is_full(publisher.user, 0):
            self._hold(Hold.FLOW)
            self._house.flow.hold(publisher.user, self)
        early, self._early = self._early, []
        self._take(early)

    def refuse(self, code: ReturnCode, reason: str) -> None:
        """Not let in."""
        self._house.counters.refused[reason] += 1
        self.send(connack(code))
        self.close(reason)

    def close(self, cause: str, *, publish_will: bool = True) -> None:
        """Ends the connection; what is on its way out is given some seconds. May be called twice."""
        if self._ended:
            return
        if self.session is not None and cause != "disconnect":
            self._house.counters.closed[cause] += 1
        self._end(cause, self._will if publish_will else None)
        self._flush()
        if self.transport is not None:
            self._timer = self._loop.call_later(CLOSE_S, self.transport.abort)
            self.transport.close()

    @property
    def ended(self) -> bool:
        """Whether it is over, though bytes may still be on their way out."""
        return self._ended

    def abort(self) -> None:
        """Ends the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def stop_reading(self) -> None:
        """No more is taken from this client; acknowledgements and deliveries still go out."""
        self._hold(Hold.STOP)

    def hold_for_login(self) -> None:
        self._hold(Hold.LOGIN)

    def resume(self) -> None:
        """There is room for this user again."""
        if self._house.flow.has_room(self._in_flight):
            self._unhold(Hold.FLOW)

    # What the session calls.

    def send(self, data: bytes) -> None:
        """Bytes for the client. What one turn of the event loop brings goes out in one write."""
        if self._ended:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes >= HIGH_WATER:
            self._flush()

    # Before the client is let in.

    def _no_connect(self) -> None:
        self._house.counters.refused["connect_timeout"] += 1
        self.abort()

    def _knock(self, frames: list[Frame]) -> None:
        connect = frames[0]
        assert isinstance(connect, Connect)  # noqa: S101 -- the reader lets nothing else come first
        self._knocked = True
        if self._timer is not None:
            self._timer.cancel()
        self._early = frames[1:]
        self._house.knocked(self, connect)

    def _malformed(self, error: str, *, old_version: bool = False) -> None:
        who = self.publisher.client_id if self.publisher is not None else None
        self._warn("client_malformed", self.peer.rpartition(":")[0], client_id=who, peer=self.peer, error=error)
        if old_version:
            self.refuse(ReturnCode.UNACCEPTABLE_VERSION, "version")
            return
        if self.session is None:
            self._house.counters.refused["malformed"] += 1
        self.close("malformed")

    # Frames of a client that is in.

    def _take(self, frames: list[Frame]) -> None:
        """Everything one read brought, in order. Publishes are gathered: one accept for all of them."""
        session = self.session
        if session is None:  # still being decided, and reading is paused: the rest of the same read
            self._early += frames
            return
        publishes: list[Publish] = []
        releases: list[int] = []
        for frame in frames:
            kind = type(frame)
            if isinstance(frame, Publish):
                if frame.topic not in self._may and not self._judge(frame, publishes):
                    if self._ended:
                        return
                    continue
                if frame.qos == 2 and self._is_repeated(session, frame, publishes, releases):
                    continue
                publishes.append(frame)
            elif isinstance(frame, Puback):
                session.puback(frame.packet_id)
            elif isinstance(frame, Pubrec):
                session.pubrec(frame.packet_id)
            elif isinstance(frame, Pubcomp):
                session.pubcomp(frame.packet_id)
            elif isinstance(frame, Pubrel):
                if publishes and any(publish.packet_id == frame.packet_id for publish in publishes):
                    self._accept(publishes)
                    publishes = []
                session.received.pop(frame.packet_id, None)
                session.recovered.discard(frame.packet_id)
                releases.append(frame.packet_id)
            elif kind is Pingreq:
                self.send(PINGRESP)
            else:
                self._accept(publishes)
                self._release(releases)
                publishes, releases = [], []
                if not self._other(session, frame):
                    return
        self._accept(publishes)
        self._release(releases)
        if self.transport is not None and self.transport.get_write_buffer_size() + self._out_bytes > MAX_UNREAD_ACKS:
            self._flush()
            if not self.writable:
                self._hold(Hold.OUTPUT)

    def _other(self, session: Session, frame: Frame) -> bool:
        """Frames that must not be passed by publishes. False: the connection has ended."""
        if isinstance(frame, Subscribe):
            self._subscribe(session, frame)
        elif isinstance(frame, Unsubscribe):
            for topic_filter in frame.topic_filters:
                self._house.router.unsubscribe(session.client_id, topic_filter)
                session.subscriptions.pop(topic_filter, None)
            self.send(unsuback(frame.packet_id))
        elif isinstance(frame, Disconnect):
            self._will = None
            self.close("disconnect")
        else:
            self._malformed("a second CONNECT (3.1)")
        return not self._ended

    def _judge(self, frame: Publish, before: list[Publish]) -> bool:
        """Whether the client may publish this. If not, it is ignored or the connection ends; `before` is accepted."""
        assert self.publisher is not None  # noqa: S101
        topic = frame.topic
        refusal = self._house.ownership.refusal(self.publisher, topic)
        if refusal is None and not topic.startswith("$") and not self._rights.may_publish(topic):
            refusal = "is outside the user's rights"
        if refusal is None and topic.startswith("$"):
            # 4.7.2 keeps these for the server's own use. Acknowledged, or the client would send it for ever.
            self._accept(before)
            before.clear()
            self._house.counters.ignored_publishes += 1
            self._warn("publish_ignored", self.publisher.name, topic=topic)
            self._append(None, (frame,))
            return False
        if refusal is not None:
            self._accept(before)
            self._house.counters.denied_publishes += 1
            self._warn("publish_denied", self.publisher.name, topic=topic, reason=f"the topic {refusal}")
            self.close("denied")
            return False
        if len(self._may) >= _KNOWN_TOPICS:
            self._may.clear()
        self._may.add(topic)
        return True

    def _is_repeated(self, session: Session, frame: Publish, publishes: list[Publish], releases: list[int]) -> bool:
        """QoS 2: whether this is a message in hand; then only its PUBREC is sent again (4.3.3)."""
        packet_id = frame.packet_id
        if packet_id in releases:
            self._release(releases)
            releases.clear()
        if packet_id not in session.received:
            session.received[packet_id] = None
            return False
        if packet_id in session.recovered and not frame.dup:
            # An earlier run's id, used for the first time on this connection: the client knows nothing of the exchange
            # that was cut, so this is a message of its own, and taking it for the old one would lose it.
            session.recovered.discard(packet_id)
            forgotten = self._house.intake.release(session.client_id, (packet_id,))
            if forgotten is not None:
                forgotten.add_done_callback(_ignore)
            return False
        self._accept(publishes)
        publishes.clear()
        self._append(session.received[packet_id], (frame,))
        return True

    def _accept(self, publishes: list[Publish]) -> None:
        if not publishes or self.publisher is None:
            return
        self._house.counters.received += len(publishes)
        accepted = tuple(publishes)
        self._append(self._house.intake.accept(self.publisher, accepted), accepted)

    def _append(self, future: asyncio.Future[None] | None, publishes: tuple[Publish, ...]) -> None:
        """Acknowledge these when the future resolved and all before them are acknowledged."""
        acks = b"".join(
            puback(publish.packet_id) if publish.qos == 1 else pubrec(publish.packet_id)
            for publish in publishes
            if publish.qos
        )
        if future is None and (not self._pending or not acks):
            if acks:
                self.send(acks)
            return
        assert self.session is not None and self.publisher is not None  # noqa: S101, PT018
        size = MESSAGE_OVERHEAD * len(publishes)
        received: tuple[int, ...] = ()
        if future is not None:
            size += sum(len(publish.payload) for publish in publishes)
            received = tuple(publish.packet_id for publish in publishes if publish.qos == 2)
            for packet_id in received:
                self.session.received[packet_id] = future
            future.add_done_callback(self._settle)
        self._pending.append(_Pending(future, acks, size, received))
        self._in_flight += size
        flow, user = self._house.flow, self.publisher.user
        flow.add(user, size)
        if flow.is_full(user, self._in_flight):
            self._hold(Hold.FLOW)
            flow.hold(user, self)

    def _settle(self, _: asyncio.Future[None]) -> None:
        """Acknowledge what is accepted, up to the first that is not. Also without a socket: the accounts are kept."""
        assert self.session is not None and self.publisher is not None  # noqa: S101, PT018
        acks = b""
        settled = 0
        failed = False
        while self._pending and (self._pending[0].future is None or self._pending[0].future.done()):
            pending = self._pending.popleft()
            settled += pending.size
            future = pending.future
            lost = future is not None and (future.cancelled() or future.exception() is not None)
            failed = failed or lost
            for packet_id in pending.received:
                if self.session.received.get(packet_id) is not future:
                    continue
                if lost:
                    del self.session.received[packet_id]
                else:
                    self.session.received[packet_id] = None
            if not failed:
                acks += pending.acks
        self._in_flight -= settled
        if acks:
            self.send(acks)
        if failed:
            self.close("not_accepted")
        if settled:
            self._house.flow.done(self.publisher.user, settled)
        if Hold.FLOW in self._holds and not self._house.flow.is_held(self.publisher.user, self):
            self.resume()

    def _release(self, packet_ids: list[int]) -> None:
        """PUBCOMP, when the ids are forgotten where they were kept (4.3.3)."""
        if not packet_ids or self.session is None:
            return
        ids = tuple(packet_ids)
        future = self._house.intake.release(self.session.client_id, ids)

        def released(done: asyncio.Future[None] | None) -> None:
            if done is None or not (done.cancelled() or done.exception() is not None):
                self.send(b"".join(pubcomp(packet_id) for packet_id in ids))
            else:
                self.close("not_accepted")

        if future is None:
            released(None)
        else:
            future.add_done_callback(released)

    def _subscribe(self, session: Session, frame: Subscribe) -> None:
        assert self.publisher is not None  # noqa: S101
        granted = []
        for topic_filter, qos in frame.requests:
            fits = len(session.subscriptions) < MAX_SUBSCRIPTIONS or topic_filter in session.subscriptions
            if not fits or not self._rights.may_subscribe(topic_filter):
                self._house.counters.denied_subscribes += 1
                reason = "outside the user's rights" if fits else f"more than {MAX_SUBSCRIPTIONS} filters"
                self._warn("subscribe_denied", self.publisher.name, topic_filter=topic_filter, reason=reason)
                granted.append(_REFUSED)
                continue
            given = self._house.router.subscribe(session.client_id, topic_filter, qos)
            granted.append(given)
            if given != _REFUSED:
                session.subscriptions[topic_filter] = given
        self.send(suback(frame.packet_id, granted))
        for (topic_filter, _), qos in zip(frame.requests, granted, strict=True):
            if qos != _REFUSED:
                self._house.router.send_retained(session.client_id, topic_filter, qos)
                self._house.presence.subscribed(self.publisher, topic_filter)

    # Reading, writing, ending.

    def _hold(self, why: Hold) -> None:
        if not self._holds and not self._ended and self.transport is not None and self.transport.is_reading():
            self.transport.pause_reading()
        self._holds |= why

    def _unhold(self, why: Hold) -> None:
        if why not in self._holds:
            return
        self._holds &= ~why
        if not self._holds and not self._ended and self.transport is not None:
            self._heard_at = self._loop.time()
            self.transport.resume_reading()

    def _check_alive(self) -> None:
        """3.1.2.10: closed after one and a half of the client's interval without a byte, unless it is us who pause."""
        now = self._loop.time()
        if self._holds:
            self._heard_at = now
        quiet_s = now - self._heard_at
        if quiet_s >= self._keep_alive_s:
            self.close("keep_alive")
        else:
            self._timer = self._loop.call_later(self._keep_alive_s - quiet_s, self._check_alive)

    def _flush(self) -> None:
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out = []
        self._out_bytes = 0
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def _end(self, cause: str, will: Will | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self.publisher is not None:
            self._house.flow.let_go(self.publisher.user, self)
            left_out = self._house.log_budget.take("client_disconnected", self._loop.time())
            if left_out is not None:
                log.info("client_disconnected", client_id=self.publisher.client_id, cause=cause, left_out=left_out)
        self._house.ended(self, will)

    def _warn(self, event: str, key: str, **facts: object) -> None:
        left_out = self._house.log_budget.take(f"{event}:{key}", self._loop.time())
        if left_out is None:
            return
        if self.publisher is not None:
            facts = {"user": self.publisher.user, "client_id": self.publisher.client_id, **facts}
        log.warning(event, **facts, left_out=left_out)


def _ignore(done: asyncio.Future[None]) -> None:
    """Whether it failed is of no interest; asked, so that nobody reports an unseen error."""
    if not done.cancelled():
        done.exception()
