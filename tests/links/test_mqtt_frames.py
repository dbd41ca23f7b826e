"""Frames: what the reader makes of bytes built elsewhere, and what others make of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evedge.core.model import Publish
from evedge.links import mqtt_frames
from evedge.links.mqtt_frames import (
    Connect,
    Disconnect,
    FrameError,
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
)
from links import raw_mqtt

topics = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="+#"), min_size=1, max_size=40)
packet_ids = st.integers(1, 65_535)
payloads = st.binary(max_size=300)


def read(*frames):
    reader = FrameReader(262_144)
    got = reader.feed(b"".join(frames))
    if reader.error is not None:
        raise reader.error
    return got


@given(topics, payloads, st.integers(0, 2), st.booleans(), packet_ids, st.booleans())
def test_publishes_are_read_as_they_were_written(topic, payload, qos, retain, packet_id, dup):
    dup, packet_id = dup and qos > 0, packet_id if qos else 0
    sent = raw_mqtt.publish(topic, payload, qos, packet_id, retain=retain, dup=dup)
    assert read(raw_mqtt.connect(), sent)[1:] == [Publish(topic, payload, qos, retain, packet_id, dup)]
    ours = mqtt_frames.publish(topic, payload, qos, retain=retain, packet_id=packet_id, dup=dup)
    assert ours == sent


@given(st.data())
def test_frames_are_the_same_however_they_are_cut(data):
    stream = b"".join(
        [
            raw_mqtt.connect("c", will=("w", b"gone", 1, True)),
            raw_mqtt.publish("a", b"x" * 200, 1, 7),
            raw_mqtt.PINGREQ,
            raw_mqtt.subscribe(8, ("a/+", 1)),
            raw_mqtt.publish("b", b"y" * 20_000, 2, 9),
            raw_mqtt.ack(raw_mqtt.PUBREL, 9),
        ]
    )
    whole = read(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader, got = FrameReader(262_144), []
    taken = 0
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.feed(stream[start:end])
        taken += reader.taken
    assert got == whole
    assert taken == len(stream)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_fail(noise):
    reader = FrameReader(1000)
    reader.feed(raw_mqtt.connect())
    reader.feed(noise)
    assert reader.error is None or isinstance(reader.error, FrameError)


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30),
    st.booleans(),
    st.integers(0, 65_535),
    st.none() | st.tuples(topics, payloads, st.integers(0, 2), st.booleans()),
    st.none() | st.just("user"),
    st.none() | payloads,
)
def test_connects_are_read_as_they_were_written(client_id, clean, keep_alive, will, user, password):
    password = password if user is not None else None
    sent = raw_mqtt.connect(client_id, clean=clean, keep_alive=keep_alive, will=will, user=user, password=password)
    expected = Connect(client_id, clean, keep_alive, Will(*will) if will else None, user, password)
    assert read(sent) == [expected]


def test_the_other_frames_are_read():
    frames = read(
        raw_mqtt.connect(),
        *(raw_mqtt.ack(first, 258) for first in (0x40, 0x50, 0x62, 0x70)),
        raw_mqtt.subscribe(1, ("a", 0), ("b/#", 2)),
        raw_mqtt.unsubscribe(2, "a", "b/#"),
        raw_mqtt.PINGREQ,
        raw_mqtt.DISCONNECT,
    )[1:]
    assert frames == [
        Puback(258),
        Pubrec(258),
        Pubrel(258),
        Pubcomp(258),
        Subscribe(1, (("a", 0), ("b/#", 2))),
        Unsubscribe(2, ("a", "b/#")),
        Pingreq(),
        Disconnect(),
    ]
    assert [type(frame) for frame in frames[:4]] == [Puback, Pubrec, Pubrel, Pubcomp]


def test_our_answers_are_what_the_standard_says():
    assert mqtt_frames.connack(ReturnCode.ACCEPTED, session_present=True) == b"\x20\x02\x01\x00"
    assert mqtt_frames.connack(ReturnCode.NOT_AUTHORISED) == b"\x20\x02\x00\x05"
    assert mqtt_frames.puback(258) == b"\x40\x02\x01\x02"
    assert mqtt_frames.pubrec(258) == b"\x50\x02\x01\x02"
    assert mqtt_frames.pubrel(258) == b"\x62\x02\x01\x02"
    assert mqtt_frames.pubcomp(258) == b"\x70\x02\x01\x02"
    assert mqtt_frames.suback(258, [0, 1, 0x80]) == b"\x90\x05\x01\x02\x00\x01\x80"
    assert mqtt_frames.unsuback(258) == b"\xb0\x02\x01\x02"
    assert mqtt_frames.PINGRESP == b"\xd0\x00"


def test_a_frame_too_large_is_known_by_its_first_bytes():
    reader = FrameReader(1000)
    reader.feed(raw_mqtt.connect())
    reader.feed(raw_mqtt.publish("a", b"x" * 1000)[:3])
    assert "more than 1000" in str(reader.error)


def test_a_frame_of_just_the_limit_is_taken():
    frame = raw_mqtt.publish("a", b"x" * 500)
    reader = FrameReader(len(frame))
    reader.feed(raw_mqtt.connect())
    assert len(reader.feed(frame)) == 1


def test_what_came_before_bad_bytes_is_given_and_nothing_after():
    reader = FrameReader(1000)
    frames = reader.feed(raw_mqtt.connect() + raw_mqtt.PINGREQ + b"\x00\x00" + raw_mqtt.PINGREQ)
    assert frames[1:] == [Pingreq()]
    assert reader.error is not None
    assert reader.feed(raw_mqtt.PINGREQ) == []


@pytest.mark.parametrize("flags", [0x03, 0x08 | 2, 0x20 | 2, 0x1C | 2, 0x40 | 2])
def test_connect_flags_that_contradict_each_other_are_refused(flags):
    body = raw_mqtt.text("MQTT") + bytes([4, flags, 0, 0]) + raw_mqtt.text("c") * 4
    with pytest.raises(FrameError, match="flags"):
        read(raw_mqtt.frame(0x10, body))


def test_another_version_is_told_apart_from_nonsense():
    with pytest.raises(UnsupportedVersion):
        read(raw_mqtt.connect(level=5))
    with pytest.raises(FrameError, match="unknown protocol"):
        read(raw_mqtt.connect(name="AMQP"))


@pytest.mark.parametrize("topic", ["a\nb", "a\x1b[2J", "a\x7f", "a\x85"])
def test_control_characters_do_not_come_in(topic):
    with pytest.raises(FrameError, match="control character"):
        read(raw_mqtt.connect(), raw_mqtt.publish(topic))


def test_a_byte_order_mark_stays():
    assert read(raw_mqtt.connect(), raw_mqtt.publish("\ufeffa"))[1].topic == "\ufeffa"


def test_a_password_does_not_stand_in_the_repr():
    assert "secret" not in repr(read(raw_mqtt.connect(user="u", password="secret"))[0])
