"""One MQTT client's connection: what each frame means.

Lives from accept to the socket's end; what outlives it is in `mqtt_session`, and who comes in is decided in
`mqtt_front`. Everything here is a plain call from the event loop; it waits for nothing.

Invariants:
- Nothing but CONNECT is heeded before the client is let in; what it sends meanwhile is kept in order, one read at most.
- A denied publish is not acknowledged: what came before it is accepted, then the connection ends.
- A client has the event loop for `TURN_S` at a time: what one read brought beyond that comes after the others' turns,
  in its order, and nothing more is read meanwhile.
- Publishes may wait for the journal while PINGREQ, SUBSCRIBE and acknowledgements are served; when the socket is held,
  the keep-alive clock stands still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import structlog

from evedge.core.counters import MqttCounters
from evedge.core.log_budget import LogBudget
from evedge.core.model import Publish, Publisher
from evedge.core.rights import Ownership, Rights
from evedge.links.mqtt_flow import Flow
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
    suback,
    unsuback,
)
from evedge.links.mqtt_incoming import Incoming
from evedge.links.mqtt_protocols import FrontSettings, Intake, Presence, Router
from evedge.links.mqtt_session import Session
from evedge.links.mqtt_socket import Hold, Socket

log = structlog.get_logger()

MAX_SUBSCRIPTIONS = 1000
"""Per session; more are refused."""
TURN_S = 0.01
"""How long one client is served before the others have their turn; a quarter of a megabyte may hold much to do."""
BATCH = 128
"""Publishes that are accepted in one call."""
_KNOWN_TOPICS = 1000
_REFUSED = 0x80


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

    def ended(self, connection: Connection) -> None: ...

    def gone(self, connection: Connection) -> None: ...


class _Subscribed(NamedTuple):
    """To do after a SUBACK, one filter at a time: what is retained may be much."""

    topic_filter: str
    qos: int


class _Client:
    """What a connection has once its client is let in."""

    __slots__ = ("incoming", "keep_alive_s", "may_publish", "publisher", "rights", "session")

    def __init__(
        self, publisher: Publisher, rights: Rights, session: Session, incoming: Incoming, keep_alive_s: float
    ) -> None:
        self.publisher = publisher
        self.rights = rights
        self.session = session
        self.incoming = incoming
        self.keep_alive_s = keep_alive_s
        self.may_publish: set[str] = set()  # topics that were found to be allowed


class Connection(Socket):
    """The protocol of one client. `will` is what to publish should it end now."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self.will: Will | None = None
        self._house = house
        self._reader = FrameReader(house.settings.max_packet_bytes)
        self._client: _Client | None = None
        self._knocked = False
        self._left: deque[Frame | _Subscribed] = deque()  # what was read and is not done yet
        self._early: list[Frame] = []  # what came behind CONNECT while it was being decided

    def __repr__(self) -> str:
        client_id = self._client.publisher.client_id if self._client is not None else "not logged in"
        return f"<Connection {client_id} from {self.peer}, held by {self._holds}>"

    @property
    def publisher(self) -> Publisher | None:
        """Who it is, once let in."""
        return self._client.publisher if self._client is not None else None

    @property
    def session(self) -> Session | None:
        """The session it serves, once let in."""
        return self._client.session if self._client is not None else None

    # What asyncio calls.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._set_timer(self._loop.call_later(self._house.settings.connect_timeout_s, self._no_connect))
        self._house.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._heard_at = self._loop.time()
        frames = self._reader.feed(data)
        if self._client is not None:
            self._take(self._client, frames)
        elif self._knocked:
            self._early += frames
        elif frames:
            self._knock(frames)
        if not self._left:
            self._end_of_frames()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._client is not None and not self._ended:
            self._client.session.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self.finish()  # there may be a DISCONNECT in it, which takes the will away
        super().connection_lost(exc)
        self._house.gone(self)

    # What the front calls.

    def open(self, publisher: Publisher, rights: Rights, session: Session, connect: Connect, *, present: bool) -> None:
        """Let in: CONNACK, what the session holds, then what the client sent meanwhile."""
        house = self._house
        self.send(connack(ReturnCode.ACCEPTED, session_present=present))
        session.attach(self)
        incoming = Incoming(self, publisher, session, house.intake, house.flow, house.counters)
        self._client = client = _Client(publisher, rights, session, incoming, connect.keep_alive_s * 1.5)
        self.will = connect.will
        if client.keep_alive_s:
            self._heard_at = self._loop.time()
            self._set_timer(self._loop.call_later(client.keep_alive_s, self._check_alive))
        house.presence.connected(publisher)
        self.unhold(Hold.LOGIN)
        early, self._early = self._early, []
        self._take(client, early)

    def finish(self) -> None:
        """Do all that was read, now."""
        if self._client is not None:
            self._work(self._client, to_the_end=True)

    def refuse(self, code: ReturnCode, reason: str) -> None:
        """Not let in."""
        self._house.counters.refused[reason] += 1
        self.send(connack(code))
        self.close(reason)

    # Before the client is let in.

    def _no_connect(self) -> None:
        self._house.counters.refused["connect_timeout"] += 1
        self.abort()

    def _knock(self, frames: list[Frame]) -> None:
        connect = frames[0]
        assert isinstance(connect, Connect)  # noqa: S101 -- the reader lets nothing else come first
        self._knocked = True
        self._set_timer(None)
        self._early = frames[1:]
        self._house.knocked(self, connect)

    def _malformed(self, error: Exception) -> None:
        self._warn("client_malformed", self.peer.rpartition(":")[0], peer=self.peer, error=str(error))
        if isinstance(error, UnsupportedVersion):
            self.refuse(ReturnCode.UNACCEPTABLE_VERSION, "version")
            return
        if self._client is None:
            self._house.counters.refused["malformed"] += 1
        self.close("malformed")

    # Frames of a client that is in.

    def _take(self, client: _Client, frames: list[Frame]) -> None:
        """What one read brought, in order, behind what is left of the one before."""
        is_working = bool(self._left)
        self._left.extend(frames)
        if not is_working:
            self._work(client)

    def _work(self, client: _Client, *, to_the_end: bool = False) -> None:
        """Publishes are gathered: one accept for many of them."""
        known, incoming, left = client.may_publish, client.incoming, self._left
        ends_at = self._loop.time() + TURN_S
        gathered = 0
        while left and not self._ended:
            frame = left.popleft()
            if isinstance(frame, Publish):
                if frame.topic in known or self._judge(client, frame):
                    incoming.publish(frame)
                    gathered += 1
                if gathered < BATCH:
                    continue
                gathered = 0
                incoming.flush()
            else:
                _MEANINGS[type(frame)](self, client, frame)
            if left and not to_the_end and self._loop.time() >= ends_at:
                break
        if self._ended:
            left.clear()
            return
        incoming.flush()
        if left:
            self.hold(Hold.TURN)
            self._loop.call_soon(self._go_on, client)
            return
        self._hold_if_unread()

    def _go_on(self, client: _Client) -> None:
        """The next turn."""
        self._work(client)
        if not self._left and not self._ended:
            self.unhold(Hold.TURN)
            self._end_of_frames()

    def _end_of_frames(self) -> None:
        if self._reader.error is not None and not self._ended:
            self._malformed(self._reader.error)

    def _judge(self, client: _Client, frame: Publish) -> bool:
        """Whether the client may publish this. If not, it is ignored or the connection ends."""
        topic, house = frame.topic, self._house
        refusal = house.ownership.refusal(client.publisher, topic)
        if refusal is None and topic.startswith("$"):
            # 4.7.2 keeps these for the server's own use. Acknowledged, or the client would send it for ever.
            house.counters.ignored_publishes += 1
            self._warn("publish_ignored", client.publisher.name, topic=topic)
            client.incoming.acknowledge(frame)
            return False
        if refusal is None and not client.rights.may_publish(topic):
            refusal = "is outside the user's rights"
        if refusal is not None:
            client.incoming.flush()
            house.counters.denied_publishes += 1
            self._warn("publish_denied", client.publisher.name, topic=topic, reason=f"the topic {refusal}")
            self.close("denied")
            return False
        if len(client.may_publish) >= _KNOWN_TOPICS:
            client.may_publish.clear()
        client.may_publish.add(topic)
        return True

    def _puback(self, client: _Client, frame: Puback) -> None:
        client.session.puback(frame.packet_id)

    def _pubrec(self, client: _Client, frame: Pubrec) -> None:
        client.session.pubrec(frame.packet_id)

    def _pubrel(self, client: _Client, frame: Pubrel) -> None:
        client.incoming.pubrel(frame.packet_id)

    def _pubcomp(self, client: _Client, frame: Pubcomp) -> None:
        client.session.pubcomp(frame.packet_id)

    def _pingreq(self, client: _Client, frame: Pingreq) -> None:  # noqa: ARG002 -- there is nothing in it
        client.incoming.flush()  # the answer says that what came before has been handled
        self.send(PINGRESP)

    def _subscribe(self, client: _Client, frame: Subscribe) -> None:
        client.incoming.flush()  # what was published before is not for this subscription
        session, router = client.session, self._house.router
        granted = []
        for topic_filter, qos in frame.requests:
            refusal = self._subscribe_refusal(client, topic_filter)
            if refusal is None:
                given = router.subscribe(session.client_id, topic_filter, qos)
                session.subscriptions[topic_filter] = given
                granted.append(given)
            else:
                self._house.counters.denied_subscribes += 1
                self._warn("subscribe_denied", client.publisher.name, topic_filter=topic_filter, reason=refusal)
                granted.append(_REFUSED)
        self.send(suback(frame.packet_id, granted))
        self._left.extendleft(
            [
                _Subscribed(topic_filter, qos)
                for (topic_filter, _), qos in zip(reversed(frame.requests), reversed(granted), strict=True)
                if qos != _REFUSED
            ]
        )

    def _subscribed(self, client: _Client, done: _Subscribed) -> None:
        self._house.router.send_retained(client.session.client_id, done.topic_filter, done.qos)
        self._house.presence.subscribed(client.publisher, done.topic_filter)

    def _subscribe_refusal(self, client: _Client, topic_filter: str) -> str | None:
        subscriptions = client.session.subscriptions
        if not client.rights.may_subscribe(topic_filter):
            return "outside the user's rights"
        if len(subscriptions) >= MAX_SUBSCRIPTIONS and topic_filter not in subscriptions:
            return f"more than {MAX_SUBSCRIPTIONS} filters"
        return None

    def _unsubscribe(self, client: _Client, frame: Unsubscribe) -> None:
        client.incoming.flush()
        for topic_filter in frame.topic_filters:
            self._house.router.unsubscribe(client.session.client_id, topic_filter)
            client.session.subscriptions.pop(topic_filter, None)
        self.send(unsuback(frame.packet_id))

    def _disconnect(self, client: _Client, frame: Disconnect) -> None:  # noqa: ARG002
        client.incoming.flush()
        self.will = None  # 3.14.4
        self.close("disconnect")

    def _second_connect(self, client: _Client, frame: Connect) -> None:  # noqa: ARG002
        client.incoming.flush()
        self._malformed(ValueError("a second CONNECT (3.1)"))

    # The end.

    def _check_alive(self) -> None:
        """3.1.2.10: closed after one and a half of the client's interval without a byte, unless it is us who pause."""
        assert self._client is not None  # noqa: S101
        now = self._loop.time()
        if self._holds:
            self._heard_at = now
        left_s = self._client.keep_alive_s - (now - self._heard_at)
        if left_s <= 0:
            self.close("keep_alive")
        else:
            self._set_timer(self._loop.call_later(left_s, self._check_alive))

    def _end(self, cause: str) -> None:
        if self._ended:
            return
        super()._end(cause)
        self._set_timer(None)
        if self._client is not None:
            self._client.incoming.leave()
            if cause != "disconnect":
                self._house.counters.closed[cause] += 1
            left_out = self._house.log_budget.take("client_disconnected", self._loop.time())
            if left_out is not None:
                publisher = self._client.publisher
                log.info(
                    "client_disconnected",
                    client_id=publisher.client_id,
                    user=publisher.user,
                    cause=cause,
                    left_out=left_out,
                )
        self._house.ended(self)

    def _warn(self, event: str, key: str, **facts: object) -> None:
        left_out = self._house.log_budget.take(f"{event}:{key}", self._loop.time())
        if left_out is None:
            return
        if self._client is not None:
            publisher = self._client.publisher
            facts = {"user": publisher.user, "client_id": publisher.client_id, **facts}
        log.warning(event, **facts, left_out=left_out)


_MEANINGS: dict[type, Callable[[Connection, _Client, Any], None]] = {
    Puback: Connection._puback,  # noqa: SLF001 -- the class's own table
    Pubrec: Connection._pubrec,  # noqa: SLF001
    Pubrel: Connection._pubrel,  # noqa: SLF001
    Pubcomp: Connection._pubcomp,  # noqa: SLF001
    Pingreq: Connection._pingreq,  # noqa: SLF001
    Subscribe: Connection._subscribe,  # noqa: SLF001
    _Subscribed: Connection._subscribed,  # noqa: SLF001
    Unsubscribe: Connection._unsubscribe,  # noqa: SLF001
    Disconnect: Connection._disconnect,  # noqa: SLF001
    Connect: Connection._second_connect,  # noqa: SLF001
}
"""What each frame but PUBLISH means once the client is in."""
