"""What a delivery costs in the ways of using amqtt as a router: CPU per delivery, as ratios.

    python bench/mqtt_router.py [messages]

One topic, two subscribers of which one by wildcard, 300 bytes, and a hundred filters of other sessions beside them.

- virtual connection: stock `Broker`; each session is a connection through its external listener, as bytes.
- handler, stock fan-out: sessions without a connection, amqtt's walk over all filters and a task each.
- ours, to bytes: `Router` and the front's sessions, as far as the bytes for a socket, acknowledged at once.
- ours, the router alone: `Router`, into an outbox that only counts. The two above it do more than this one.
- nobody subscribes: ours, for a topic without subscribers.
"""

import asyncio
import logging
import sys
import time

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker

from evedge.links import mqtt_frames
from evedge.links.broker import Router
from evedge.links.mqtt_session import Session

TOPIC, PAYLOAD, OTHERS = "evedge/site-042/rp/rp-07/telemetry", b"x" * 300, 100
EXTERNAL = {
    "listeners": {"default": {"type": "external", "bind": "unused:0"}, "ext": {"type": "external"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    "timeout_disconnect_delay": 10**8,
}


class Inbox:
    def __init__(self):
        self.got = 0

    def deliver(self, topic, payload, qos, retain):  # noqa: ARG002 -- only counts
        self.got += 1


class Pipe(ReaderAdapter):
    """Bytes to amqtt from a client that is not there."""

    def __init__(self):
        self.stream = asyncio.StreamReader(limit=1 << 24)

    async def read(self, n=-1):
        return await (self.stream.readexactly(n) if n > 0 else self.stream.read(n))

    def feed_eof(self):
        self.stream.feed_eof()


class Sink(WriterAdapter):
    """Bytes from amqtt; acknowledges each PUBLISH at once."""

    def __init__(self, pipe):
        self.pipe, self.got = pipe, 0

    def write(self, data):
        if data[0] >> 4 == 3:
            self.got += 1
            if data[0] & 6:
                start = 3 if data[1] > 127 else 2
                end = start + 2 + (data[start] << 8 | data[start + 1])
                self.pipe.stream.feed_data(b"\x40\x02" + data[end : end + 2])

    async def drain(self):
        pass

    def get_peer_info(self):
        return "127.0.0.1", 1

    def get_ssl_info(self):
        return None

    async def close(self):
        pass


def connect_bytes(client_id):
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2, "big") + name
    return bytes((0x10, len(body))) + body


def subscribe_bytes(topic_filter, qos):
    name = topic_filter.encode()
    body = b"\x00\x01" + len(name).to_bytes(2, "big") + name + bytes((qos,))
    return bytes((0x82, len(body))) + body


def filters():
    yield "a", TOPIC
    yield "b", "evedge/+/rp/+/telemetry"
    for number in range(OTHERS):
        yield f"other-{number}", f"evedge/site-042/rp/other-{number}/command"


async def virtual_connection(count, qos):
    broker = Broker(EXTERNAL)
    await broker.start()
    sinks, tasks = {}, []
    for client_id, topic_filter in filters():
        pipe = Pipe()
        sinks[client_id] = sink = Sink(pipe)
        pipe.stream.feed_data(connect_bytes(client_id) + subscribe_bytes(topic_filter, qos))
        tasks.append(asyncio.create_task(broker.external_connected(pipe, sink, "ext")))
    await asyncio.sleep(0.5)
    began = time.process_time()
    for number in range(count):
        await broker.internal_message_broadcast(TOPIC, PAYLOAD, qos)
        if number % 50 == 49:
            while sinks["a"].got < number or sinks["b"].got < number:
                await asyncio.sleep(0)
    used = time.process_time() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await broker.shutdown()
    return used / count / 2


class StockFanOut(Router):
    _run_broadcast = Broker._run_broadcast  # noqa: SLF001 -- that is what is measured


async def stock_fan_out(count, qos):
    async with StockFanOut() as router:
        inboxes = {client_id: Inbox() for client_id, _ in filters()}
        for client_id, topic_filter in filters():
            router.open(client_id, inboxes[client_id])
            router.subscribe(client_id, topic_filter, qos)
        began = time.process_time()
        for number in range(count):
            await router.internal_message_broadcast(TOPIC, PAYLOAD, qos)
            if number % 50 == 49:
                while inboxes["b"].got < number:
                    await asyncio.sleep(0)
        return (time.process_time() - began) / count / 2


async def ours(count, qos, topic=TOPIC):
    async with Router() as router:
        inboxes = {client_id: Inbox() for client_id, _ in filters()}
        for client_id, topic_filter in filters():
            router.open(client_id, inboxes[client_id])
            router.subscribe(client_id, topic_filter, qos)
        began = time.process_time()
        for _ in range(count * 20):
            router.publish(topic, PAYLOAD, qos, False)
        used = time.process_time() - began
        assert inboxes["b"].got == (count * 20 if topic == TOPIC else 0)
        return used / count / 20 / (2 if topic == TOPIC else 1)


class Wire:
    """A socket that takes everything, of a subscriber that acknowledges at once."""

    writable = True

    def __init__(self):
        self.got, self.session = 0, None

    def send(self, data):
        self.got += 1
        if data[0] & 6:
            end = 5 + (data[3] << 8 | data[4])
            self.session.puback(data[end] << 8 | data[end + 1])


async def ours_to_bytes(count, qos):
    async with Router() as router:
        wires = {}
        for client_id, topic_filter in filters():
            session = Session(client_id, None, clean=True, max_bytes=1 << 22, counters=router.counters)
            wires[client_id] = wire = Wire()
            wire.session = session
            session.attach(wire)
            router.open(client_id, session)
            router.subscribe(client_id, topic_filter, qos)
        began = time.process_time()
        for _ in range(count * 10):
            router.publish(TOPIC, PAYLOAD, qos, False)
        used = time.process_time() - began
        assert wires["b"].got == count * 10
        return used / count / 10 / 2


async def parse(count):
    reader = mqtt_frames.FrameReader(262_144)
    reader.feed(connect_bytes("a"))
    frames = mqtt_frames.publish(TOPIC, PAYLOAD, 1, retain=False, packet_id=7) * 100
    began = time.process_time()
    for _ in range(count // 10):
        reader.feed(frames)
    return (time.process_time() - began) / (count // 10) / 100


async def main():
    logging.disable(logging.CRITICAL)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    base = await ours_to_bytes(count, 1)
    rows = [
        ("virtual connection, QoS 1", await virtual_connection(count, 1)),
        ("virtual connection, QoS 0", await virtual_connection(count, 0)),
        ("handler, stock fan-out", await stock_fan_out(count, 1)),
        ("ours, to bytes, QoS 1", base),
        ("ours, to bytes, QoS 0", await ours_to_bytes(count, 0)),
        ("ours, the router alone", await ours(count, 1)),
        ("nobody subscribes", await ours(count, 1, "evedge/site-042/rp/rp-08/alert")),
        ("(parsing one PUBLISH)", await parse(count)),
    ]
    print("CPU per delivery, ours to bytes with QoS 1 = 1 (absolute figures are this machine's)")
    for name, seconds in rows:
        print(f"{name:28} {seconds / base:8.1f}   {seconds * 1e6:8.2f} us")


if __name__ == "__main__":
    asyncio.run(main())
