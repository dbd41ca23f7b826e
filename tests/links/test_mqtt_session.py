"""A session's promises to its subscriber, without a socket: order, window, redelivery, bound."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from evedge.core.counters import MqttCounters
from evedge.core.model import Publish
from evedge.links.mqtt_frames import FrameReader, Pubrel
from evedge.links.mqtt_session import MESSAGE_OVERHEAD, WINDOW, Session
from links.raw_mqtt import connect


class Wire:
    """Reads what the session sends."""

    def __init__(self, *, writable=True):
        self.writable = writable
        self.frames = []
        self._reader = FrameReader(1 << 20)
        self._reader.feed(connect())

    def send(self, data):
        self.frames += self._reader.feed(data)

    def take(self):
        frames, self.frames = self.frames, []
        return frames


def make(*, max_bytes=1 << 20, clean=False):
    return Session("c", None, clean=clean, max_bytes=max_bytes, counters=MqttCounters())


def publishes(frames):
    return [(frame.payload, frame.qos, frame.packet_id, frame.dup) for frame in frames if isinstance(frame, Publish)]


def test_no_more_than_the_window_is_sent_unacknowledged_and_order_is_kept():
    session, wire = make(), Wire()
    session.attach(wire)
    for number in range(WINDOW + 2):
        session.deliver("t", b"%d" % number, 1, retain=False)
    session.deliver("t", b"qos 0", 0, retain=False)
    assert [frame.payload for frame in wire.take()] == [b"%d" % number for number in range(WINDOW)]
    session.puback(1)
    assert [frame.payload for frame in wire.take()] == [b"%d" % WINDOW]
    session.puback(2)
    assert [frame.payload for frame in wire.take()] == [b"%d" % (WINDOW + 1), b"qos 0"]


def test_nothing_is_sent_while_the_socket_takes_nothing():
    session, wire = make(), Wire(writable=False)
    session.attach(wire)
    session.deliver("t", b"a", 0, retain=False)
    session.deliver("t", b"b", 1, retain=False)
    assert wire.take() == []
    wire.writable = True
    session.pump()
    assert [frame.payload for frame in wire.take()] == [b"a", b"b"]


def test_a_full_session_drops_the_newest_qos_0_first_then_what_comes():
    size = 100 + MESSAGE_OVERHEAD + 1
    session = make(max_bytes=3 * size)
    wire = Wire(writable=False)
    session.attach(wire)
    for name, qos in ((b"a", 0), (b"b", 0), (b"c", 1), (b"d", 0), (b"e", 1), (b"f", 1), (b"g", 1)):
        session.deliver("t", name * 100, qos, retain=False)
    assert session._counters.dropped == {"session_full": 4}
    wire.writable = True
    session.pump()
    assert [frame.payload[:1] for frame in wire.take()] == [b"c", b"e", b"f"]


def test_qos_2_goes_on_from_where_it_was():
    session, wire = make(), Wire()
    session.attach(wire)
    session.deliver("t", b"a", 2, retain=False)
    session.pubrec(1)
    assert wire.take()[1:] == [Pubrel(1)]
    session.detach()
    session.attach(wire)
    assert wire.take() == [Pubrel(1)]
    session.pubcomp(1)
    assert (session.waiting, session.size_bytes) == (0, 0)


def test_acknowledgements_of_the_wrong_kind_or_for_unknown_ids_change_nothing():
    session, wire = make(), Wire()
    session.attach(wire)
    session.deliver("t", b"a", 2, retain=False)
    session.deliver("t", b"b", 1, retain=False)
    session.puback(1)
    session.pubcomp(1)
    session.puback(99)
    session.pubcomp(2)
    assert session.waiting == 2
    session.pubrec(99)
    assert wire.take()[-1] == Pubrel(99)


def test_packet_ids_in_use_are_passed_over_when_they_come_round():
    session, wire = make(), Wire()
    session.attach(wire)
    session.deliver("t", b"stays", 1, retain=False)
    session._last_packet_id = 65_535
    session.deliver("t", b"next", 1, retain=False)
    assert [frame.packet_id for frame in wire.take()] == [1, 2]


def test_an_ended_session_holds_nothing():
    session = make()
    session.deliver("t", b"a", 1, retain=False)
    session.discard()
    assert session._counters.session_bytes == 0


class Subscriber(RuleBasedStateMachine):
    """A client that connects, acknowledges and vanishes at random, against what it was promised."""

    def __init__(self):
        super().__init__()
        self.session = make(max_bytes=40 * (MESSAGE_OVERHEAD + 10))
        self.wire = None
        self.number = 0
        self.owed = []  # QoS 1 and 2 accepted by the session and not acknowledged, in order
        self.seen = {}  # packet id: (payload, qos), sent and not acknowledged
        self.released = set()

    @rule(qos=st.integers(0, 2))
    def deliver(self, qos):
        self.number += 1
        payload = b"%d" % self.number
        dropped = self.session._counters.dropped["session_full"]
        self.session.deliver("t", payload, qos, retain=False)
        kept = self.session._counters.dropped["session_full"] == dropped or self._was_kept(payload)
        if qos and kept:
            self.owed.append(payload)

    def _was_kept(self, payload):
        waiting = [*self.session._sent.values(), *self.session._queue]
        return any(message.payload == payload and not message.dropped for message in waiting)

    @precondition(lambda self: self.wire is None)
    @rule(writable=st.booleans())
    def come(self, writable):
        self.wire = Wire(writable=writable)
        sent_before = dict(self.seen)
        self.session.attach(self.wire)
        frames = self.wire.take()
        again = frames[: len(sent_before)]
        assert [frame.packet_id for frame in again] == list(sent_before)
        for frame in again:
            assert isinstance(frame, Pubrel) if frame.packet_id in self.released else frame.dup
        self._look(frames[len(sent_before) :])

    @precondition(lambda self: self.wire is not None)
    @rule()
    def vanish(self):
        self.session.detach()
        self.wire = None

    @precondition(lambda self: self.wire is not None)
    @rule(writable=st.booleans())
    def turn(self, writable):
        self.wire.writable = writable
        self.session.pump()

    @precondition(lambda self: self.wire is not None and self.seen)
    @rule(data=st.data())
    def acknowledge(self, data):
        packet_id = data.draw(st.sampled_from(sorted(self.seen)))
        payload, qos = self.seen[packet_id]
        if qos == 2 and packet_id not in self.released:
            self.released.add(packet_id)
            self.session.pubrec(packet_id)
            return
        self.owed.remove(payload)
        del self.seen[packet_id]
        self.released.discard(packet_id)
        (self.session.puback if qos == 1 else self.session.pubcomp)(packet_id)

    def _look(self, frames):
        for frame in frames:
            if isinstance(frame, Publish) and frame.qos:
                assert not frame.dup
                assert frame.packet_id not in self.seen
                self.seen[frame.packet_id] = (frame.payload, frame.qos)

    @invariant()
    def nothing_owed_is_lost_or_turned_round(self):
        if self.wire is not None:
            self._look(self.wire.take())
        sent = [payload for payload, _ in self.seen.values()]
        waiting = [m.payload for m in self.session._queue if m.qos]
        assert sent + waiting == self.owed

    @invariant()
    def the_bound_holds(self):
        session = self.session
        held = [*session._sent.values(), *(m for m in session._queue if not m.dropped)]
        assert session.size_bytes == sum(m.size for m in held) == session._counters.session_bytes
        assert session.size_bytes <= session._max_bytes
        assert len(session._sent) <= WINDOW


TestSubscriber = Subscriber.TestCase
TestSubscriber.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestSubscriber = pytest.mark.timeout(60)(TestSubscriber)
