"""MQTT 3.1.1 frames: bytes to values, as a broker reads them, and values to bytes, as a broker writes them.

Pure: knows no socket, no session, no rights. Section numbers are those of the OASIS standard, MQTT Version 3.1.1.

- `FrameReader.feed` takes bytes as they come and gives every frame that is whole. Bad bytes end the stream: the frames
  before them are still given, `error` says what is wrong, and nothing after them is read.
- A frame that is too large is known by its first bytes and is never gathered.
- Every value is valid: topics have no wildcards, filters are well formed, packet ids are not 0, text has no control
  characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

from evedge.core.model import Publish
from evedge.core.topics import filter_problem, topic_problem

MAX_LEVELS = 200
"""Levels of a topic or filter. The standard has no limit; without one 64 kB of slashes cost a millisecond to match."""

_CONNECT, _PUBLISH = 1, 3
_MAX_LENGTH_BYTES = 4
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")  # NUL must be refused, the others may be: they forge lines in logs
_KNOWN_TOPICS = 512
_KNOWN_TOPIC_BYTES = 256


class FrameError(Exception):
    """The bytes are not MQTT 3.1.1, or not what a client may send."""


class UnsupportedVersion(FrameError):  # noqa: N818 -- it names a condition
    """A CONNECT of another MQTT version: answered with CONNACK 1 (3.1.2.2)."""


class ReturnCode(int, Enum):
    """What a CONNACK says (3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_VERSION = 1
    IDENTIFIER_REJECTED = 2
    UNAVAILABLE = 3
    BAD_USER_OR_PASSWORD = 4
    NOT_AUTHORISED = 5


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client that ends without DISCONNECT."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Connect:
    client_id: str
    clean_session: bool
    keep_alive_s: int
    will: Will | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)


class Puback(NamedTuple):
    packet_id: int


class Pubrec(NamedTuple):
    packet_id: int


class Pubrel(NamedTuple):
    packet_id: int


class Pubcomp(NamedTuple):
    packet_id: int


class Subscribe(NamedTuple):
    packet_id: int
    requests: tuple[tuple[str, int], ...]
    """Topic filters, each with the highest QoS that is wanted."""


class Unsubscribe(NamedTuple):
    packet_id: int
    topic_filters: tuple[str, ...]


class Pingreq(NamedTuple):
    pass


class Disconnect(NamedTuple):
    pass


Frame: TypeAlias = (
    Publish | Puback | Pubrec | Pubrel | Pubcomp | Subscribe | Unsubscribe | Pingreq | Disconnect | Connect
)


class FrameReader:
    """The bytes of one connection, in; frames, out.

    Invariant: less than `max_frame_bytes` are ever kept, as the pieces they came in until the frame is whole.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 0
        self._begun = False
        self._topics: dict[bytes, str] = {}  # topics seen before: decoded and checked once
        self.error: FrameError | None = None
        self.taken = 0
        """Bytes of the frames that the last `feed` gave."""

    def feed(self, data: bytes) -> list[Frame]:
        """Every frame that is whole now, in order. After an error: none."""
        self.taken = 0
        if self.error is not None:
            return []
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        frames: list[Frame] = []
        try:
            done = self._parse(data, frames)
        except FrameError as error:
            self.error = error
            return frames
        self.taken = done
        if done < len(data):
            self._pieces = [data[done:] if done else data]
            self._have = len(data) - done
        return frames

    def _parse(self, data: bytes, frames: list[Frame]) -> int:
        """Appends what is whole; returns how many bytes that was. Sets how many the next frame needs."""
        position, end = 0, len(data)
        if not self._begun and end:
            if data[0] != _CONNECT << 4:
                raise FrameError("the first frame is not CONNECT")
            self._begun = True
        while end - position >= 2:
            first = data[position]
            length = data[position + 1]
            start = position + 2
            if length > 127:
                found = _long_length(data, position + 1)
                if found is None:
                    self._need = end - position + 1
                    return position
                length, start = found
            stop = start + length
            if stop - position > self._max_frame_bytes:
                raise FrameError(f"a frame of {stop - position} bytes: more than {self._max_frame_bytes} are not taken")
            if stop > end:
                self._need = stop - position
                return position
            if first >> 4 == _PUBLISH:
                frames.append(self._publish(first, data, start, stop))
            else:
                parse = _PARSERS.get(first)
                if parse is None:
                    raise FrameError(f"a frame that begins with 0x{first:02x}: no client sends that")
                frames.append(parse(data[start:stop]))
            position = stop
        self._need = 2
        return position

    def _publish(self, first: int, data: bytes, start: int, stop: int) -> Publish:
        """3.3"""
        qos = first >> 1 & 3
        topic_end = start + 2
        if topic_end > stop:
            raise FrameError("PUBLISH ends before its topic")
        topic_start, topic_end = topic_end, topic_end + (data[start] << 8 | data[start + 1])
        payload_start = topic_end + 2 if qos else topic_end
        if payload_start > stop:
            raise FrameError("PUBLISH ends before its payload")
        raw = data[topic_start:topic_end]
        topic = self._topics.get(raw) or self._new_topic(raw)
        if not qos:
            if first & 8:
                raise FrameError("PUBLISH with QoS 0 and DUP (3.3.1.1)")
            return Publish(topic, data[payload_start:stop], 0, bool(first & 1))
        if qos == 3:
            raise FrameError("PUBLISH with QoS 3 (3.3.1.2)")
        packet_id = data[topic_end] << 8 | data[topic_end + 1]
        if not packet_id:
            raise FrameError("PUBLISH with packet id 0 (2.3.1)")
        return Publish(topic, data[payload_start:stop], qos, bool(first & 1), packet_id, bool(first & 8))

    def _new_topic(self, raw: bytes) -> str:
        topic = _checked_topic(_text(raw, "topic"), "PUBLISH on a topic that")
        if len(raw) <= _KNOWN_TOPIC_BYTES:
            if len(self._topics) >= _KNOWN_TOPICS:
                self._topics.clear()
            self._topics[raw] = topic
        return topic


def _long_length(data: bytes, position: int) -> tuple[int, int] | None:
    """The remaining length that begins at `position` (2.2.3) and where it ends; None when more bytes are needed."""
    length = 0
    for index in range(_MAX_LENGTH_BYTES):
        if position + index >= len(data):
            return None
        byte = data[position + index]
        length |= (byte & 127) << 7 * index
        if byte < 128:
            return length, position + index + 1
    raise FrameError("a remaining length of more than four bytes (2.2.3)")


def _text(raw: bytes, what: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrameError(f"{what} is not UTF-8") from error
    if _CONTROL.search(text):
        raise FrameError(f"{what} holds a control character (1.5.3)")
    return text


def _checked_topic(topic: str, what: str) -> str:
    problem = topic_problem(topic)
    if problem is not None:
        raise FrameError(f"{what} {problem}")
    _check_levels(topic, what)
    return topic


def _check_levels(text: str, what: str) -> None:
    if text.count("/") >= MAX_LEVELS:
        raise FrameError(f"{what} has more than {MAX_LEVELS} levels")


class _Body:
    """Reads a frame's variable header and payload from front to back."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._position = 0
        self._name = name

    @property
    def empty(self) -> bool:
        return self._position == len(self._data)

    def take(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._data):
            raise FrameError(f"{self._name} ends too early")
        return self._data[start : self._position]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self, what: str) -> str:
        return _text(self.binary(), f"{self._name}'s {what}")

    def packet_id(self) -> int:
        packet_id = self.number()
        if not packet_id:
            raise FrameError(f"{self._name} with packet id 0 (2.3.1)")
        return packet_id

    def end(self) -> None:
        if not self.empty:
            raise FrameError(f"{self._name} goes on after its end")


def _connect(data: bytes) -> Connect:
    """3.1"""
    body = _Body(data, "CONNECT")
    protocol, level = body.text("protocol name"), body.byte()
    if (protocol, level) != ("MQTT", 4):
        if protocol in {"MQTT", "MQIsdp"}:
            raise UnsupportedVersion(f"CONNECT of MQTT protocol level {level}: 3.1.1 (level 4) is spoken here")
        raise FrameError("CONNECT of an unknown protocol")
    flags, keep_alive_s = body.byte(), body.number()
    has_will, will_qos, will_retain = bool(flags & 4), flags >> 3 & 3, bool(flags & 32)
    if flags & 1 or will_qos == 3 or (not has_will and (will_qos or will_retain)) or flags & 0xC0 == 0x40:
        raise FrameError(f"CONNECT with flags 0x{flags:02x} (3.1.2.3)")
    client_id = body.text("client id")
    will = None
    if has_will:
        topic = _checked_topic(body.text("will topic"), "CONNECT's will topic")
        will = Will(topic, body.binary(), will_qos, will_retain)
    username = body.text("user name") if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    body.end()
    return Connect(client_id, bool(flags & 2), keep_alive_s, will, username, password)


def _subscribe(data: bytes) -> Subscribe:
    """3.8"""
    body = _Body(data, "SUBSCRIBE")
    packet_id = body.packet_id()
    requests = []
    while not body.empty:
        topic_filter, qos = _filter(body, "SUBSCRIBE"), body.byte()
        if qos > 2:
            raise FrameError(f"SUBSCRIBE with QoS byte 0x{qos:02x} (3.8.3)")
        requests.append((topic_filter, qos))
    if not requests:
        raise FrameError("SUBSCRIBE without a topic filter (3.8.3)")
    return Subscribe(packet_id, tuple(requests))


def _unsubscribe(data: bytes) -> Unsubscribe:
    """3.10"""
    body = _Body(data, "UNSUBSCRIBE")
    packet_id = body.packet_id()
    topic_filters = []
    while not body.empty:
        topic_filters.append(_filter(body, "UNSUBSCRIBE"))
    if not topic_filters:
        raise FrameError("UNSUBSCRIBE without a topic filter (3.10.3)")
    return Unsubscribe(packet_id, tuple(topic_filters))


def _filter(body: _Body, name: str) -> str:
    topic_filter = body.text("topic filter")
    problem = filter_problem(topic_filter)
    if problem is not None:
        raise FrameError(f"{name} with a topic filter that {problem}")
    _check_levels(topic_filter, f"{name} with a topic filter that")
    return topic_filter


def _acknowledgement(kind: type[Puback | Pubrec | Pubrel | Pubcomp]) -> Callable[[bytes], Frame]:
    name = kind.__name__.upper()

    def parse(data: bytes) -> Frame:
        if len(data) != 2:
            raise FrameError(f"{name} of {len(data)} bytes instead of 2")
        packet_id = data[0] << 8 | data[1]
        if not packet_id:
            raise FrameError(f"{name} with packet id 0 (2.3.1)")
        return kind(packet_id)

    return parse


def _bare(frame: Frame, name: str) -> Callable[[bytes], Frame]:
    def parse(data: bytes) -> Frame:
        if data:
            raise FrameError(f"{name} with a body")
        return frame

    return parse


_PARSERS: dict[int, Callable[[bytes], Frame]] = {
    0x10: _connect,
    0x40: _acknowledgement(Puback),
    0x50: _acknowledgement(Pubrec),
    0x62: _acknowledgement(Pubrel),
    0x70: _acknowledgement(Pubcomp),
    0x82: _subscribe,
    0xA2: _unsubscribe,
    0xC0: _bare(Pingreq(), "PINGREQ"),
    0xE0: _bare(Disconnect(), "DISCONNECT"),
}
"""By the whole first byte: the four low bits are fixed for all but PUBLISH (2.2.2), so wrong ones are unknown here."""


PINGRESP = b"\xd0\x00"


def connack(code: ReturnCode, *, session_present: bool = False) -> bytes:
    """3.2"""
    return bytes((0x20, 2, session_present, code))


def puback(packet_id: int) -> bytes:
    """3.4"""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def pubrec(packet_id: int) -> bytes:
    """3.5"""
    return b"\x50\x02" + packet_id.to_bytes(2, "big")


def pubrel(packet_id: int) -> bytes:
    """3.6"""
    return b"\x62\x02" + packet_id.to_bytes(2, "big")


def pubcomp(packet_id: int) -> bytes:
    """3.7"""
    return b"\x70\x02" + packet_id.to_bytes(2, "big")


def suback(packet_id: int, granted: Sequence[int]) -> bytes:
    """3.9; granted: a QoS, or 0x80 for a refusal, for each filter of the SUBSCRIBE."""
    return b"\x90" + _length(2 + len(granted)) + packet_id.to_bytes(2, "big") + bytes(granted)


def unsuback(packet_id: int) -> bytes:
    """3.11"""
    return b"\xb0\x02" + packet_id.to_bytes(2, "big")


def publish(topic: str, payload: bytes, qos: int, *, retain: bool, packet_id: int = 0, dup: bool = False) -> bytes:
    """3.3; packet_id counts for QoS 1 and 2 only."""
    name = topic.encode()
    first = 0x30 | dup << 3 | qos << 1 | retain
    length = 2 + len(name) + len(payload)
    if qos:
        number = packet_id.to_bytes(2, "big")
        return b"%c%b%b%b%b%b" % (first, _length(length + 2), len(name).to_bytes(2, "big"), name, number, payload)
    return b"%c%b%b%b%b" % (first, _length(length), len(name).to_bytes(2, "big"), name, payload)


def _length(length: int) -> bytes:
    """2.2.3"""
    if length < 128:
        return bytes((length,))
    out = bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    out.append(length)
    return bytes(out)
