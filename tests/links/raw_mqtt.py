"""A raw MQTT client, bytes on a socket without the code under test, and fakes for what is behind the front."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from evedge.core.rights import Ownership
from evedge.core.topics import OwnTopics
from evedge.links.broker import Router
from evedge.links.mqtt_front import MqttFront
from evedge.links.mqtt_protocols import FrontSettings

DEADLINE_S = 10
OWN = OwnTopics("evedge", "site-042")


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return len(raw).to_bytes(2, "big") + raw


def frame(first, body):
    length, out = len(body), bytearray([first])
    while True:
        length, low = divmod(length, 128)
        out.append(low | (128 if length else 0))
        if not length:
            return bytes(out) + body


def connect(client_id="c", *, clean=True, keep_alive=0, user=None, password=None, will=None, level=4, name="MQTT"):
    """will: (topic, payload, qos, retain)"""
    flags = 2 * clean
    payload = text(client_id)
    if will is not None:
        topic, message, qos, retain = will
        flags |= 4 | qos << 3 | retain << 5
        payload += text(topic) + text(message)
    if user is not None:
        flags |= 0x80
        payload += text(user)
    if password is not None:
        flags |= 0x40
        payload += text(password)
    return frame(0x10, text(name) + bytes([level, flags]) + keep_alive.to_bytes(2, "big") + payload)


def publish(topic, payload=b"", qos=0, packet_id=0, *, retain=False, dup=False):
    number = packet_id.to_bytes(2, "big") if qos else b""
    return frame(0x30 | dup << 3 | qos << 1 | retain, text(topic) + number + payload)


def subscribe(packet_id, *requests):
    return frame(0x82, packet_id.to_bytes(2, "big") + b"".join(text(name) + bytes([qos]) for name, qos in requests))


def unsubscribe(packet_id, *filters):
    return frame(0xA2, packet_id.to_bytes(2, "big") + b"".join(text(name) for name in filters))


def ack(first, packet_id):
    return frame(first, packet_id.to_bytes(2, "big"))


PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
PINGREQ, DISCONNECT = b"\xc0\x00", b"\xe0\x00"


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int
    dup: bool


class RawClient:
    """One socket. `read` gives (first byte, body); `closed` waits for the broker to end it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port, **tls):
        return cls(*await asyncio.open_connection("127.0.0.1", port, **tls))

    async def connect(self, *args, **kwargs):
        """Sends CONNECT; returns (session present, return code)."""
        self.send(connect(*args, **kwargs))
        first, body = await self.read()
        assert first == 0x20
        return body[0], body[1]

    def send(self, *frames):
        self.writer.write(b"".join(frames))

    async def read(self):
        async with asyncio.timeout(DEADLINE_S):
            first = (await self.reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            return first, await self.reader.readexactly(length)

    async def message(self):
        first, body = await self.read()
        assert first >> 4 == 3, (first, body)
        qos = first >> 1 & 3
        end = 2 + int.from_bytes(body[:2], "big")
        start = end + 2 if qos else end
        packet_id = int.from_bytes(body[end:start], "big")
        return Message(body[2:end].decode(), body[start:], qos, bool(first & 1), packet_id, bool(first & 8))

    async def ack(self):
        """The next frame, as (first byte, packet id)."""
        first, body = await self.read()
        return first, int.from_bytes(body[:2], "big")

    async def subscribe(self, *requests, packet_id=1):
        """Returns the list of granted QoS."""
        self.send(subscribe(packet_id, *requests))
        first, body = await self.read()
        assert first == 0x90
        return list(body[2:])

    async def ping(self):
        """Everything sent before has been handled when this returns."""
        self.send(PINGREQ)
        assert await self.read() == (0xD0, b"")

    async def closed(self):
        """What the broker still sent before it closed."""
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
            return b""

    async def close(self):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def abort(self):
        self.writer.transport.abort()


class Intake:
    """Accepts at once and hands to the router; with `by_hand` the test resolves `futures`."""

    def __init__(self, router, *, by_hand=False, received=()):
        self.router, self.by_hand = router, by_hand
        self.calls = []
        self.futures = []
        self.released = []
        self.release_futures = []
        self.release_by_hand = False
        self.forgotten = []
        self.received = frozenset(received)
        self.changed = asyncio.Event()

    @property
    def accepted(self):
        return [message for _, messages in self.calls for message in messages]

    def accept(self, publisher, publishes):
        self.calls.append((publisher, tuple(publishes)))
        self.changed.set()
        if not self.by_hand:
            for message in publishes:
                self.router.publish(message.topic, message.payload, message.qos, message.retain)
            return None
        future = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        return future

    async def until(self, condition):
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def release(self, client_id, packet_ids):
        self.released.append((client_id, tuple(packet_ids)))
        self.changed.set()
        if not self.release_by_hand:
            return None
        future = asyncio.get_running_loop().create_future()
        self.release_futures.append(future)
        return future

    def received_ids(self, client_id):
        return self.received

    def forget_session(self, client_id):
        self.forgotten.append(client_id)


class Presence:
    def __init__(self):
        self.events = []
        self.changed = asyncio.Event()

    def _note(self, *event):
        self.events.append(event)
        self.changed.set()

    def connected(self, publisher):
        self._note("connected", publisher.client_id)

    def disconnected(self, publisher):
        self._note("disconnected", publisher.client_id)

    def subscribed(self, publisher, topic_filter):
        self._note("subscribed", publisher.client_id, topic_filter)

    async def until(self, *event):
        async with asyncio.timeout(DEADLINE_S):
            while event not in self.events:
                self.changed.clear()
                await self.changed.wait()


class Broker:
    """A front on a free port with a router and fakes behind it: `async with Broker(…) as broker`."""

    def __init__(self, *, by_hand=False, received=(), recharge_points=None, max_retained_bytes=1 << 20, **settings):
        self.settings = FrontSettings(**({"bind": "127.0.0.1:0", "allow_anonymous": True} | settings))
        self.by_hand, self.received = by_hand, received
        self.recharge_points = recharge_points or {}
        self.max_retained_bytes = max_retained_bytes
        self.clients = []

    async def __aenter__(self):
        self.stack = contextlib.AsyncExitStack()
        self.router = await self.stack.enter_async_context(Router(max_retained_bytes=self.max_retained_bytes))
        self.counters = self.router.counters
        self.intake = Intake(self.router, by_hand=self.by_hand, received=self.received)
        self.presence = Presence()
        front = MqttFront(
            self.settings,
            intake=self.intake,
            router=self.router,
            presence=self.presence,
            ownership=Ownership(OWN, self.recharge_points),
            counters=self.counters,
        )
        self.front = await self.stack.enter_async_context(front)
        self.port = self.front.port
        return self

    async def __aexit__(self, *error):
        await self.stack.aclose()
        for client in self.clients:
            await client.close()

    async def socket(self):
        client = await RawClient.open(self.port)
        self.clients.append(client)
        return client

    async def client(self, *args, **kwargs):
        """A client that is let in."""
        client = await self.socket()
        present, code = await client.connect(*args, **kwargs)
        assert code == 0
        client.present = bool(present)
        return client
