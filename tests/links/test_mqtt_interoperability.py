"""The cases of the Eclipse Paho interoperability suite for MQTT 3.1.1, on real sockets against the real front."""

from __future__ import annotations

import asyncio

import aiomqtt
import pytest

from evedge.core.rights import Rights
from evedge.links.mqtt_protocols import User
from evedge.links.passwords import hash_password
from links.raw_mqtt import (
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Broker,
    ack,
    connect,
    publish,
    unsubscribe,
)

TOPICS = ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")


async def publish_2(client, topic, payload, packet_id, *, retain=False):
    client.send(publish(topic, payload, 2, packet_id, retain=retain))
    assert await client.ack() == (PUBREC, packet_id)
    client.send(ack(PUBREL, packet_id))
    assert await client.ack() == (PUBCOMP, packet_id)


async def test_basic_each_qos_comes_back_to_its_publisher():
    async with Broker() as broker:
        async with aiomqtt.Client("127.0.0.1", broker.port, identifier="myclientid") as client:
            await client.subscribe("TopicA", qos=2)
            for qos in (0, 1, 2):
                await client.publish("TopicA", f"qos {qos}", qos=qos)
            got = [await anext(client.messages) for _ in range(3)]
        assert [(m.payload, m.qos) for m in got] == [(b"qos 0", 0), (b"qos 1", 1), (b"qos 2", 2)]


async def test_a_second_connect_on_a_socket_ends_it():
    async with Broker() as broker:
        client = await broker.client()
        client.send(connect())
        assert await client.closed() == b""


async def test_another_protocol_name_is_not_answered():
    async with Broker() as broker:
        client = await broker.socket()
        client.send(connect(name="hj"))
        assert await client.closed() == b""


@pytest.mark.parametrize(("name", "level"), [("MQIsdp", 3), ("MQTT", 5)])
async def test_other_versions_are_told_so(name, level):
    async with Broker() as broker:
        client = await broker.socket()
        client.send(connect(name=name, level=level))
        assert await client.closed() == b"\x20\x02\x00\x01"


async def test_retained_messages_come_on_subscribing_and_go_by_an_empty_one():
    async with Broker() as broker:
        client = await broker.client()
        client.send(publish("TopicA/B", b"qos 0", retain=True), publish("Topic/C", b"qos 1", 1, 1, retain=True))
        assert await client.ack() == (PUBACK, 1)
        await publish_2(client, "TopicA/C", b"qos 2", 2, retain=True)
        assert await client.subscribe(("+/+", 2)) == [2]
        got = [await client.message() for _ in range(3)]
        assert {(m.payload, m.qos, m.retain) for m in got} == {
            (b"qos 0", 0, True),
            (b"qos 1", 1, True),
            (b"qos 2", 2, True),
        }
        other = await broker.client("other")
        other.send(publish("TopicA/B", b"", retain=True), publish("Topic/C", b"", 1, 1, retain=True))
        assert await other.ack() == (PUBACK, 1)
        await publish_2(other, "TopicA/C", b"", 2, retain=True)
        late = await broker.client("late")
        assert await late.subscribe(("+/+", 2)) == [2]
        await late.ping()
        assert broker.counters.retained == broker.counters.retained_bytes == 0


async def test_a_live_message_is_not_marked_retained_and_goes_to_no_one_else():
    async with Broker() as broker:
        watcher, other = await broker.client("watcher"), await broker.client("other")
        await watcher.subscribe(("a", 0))
        other.send(publish("a", b"x", retain=True))
        assert not (await watcher.message()).retain
        await other.subscribe(("b", 0))
        await other.ping()
        await watcher.ping()


async def test_the_will_of_a_client_that_dies_is_published():
    async with Broker() as broker:
        watcher = await broker.client("watcher")
        await watcher.subscribe(("Topic/C", 2))
        dying = await broker.client("dying", will=("Topic/C", b"client not disconnected", 1, True))
        dying.abort()
        got = await watcher.message()
        assert (got.payload, got.qos) == (b"client not disconnected", 1)
        assert broker.router.retained_topics() == [("Topic/C", b"client not disconnected", 1)]


async def test_the_will_of_a_client_that_disconnects_is_not_published():
    async with Broker() as broker:
        client = await broker.client("c", will=("Topic/C", b"gone", 1, False))
        client.send(DISCONNECT)
        await client.closed()
        assert broker.intake.accepted == []


async def test_a_zero_length_client_id_needs_a_clean_session():
    async with Broker() as broker:
        client = await broker.socket()
        assert await client.connect("", clean=False) == (0, 2)
        assert await client.closed() == b""
        assert await (await broker.socket()).connect("") == (0, 0)
        assert await (await broker.socket()).connect("") == (0, 0)
        assert broker.counters.clients == 2


async def test_messages_wait_for_a_client_that_is_away():
    async with Broker() as broker:
        client = await broker.client("a", clean=False)
        await client.subscribe(("+/+", 2))
        client.send(DISCONNECT)
        await client.closed()
        other = await broker.client("b")
        other.send(publish("TopicA/B", b"qos 0"), publish("Topic/C", b"qos 1", 1, 1))
        assert await other.ack() == (PUBACK, 1)
        await publish_2(other, "TopicA/C", b"qos 2", 2)
        client = await broker.client("a", clean=False)
        assert client.present
        got = [await client.message() for _ in range(2)]
        assert [(m.payload, m.qos, m.dup, m.retain) for m in got] == [
            (b"qos 1", 1, False, False),
            (b"qos 2", 2, False, False),
        ]
        assert broker.counters.dropped == {"offline": 1}


async def test_overlapping_subscriptions_deliver_once_with_the_highest_qos():
    async with Broker() as broker:
        client = await broker.client()
        assert await client.subscribe(("TopicA/#", 2), ("TopicA/+", 1)) == [2, 1]
        other = await broker.client("other")
        await publish_2(other, "TopicA/C", b"once", 1)
        assert (await client.message()).qos == 2
        await client.ping()


async def test_a_client_that_falls_silent_is_closed_and_its_will_published():
    async with Broker() as broker:
        watcher = await broker.client("watcher")
        await watcher.subscribe(("/TopicA", 2))
        silent = await broker.client("silent", keep_alive=1, will=("/TopicA", b"keepalive expiry", 0, False))
        assert (await watcher.message()).payload == b"keepalive expiry"
        assert await silent.closed() == b""
        assert broker.counters.closed == {"keep_alive": 1}


async def test_what_was_not_acknowledged_comes_again_with_dup():
    async with Broker() as broker:
        client = await broker.client("b", clean=False)
        await client.subscribe(("TopicA/#", 2))
        other = await broker.client("other")
        other.send(publish("TopicA/B", b"1", 1, 1))
        assert await other.ack() == (PUBACK, 1)
        await publish_2(other, "TopicA/C", b"2", 2)
        first = [await client.message() for _ in range(2)]
        client.abort()
        await broker.presence.until("disconnected", "b")
        client = await broker.client("b", clean=False)
        again = [await client.message() for _ in range(2)]
        assert [(m.payload, m.qos, m.packet_id) for m in again] == [(m.payload, m.qos, m.packet_id) for m in first]
        assert all(m.dup for m in again)
        client.send(ack(PUBACK, again[0].packet_id), ack(PUBREC, again[1].packet_id))
        assert await client.ack() == (PUBREL, again[1].packet_id)
        client.abort()
        await client.closed()
        client = await broker.client("b", clean=False)
        assert await client.ack() == (PUBREL, again[1].packet_id)
        client.send(ack(PUBCOMP, again[1].packet_id))
        await client.ping()
        assert broker.counters.session_bytes == 0


async def test_a_subscription_outside_the_rights_is_refused_with_0x80():
    rights = Rights(publish=("#",), subscribe=("ok/#",))
    user = User("u", password_hash=hash_password("p"), rights=rights)
    async with Broker(allow_anonymous=False, users=(user,)) as broker:
        client = await broker.client(user="u", password="p")
        asked = [("test/nosubscribe", 2), ("ok/1", 1), ("#", 0), ("ok/#", 0), ("+/1", 0)]
        assert await client.subscribe(*asked) == [0x80, 1, 0x80, 0, 0x80]


async def test_dollar_topics_are_not_matched_by_a_wildcard_and_kill_nobody():
    async with Broker() as broker:
        client = await broker.client()
        await client.subscribe(("+/+", 2), ("#", 2))
        client.send(publish("$TopicA/B", b"", 1, 1))
        assert await client.ack() == (PUBACK, 1)
        await publish_2(client, "$SYS/x", b"", 2)
        await client.ping()
        assert broker.counters.ignored_publishes == 2
        assert broker.intake.accepted == []


async def test_unsubscribing_ends_just_that_subscription():
    async with Broker() as broker:
        client = await broker.client()
        await client.subscribe(*((topic, 2) for topic in TOPICS[:3]))
        client.send(unsubscribe(7, TOPICS[0], "never/subscribed"))
        assert await client.ack() == (0xB0, 7)
        other = await broker.client("other")
        other.send(*(publish(topic, b"") for topic in TOPICS[:3]))
        assert [(await client.message()).topic for _ in range(2)] == list(TOPICS[1:3])
        await client.ping()


async def test_subscribing_again_replaces_the_qos_and_sends_retained_again():
    async with Broker() as broker:
        client = await broker.client()
        client.send(publish("a", b"kept", 1, 9, retain=True))
        assert await client.ack() == (PUBACK, 9)
        for qos in (0, 1):
            await client.subscribe(("a", qos))
            got = await client.message()
            assert (got.qos, got.retain) == (qos, True)
        other = await broker.client("other")
        other.send(publish("a", b"live", 1, 1))
        assert (await client.message()).qos == 1
        await client.ping()


async def test_the_clean_flag_ends_a_session():
    async with Broker() as broker:
        client = await broker.client("a", clean=False)
        assert not client.present
        await client.subscribe(("a", 1))
        client.send(DISCONNECT)
        await client.closed()
        assert not (await broker.client("a", clean=True)).present
        assert not (await broker.client("a", clean=False)).present
        broker.router.publish("a", b"", 1, retain=False)
        assert broker.counters.dropped == {}
        assert broker.counters.delivered == 0


async def test_frames_right_behind_connect_need_not_wait_for_connack():
    async with Broker() as broker:
        client = await broker.socket()
        client.send(connect(), publish("a", b"", 1, 5), PINGREQ)
        assert await client.read() == (0x20, b"\x00\x00")
        assert await client.ack() == (PUBACK, 5)
        assert (await client.read())[0] == 0xD0


async def test_real_clients_exchange_messages_through_a_storm_of_sizes():
    async with Broker() as broker:
        sizes = [0, 1, 127, 128, 16_383, 16_384, 200_000]
        address = ("127.0.0.1", broker.port)
        async with aiomqtt.Client(*address, identifier="a") as a, aiomqtt.Client(*address, identifier="b") as b:
            await b.subscribe("s/#", qos=1)
            await asyncio.gather(*(a.publish(f"s/{size}", b"x" * size, qos=1) for size in sizes))
            got = {len((await anext(b.messages)).payload) for _ in sizes}
        assert got == set(sizes)
