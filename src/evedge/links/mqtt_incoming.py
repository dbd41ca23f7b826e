"""What one client publishes, from received to acknowledged.

Publishes of one socket read are gathered and given to the intake in one call; acknowledgements go out in the order of
the publishes, each after the intake's future for its read resolved, and never when it failed. QoS 2 ids are kept in
the session until the client releases them. What is in flight is accounted for in `Flow`, also after the socket's end.

Knows no socket and no rights: what comes here may be published.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from evedge.core.counters import MqttCounters
from evedge.core.model import Publish, Publisher
from evedge.links.mqtt_flow import MESSAGE_OVERHEAD, Flow
from evedge.links.mqtt_frames import puback, pubcomp, pubrec
from evedge.links.mqtt_protocols import Intake
from evedge.links.mqtt_session import Session
from evedge.links.mqtt_socket import Hold


class Line(Protocol):
    """The connection, as far as this needs it."""

    def send(self, data: bytes) -> None: ...

    def hold(self, why: Hold) -> None: ...

    def unhold(self, why: Hold) -> None: ...

    def close(self, cause: str) -> None: ...


@dataclass(slots=True)
class _Pending:
    """Acknowledgements that wait: for their own future, or (None) only for those before them."""

    future: asyncio.Future[None] | None
    acks: bytes
    size: int
    received: tuple[int, ...]


class Incoming:
    """One connection's publishes. Call `flush` at the end of each read."""

    def __init__(
        self, line: Line, publisher: Publisher, session: Session, intake: Intake, flow: Flow, counters: MqttCounters
    ) -> None:
        self._line = line
        self._publisher = publisher
        self._session = session
        self._intake = intake
        self._flow = flow
        self._counters = counters
        self._gathered: list[Publish] = []
        self._released: list[int] = []
        self._pending: deque[_Pending] = deque()
        self.in_flight = 0
        """Bytes received and not yet acknowledged."""
        if flow.is_full(publisher.user, 0):  # what the user's former connections left behind
            self._hold()

    def publish(self, message: Publish) -> None:
        """Gather a publish."""
        if message.qos == 2 and self._is_repeated(message):
            return
        self._gathered.append(message)

    def acknowledge(self, message: Publish) -> None:
        """Acknowledge a publish in its turn, without accepting it."""
        self.flush()
        self._append(None, (message,))

    def pubrel(self, packet_id: int) -> None:
        """Gather a release of a QoS 2 id."""
        if any(message.packet_id == packet_id for message in self._gathered):
            self._accept()
        self._session.received.pop(packet_id, None)
        self._session.recovered.discard(packet_id)
        self._released.append(packet_id)

    def flush(self) -> None:
        """Hand over what was gathered."""
        if self._gathered:
            self._accept()
        if self._released:
            self._release()

    def resume(self) -> None:
        """There is room for this user again."""
        if self._flow.has_room(self.in_flight):
            self._line.unhold(Hold.FLOW)

    def leave(self) -> None:
        """The socket is gone. What is in flight stays accounted for until it is accepted."""
        self._flow.let_go(self._publisher.user, self)

    def _is_repeated(self, message: Publish) -> bool:
        """Whether this QoS 2 message is in hand; then only its PUBREC is sent again (4.3.3)."""
        packet_id, session = message.packet_id, self._session
        if packet_id in self._released:
            self._release()
        if packet_id not in session.received:
            session.received[packet_id] = None
            return False
        if packet_id in session.recovered and not message.dup:
            # An earlier run's id, used for the first time on this connection: the client knows nothing of the exchange
            # that was cut, so this is a message of its own, and taking it for the old one would lose it.
            session.recovered.discard(packet_id)
            forgotten = self._intake.release(session.client_id, (packet_id,))
            if forgotten is not None:
                forgotten.add_done_callback(_has_failed)
            return False
        if self._gathered:
            self._accept()
        self._append(session.received[packet_id], (message,))
        return True

    def _accept(self) -> None:
        messages, self._gathered = tuple(self._gathered), []
        self._counters.received += len(messages)
        self._append(self._intake.accept(self._publisher, messages), messages)

    def _append(self, future: asyncio.Future[None] | None, messages: tuple[Publish, ...]) -> None:
        """Acknowledge these when the future resolved and all before them are acknowledged."""
        acks = b"".join(
            [
                puback(message.packet_id) if message.qos == 1 else pubrec(message.packet_id)
                for message in messages
                if message.qos
            ]
        )
        if future is None and (not self._pending or not acks):
            if acks:
                self._line.send(acks)
            return
        size = MESSAGE_OVERHEAD * len(messages)
        received: tuple[int, ...] = ()
        if future is not None:
            size += sum([len(message.payload) for message in messages])
            received = tuple([message.packet_id for message in messages if message.qos == 2])
            for packet_id in received:
                self._session.received[packet_id] = future
            future.add_done_callback(self._settle)
        self._pending.append(_Pending(future, acks, size, received))
        self.in_flight += size
        self._flow.add(self._publisher.user, size)
        if self._flow.is_full(self._publisher.user, self.in_flight):
            self._hold()

    def _settle(self, _: asyncio.Future[None]) -> None:
        """Acknowledge what is accepted, up to the first that is not."""
        acks: list[bytes] = []
        settled = 0
        failed = False
        while self._pending:
            pending = self._pending[0]
            future = pending.future
            if future is not None and not future.done():
                break
            self._pending.popleft()
            settled += pending.size
            lost = future is not None and _has_failed(future)
            failed = failed or lost
            for packet_id in pending.received:
                if self._session.received.get(packet_id) is not future:
                    continue
                if lost:
                    del self._session.received[packet_id]
                else:
                    self._session.received[packet_id] = None
            if not failed:
                acks.append(pending.acks)
        if not settled:
            return
        if acks:
            self._line.send(b"".join(acks))
        if failed:
            self._line.close("not_accepted")
        self.in_flight -= settled
        self._flow.done(self._publisher.user, settled)
        if not self._flow.is_held(self._publisher.user, self):
            self.resume()

    def _release(self) -> None:
        """PUBCOMP, when the ids are forgotten where they were kept (4.3.3)."""
        packet_ids, self._released = tuple(self._released), []
        future = self._intake.release(self._session.client_id, packet_ids)
        if future is None:
            self._complete(packet_ids)
        else:
            future.add_done_callback(
                lambda done: self._line.close("not_accepted") if _has_failed(done) else self._complete(packet_ids)
            )

    def _complete(self, packet_ids: tuple[int, ...]) -> None:
        self._line.send(b"".join([pubcomp(packet_id) for packet_id in packet_ids]))

    def _hold(self) -> None:
        self._line.hold(Hold.FLOW)
        self._flow.hold(self._publisher.user, self)


def _has_failed(future: asyncio.Future[None]) -> bool:
    return future.cancelled() or future.exception() is not None
