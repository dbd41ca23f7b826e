"""The front's promises on real sockets: acknowledgements, backpressure, rights, take-over, bounds, stopping."""

from __future__ import annotations

import asyncio
import ssl
import subprocess

import pytest
from structlog.testing import capture_logs

from evedge.core.errors import Refused, UsageError
from evedge.core.rights import Rights
from evedge.links import mqtt_flow
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
    RawClient,
    ack,
    connect,
    publish,
    subscribe,
)

HASH = hash_password("right")
ALL = Rights(("#",), ("#",))


def users(*names, rights=ALL):
    return tuple(User(name, HASH, rights=rights) for name in names)


# Acknowledgements.


async def test_puback_waits_until_the_message_is_accepted():
    async with Broker(by_hand=True) as broker:
        client = await broker.client()
        client.send(publish("a", b"x", 1, 1), PINGREQ)
        assert (await client.read())[0] == 0xD0
        assert broker.intake.accepted[0].payload == b"x"
        broker.intake.futures[0].set_result(None)
        assert await client.ack() == (PUBACK, 1)


async def test_acknowledgements_come_in_the_order_of_the_publishes():
    async with Broker(by_hand=True) as broker:
        client = await broker.client()
        client.send(publish("a", b"", 1, 1), publish("a", b"", 2, 2))
        await client.ping()
        client.send(publish("a", b"", 1, 3), publish("$x", b"", 1, 4))
        await client.ping()
        first, second = broker.intake.futures
        second.set_result(None)
        await client.ping()
        first.set_result(None)
        assert [await client.ack() for _ in range(4)] == [(PUBACK, 1), (PUBREC, 2), (PUBACK, 3), (PUBACK, 4)]


async def test_one_read_is_accepted_in_one_call():
    async with Broker() as broker:
        client = await broker.client()
        client.send(*(publish("a", b"%d" % number, 1, number) for number in range(1, 101)))
        assert [await client.ack() for _ in range(100)] == [(PUBACK, number) for number in range(1, 101)]
        assert len(broker.intake.calls) == 1


async def test_what_is_not_accepted_is_not_acknowledged_and_the_client_is_closed():
    async with Broker(by_hand=True) as broker:
        client = await broker.client()
        client.send(publish("a", b"", 2, 1), publish("a", b"", 1, 2))
        await client.ping()
        broker.intake.futures[0].set_exception(RuntimeError("stopping"))
        assert await client.closed() == b""
        assert broker.front.flow.in_flight == 0


async def test_a_client_that_leaves_before_the_acknowledgement_costs_nothing_but_its_message():
    async with Broker(by_hand=True) as broker:
        client = await broker.client()
        client.send(publish("a", b"x" * 1000, 1, 1), DISCONNECT)
        assert await client.closed() == b""
        assert broker.front.flow.in_flight > 1000
        broker.intake.futures[0].set_result(None)
        await (await broker.client("other")).ping()
        assert broker.front.flow.in_flight == 0


# QoS 2.


async def test_a_repeated_qos_2_message_is_accepted_once():
    async with Broker() as broker:
        client = await broker.client(clean=False)
        client.send(publish("a", b"x", 2, 7), publish("a", b"x", 2, 7, dup=True))
        assert [await client.ack() for _ in range(2)] == [(PUBREC, 7)] * 2
        client.abort()
        await broker.presence.until("disconnected", "c")
        client = await broker.client(clean=False)
        client.send(publish("a", b"x", 2, 7, dup=True))
        assert await client.ack() == (PUBREC, 7)
        client.send(ack(PUBREL, 7), publish("a", b"next", 2, 7))
        assert [await client.ack() for _ in range(2)] == [(PUBCOMP, 7), (PUBREC, 7)]
        assert [message.payload for message in broker.intake.accepted] == [b"x", b"next"]


async def test_a_repeated_qos_2_message_is_acknowledged_only_when_the_first_is_accepted():
    async with Broker(by_hand=True) as broker:
        client = await broker.client(clean=False)
        client.send(publish("a", b"x", 2, 7))
        await client.ping()
        client.abort()
        await broker.presence.until("disconnected", "c")
        client = await broker.client(clean=False)
        client.send(publish("a", b"x", 2, 7, dup=True))
        await client.ping()
        broker.intake.futures[0].set_result(None)
        assert await client.ack() == (PUBREC, 7)
        assert len(broker.intake.calls) == 1


async def test_a_qos_2_message_that_was_not_accepted_is_no_duplicate_later():
    async with Broker(by_hand=True) as broker:
        client = await broker.client(clean=False)
        client.send(publish("a", b"x", 2, 7))
        await client.ping()
        broker.intake.futures[0].cancel()
        await client.closed()
        client = await broker.client(clean=False)
        client.send(publish("a", b"x", 2, 7, dup=True))
        await client.ping()
        assert len(broker.intake.calls) == 2


async def test_pubcomp_waits_until_the_id_is_forgotten_on_disk():
    async with Broker() as broker:
        broker.intake.release_by_hand = True
        client = await broker.client()
        client.send(publish("a", b"", 2, 7))
        assert await client.ack() == (PUBREC, 7)
        client.send(ack(PUBREL, 7))
        await client.ping()
        assert broker.intake.released == [("c", (7,))]
        broker.intake.release_futures[0].set_result(None)
        assert await client.ack() == (PUBCOMP, 7)


async def test_an_unknown_pubrel_is_completed():
    async with Broker() as broker:
        client = await broker.client()
        client.send(ack(PUBREL, 9))
        assert await client.ack() == (PUBCOMP, 9)


async def test_ids_of_an_earlier_run_hold_off_duplicates_but_not_new_messages():
    async with Broker(received=(5, 6)) as broker:
        client = await broker.client(clean=False)
        client.send(publish("a", b"again", 2, 5, dup=True), publish("a", b"new", 2, 6))
        assert [await client.ack() for _ in range(2)] == [(PUBREC, 5), (PUBREC, 6)]
        assert [message.payload for message in broker.intake.accepted] == [b"new"]
        assert broker.intake.released == [("c", (6,))]


# Backpressure.


async def test_a_publisher_that_is_not_accepted_is_answered_then_held_then_goes_on():
    async with Broker(by_hand=True) as broker:
        client = await broker.client(keep_alive=1)
        client.send(publish("a", b"x" * 1000, 1, 1), PINGREQ)
        assert (await client.read())[0] == 0xD0  # in flight, and still answered
        size = 200_000
        client.send(*(publish("a", b"x" * size, 1, number) for number in range(2, 7)), PINGREQ)
        await broker.intake.until(lambda: broker.front.flow.in_flight >= mqtt_flow.PER_CONNECTION)
        held_at = broker.front.flow.in_flight
        other = await broker.client("other")
        for _ in range(20):
            await other.ping()
        assert broker.front.flow.in_flight == held_at < mqtt_flow.PER_CONNECTION + 2 * size
        await asyncio.sleep(1.6)  # past its keep-alive: the clock stands still while we do not read
        assert broker.counters.closed == {}
        broker.intake.by_hand = False
        for future in broker.intake.futures:
            future.set_result(None)
        answers = [await client.read() for _ in range(7)]
        assert [body[1] for first, body in answers if first == PUBACK] == [1, 2, 3, 4, 5, 6]
        assert broker.front.flow.in_flight == 0


async def test_what_a_user_left_behind_holds_back_its_next_connection_only(monkeypatch):
    monkeypatch.setattr(mqtt_flow, "PER_USER", 100_000)
    async with Broker(by_hand=True, allow_anonymous=False, users=users("greedy", "modest")) as broker:
        client = await broker.client("g1", user="greedy", password="right")
        client.send(publish("a", b"x" * 150_000, 1, 1), DISCONNECT)
        await client.closed()
        client = await broker.client("g2", user="greedy", password="right")
        client.send(publish("a", b"more", 1, 1))
        other = await broker.client("m", user="modest", password="right")
        other.send(publish("a", b"mine", 1, 1))
        await other.ping()
        assert [message.payload[:4] for message in broker.intake.accepted] == [b"xxxx", b"mine"]
        broker.intake.futures[0].set_result(None)
        await broker.intake.until(lambda: len(broker.intake.calls) == 3)


async def test_a_client_that_takes_no_acknowledgements_is_not_read_without_end():
    async with Broker() as broker:
        client = await broker.client()
        client.writer.transport.pause_reading()
        ping = PINGREQ * 50_000
        written = 0
        try:
            async with asyncio.timeout(2):
                while written < 100_000_000:
                    client.send(ping)
                    await client.writer.drain()
                    written += len(ping)
        except TimeoutError:
            pass
        assert written < 100_000_000
        await (await broker.client("other")).ping()
        client.abort()


async def test_a_slow_subscriber_is_bounded_and_counted_and_harms_nobody():
    async with Broker(max_session_bytes=1_000_000) as broker:
        slow, quick = await broker.client("slow"), await broker.client("quick")
        await slow.subscribe(("a", 1))
        await quick.subscribe(("a", 0))
        slow.writer.transport.pause_reading()
        publisher = await broker.client("publisher")
        for number in range(1, 101):
            publisher.send(publish("a", b"x" * 200_000, 1, number))
            assert await publisher.ack() == (PUBACK, number)
            assert len((await quick.message()).payload) == 200_000
        assert broker.counters.dropped["session_full"] > 50
        assert broker.counters.session_bytes <= 1_000_000
        slow.abort()


# Turns.


async def test_a_client_that_sends_much_at_once_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr("evedge.links.mqtt_connection.TURN_S", 0.0)
    async with Broker() as broker:
        busy, other = await broker.client("busy"), await broker.client("other")
        busy.send(*(subscribe(number, (f"x/{number}", 0)) for number in range(1, 901)))
        answers = asyncio.create_task(busy.reader.readexactly(900 * 5))
        await other.ping()
        assert not answers.done()
        assert (await answers)[-5:] == bytes([0x90, 3, *(900).to_bytes(2, "big"), 0])


async def test_what_is_done_in_turns_keeps_its_order(monkeypatch):
    monkeypatch.setattr("evedge.links.mqtt_connection.TURN_S", 0.0)
    async with Broker() as broker:
        client = await broker.client()
        client.send(publish("a/b", b"kept", retain=True), subscribe(1, ("a/+", 0), ("a/b", 0)))
        client.send(*(publish("a/b", b"%d" % number) for number in range(1000)), PINGREQ, b"\xf0\x00")
        assert (await client.read())[0] == 0x90
        got = [await client.message() for _ in range(1002)]
        assert [(message.payload, message.retain) for message in got[:2]] == [(b"kept", True)] * 2
        assert [message.payload for message in got[2:]] == [b"%d" % number for number in range(1000)]
        assert await client.closed() == b"\xd0\x00"


async def test_a_client_that_says_much_and_leaves_is_heard_to_the_end(monkeypatch):
    monkeypatch.setattr("evedge.links.mqtt_connection.TURN_S", 0.0)
    async with Broker() as broker:
        client = await broker.client(will=("w", b"", 0, False))
        client.send(*[PINGREQ] * 100, publish("a"), DISCONNECT)
        await client.close()
        await broker.presence.until("disconnected", "c")
        assert [message.topic for message in broker.intake.accepted] == ["a"]
        assert broker.counters.wills_published == 0


async def test_stopping_the_intake_takes_what_was_read_already(monkeypatch):
    monkeypatch.setattr("evedge.links.mqtt_connection.TURN_S", 0.0)
    async with Broker() as broker:
        client = await broker.client()
        client.send(publish("first"), *[PINGREQ] * 1000, publish("last"))
        await broker.intake.until(lambda: broker.intake.accepted)
        assert await broker.front.stop_intake() is True
        assert [message.topic for message in broker.intake.accepted] == ["first", "last"]


# Logging in.


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer():
    async with Broker(allow_anonymous=False, users=users("plc-1")) as broker:
        for attempt in ({"user": "plc-1", "password": "wrong"}, {"user": "nobody", "password": "right"}):
            for _ in range(2):  # checked, then remembered
                client = await broker.socket()
                assert await client.connect(**attempt) == (0, 4)
                assert await client.closed() == b""
        assert await (await broker.socket()).connect() == (0, 5)
        assert await (await broker.socket()).connect(user="plc-1") == (0, 4)
        assert broker.counters.refused == {"login": 6}
        assert (await broker.client(user="plc-1", password="right")).present is False


async def test_where_anonymous_clients_are_let_in_a_users_name_still_needs_its_password():
    async with Broker(users=users("plc-1")) as broker:
        assert await (await broker.socket()).connect(user="plc-1", password="wrong") == (0, 4)
        await broker.client("x", user="somebody", password="something")
        assert (await broker.client(user="plc-1", password="right")).present is False


async def test_a_client_that_leaves_during_its_password_check_is_forgotten():
    async with Broker(allow_anonymous=False, users=users("plc-1")) as broker:
        client = await broker.socket()
        client.send(connect(user="plc-1", password="right"))
        await asyncio.sleep(0)
        client.abort()
        await broker.client("other", user="plc-1", password="right")
        assert broker.counters.clients == 1


async def test_a_socket_without_connect_is_closed():
    async with Broker(connect_timeout_s=0.05) as broker:
        silent, slow = await broker.socket(), await broker.socket()
        slow.send(connect()[:5])
        assert await silent.closed() == b""
        assert await slow.closed() == b""
        assert broker.counters.refused == {"connect_timeout": 2}


# Rights and ownership.


async def test_a_publish_outside_the_rights_is_not_acknowledged_and_named_in_the_log():
    rights = Rights(publish=("ok/#",))
    async with Broker(allow_anonymous=False, users=users("plc-1", rights=rights)) as broker:
        client = await broker.client(user="plc-1", password="right")
        with capture_logs() as logs:
            client.send(publish("ok/1", b"", 1, 1), publish("no/1", b"", 1, 2), publish("ok/1", b"", 1, 3))
            assert await client.closed() == ack(PUBACK, 1)
        denied = [entry for entry in logs if entry["event"] == "publish_denied"]
        assert [(entry["user"], entry["topic"]) for entry in denied] == [("plc-1", "no/1")]
        assert [message.topic for message in broker.intake.accepted] == ["ok/1"]
        assert broker.counters.denied_publishes == 1


async def test_a_will_outside_the_rights_is_refused():
    rights = Rights(publish=("ok/#",))
    async with Broker(allow_anonymous=False, users=users("plc-1", rights=rights)) as broker:
        with capture_logs() as logs:
            client = await broker.socket()
            refused = await client.connect(user="plc-1", password="right", will=("no/1", b"", 0, False))
            assert refused == (0, 5)
            assert await client.closed() == b""
        entry = next(entry for entry in logs if entry["event"] == "will_denied")
        assert (entry["user"], entry["topic"]) == ("plc-1", "no/1")
        assert broker.intake.accepted == []


@pytest.mark.parametrize(
    ("client_id", "topic", "allowed"),
    [
        ("plc-1", "evedge/site-042/rp/rp-01/telemetry", False),
        ("plc-1", "evedge/site-042/rp/rp-01/command/result", False),
        ("plc-1", "evedge/site-042/rp/rp-01/command", True),
        ("plc-1", "evedge/site-042/rp/rp-07/telemetry", True),
        ("other", "evedge/site-042/rp/rp-07/telemetry", False),
        ("other", "evedge/site-042/rp/rp-07/command", True),
        ("plc-1", "evedge/site-042/agent/plc-1/status", True),
        ("other", "evedge/site-042/agent/plc-1/status", False),
        ("other", "evedge/site-042/status", False),
        ("other", "elsewhere/x", True),
    ],
)
async def test_topics_that_belong_to_somebody_are_kept_for_them_where_all_is_allowed(client_id, topic, allowed):
    async with Broker(recharge_points={"rp-01": None, "rp-07": "plc-1"}) as broker:
        client = await broker.client(client_id)
        client.send(publish(topic, b"{}", 1, 1), PINGREQ)
        if allowed:
            assert await client.ack() == (PUBACK, 1)
        else:
            assert await client.closed() == b""
        assert len(broker.intake.accepted) == allowed


# Client ids.


async def test_the_same_user_takes_its_client_id_over_and_the_old_ones_will_is_published():
    async with Broker() as broker:
        old = await broker.client("c", clean=False, will=("w", b"old", 1, False))
        await old.subscribe(("a", 1))
        new = await broker.client("c", clean=False)
        assert new.present
        assert await old.closed() == b""
        assert broker.presence.events == [
            ("connected", "c"),
            ("subscribed", "c", "a"),
            ("disconnected", "c"),
            ("connected", "c"),
        ]
        assert [message.payload for message in broker.intake.accepted] == [b"old"]
        new.send(publish("a", b"", 1, 1))
        assert await new.message()


async def test_another_user_cannot_take_a_client_id_over_nor_resume_its_session():
    async with Broker(allow_anonymous=False, users=users("a", "b")) as broker:
        victim = await broker.client("c", clean=False, user="a", password="right")
        await victim.subscribe(("t", 1))
        for clean in (True, False):
            thief = await broker.socket()
            assert await thief.connect("c", clean=clean, user="b", password="right") == (0, 5)
            wrong = await broker.socket()
            assert await wrong.connect("c", clean=clean, user="a", password="wrong") == (0, 4)
        broker.router.publish("t", b"for the victim", 1, retain=False)
        assert (await victim.message()).payload == b"for the victim"
        victim.abort()
        await broker.presence.until("disconnected", "c")
        assert await (await broker.socket()).connect("c", user="b", password="right") == (0, 5)
        assert (await broker.client("c", clean=False, user="a", password="right")).present


# Bounds.


@pytest.mark.parametrize(
    "bad",
    [
        b"\x30\x80\x80\x80\x80\x01",  # remaining length of five bytes
        b"\x30\xff\xff\xff\x7f",  # a PUBLISH of 268 MB
        publish("a/+", b""),
        publish("", b""),
        publish("a\0b", b""),
        publish(b"\xff\xfe", b""),
        publish("a", b"", 1, 0),
        b"\x36\x05\x00\x01a\x00\x01",  # QoS 3
        b"\x38\x03\x00\x01a",  # DUP with QoS 0
        b"\x30\x01\x00",
        b"\x32\x03\x00\x01a",  # ends before its packet id
        b"\x80\x06\x00\x01\x00\x01a\x00",  # SUBSCRIBE with wrong reserved bits
        subscribe(1),
        subscribe(0, ("a", 0)),
        subscribe(1, ("a/#/b", 0)),
        subscribe(1, ("a", 3)),
        b"\x60\x02\x00\x01",  # PUBREL with wrong reserved bits
        b"\x40\x03\x00\x01\x00",
        b"\x40\x02\x00\x00",
        b"\xc0\x01\x00",
        b"\x20\x02\x00\x00",
        b"\xd0\x00",
        b"\x00\x00",
        b"\xf0\x00",
        publish("/" * 300, b""),
    ],
)
async def test_malformed_frames_end_their_connection_only_and_what_came_before_counts(bad):
    async with Broker() as broker:
        other, client = await broker.client("other"), await broker.client()
        client.send(publish("fine", b"", 1, 1), bad, publish("never", b"", 1, 2))
        assert await client.closed() == ack(PUBACK, 1)
        assert [message.topic for message in broker.intake.accepted] == ["fine"]
        assert broker.counters.closed == {"malformed": 1}
        await other.ping()


@pytest.mark.parametrize(
    "bad", [b"GET / HTTP/1.1\r\n\r\n", PINGREQ, publish("a", b""), connect()[:-1] + b"\0", b"\x16\x03\x01"]
)
async def test_what_is_no_connect_is_closed_unanswered(bad):
    async with Broker() as broker:
        client = await broker.socket()
        client.send(bad)
        assert await client.closed() == b""


async def test_frames_may_come_in_any_pieces():
    async with Broker() as broker:
        client = await broker.socket()
        stream = connect() + publish("a", b"x" * 300, 1, 1) + PINGREQ
        for index in range(len(stream)):
            client.writer.write(stream[index : index + 1])
            await asyncio.sleep(0)
        assert [(await client.read())[0] for _ in range(3)] == [0x20, PUBACK, 0xD0]


async def test_more_clients_than_allowed_are_told_so():
    async with Broker(max_clients=2) as broker:
        for name in ("a", "b"):
            await broker.client(name)
        assert await (await broker.socket()).connect("c") == (0, 3)
        await broker.client("a")  # a take-over is no more
        assert broker.counters.clients == 2


async def test_a_thousand_silent_sockets_keep_nobody_out():
    async with Broker(max_clients=200) as broker:
        silent = [await RawClient.open(broker.port) for _ in range(400)]
        async with asyncio.timeout(10):
            while broker.counters.refused["silent"] < 200:
                await asyncio.sleep(0)
        client = await broker.client()
        await client.ping()
    for socket in silent:
        await socket.close()


async def test_more_sessions_than_allowed_are_refused_and_expired_ones_make_room():
    async with Broker(max_sessions=1, session_expiry_s=0.2) as broker:
        client = await broker.client("a", clean=False)
        assert await (await broker.socket()).connect("b", clean=False) == (0, 3)
        await broker.client("clean")
        client.send(DISCONNECT)
        await client.closed()
        async with asyncio.timeout(10):
            while "a" not in broker.intake.forgotten:
                await asyncio.sleep(0.01)
        await broker.client("b", clean=False)
        assert not broker.router._subscriptions


# Stopping.


async def test_stopping_the_intake_waits_for_what_is_in_flight_and_reads_no_more():
    async with Broker(by_hand=True) as broker:
        client = await broker.client()
        client.send(publish("a", b"", 1, 1))
        await client.ping()
        stop = asyncio.create_task(broker.front.stop_intake())
        await asyncio.sleep(0)
        client.send(publish("a", b"", 1, 2))
        broker.router.publish("x", b"", 0, retain=False)
        broker.intake.futures[0].set_result(None)
        assert await stop is True
        assert await client.ack() == (PUBACK, 1)
        assert len(broker.intake.calls) == 1
        with pytest.raises(OSError):
            await RawClient.open(broker.port)


async def test_stopping_the_intake_gives_up_at_its_deadline():
    async with Broker(by_hand=True) as broker:
        client = await broker.client()
        client.send(publish("a", b"", 1, 1))
        await client.ping()
        assert await broker.front.stop_intake(deadline_s=0.05) is False


async def test_closing_ends_idle_and_stuck_sockets_and_publishes_no_wills():
    async with Broker() as broker:
        silent = await broker.socket()
        idle = await broker.client("idle", will=("w", b"", 0, False))
        stuck = await broker.client("stuck")
        await stuck.subscribe(("a", 0))
        stuck.writer.transport.pause_reading()
        for _ in range(100):
            broker.router.publish("a", b"x" * 100_000, 0, retain=False)
        await idle.ping()
    assert await silent.closed() == b""
    assert await idle.closed() == b""
    assert broker.intake.accepted == []
    stuck.abort()


async def test_a_port_in_use_is_one_clear_line():
    async with Broker() as broker:
        with pytest.raises(Refused, match=r"^\[mqtt\] bind: cannot listen on 127.0.0.1:\d+: another program listens"):
            async with Broker(bind=f"127.0.0.1:{broker.port}"):
                pass


@pytest.mark.parametrize("bind", ["1883", "localhost:", "localhost:99999", "localhost:mqtt"])
async def test_a_bind_that_is_none_is_said_so(bind):
    with pytest.raises(UsageError, match="bind"):
        async with Broker(bind=bind):
            pass


# TLS.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca", "-days", "2", *usage)
    (folder / "leaf.cnf").write_text("subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", "leaf.cnf")
    for name in ("localhost", "device-7"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder


def tls_settings(folder, **more):
    return {
        "tls_bind": "127.0.0.1:0",
        "tls_cert_file": folder / "localhost.pem",
        "tls_key_file": folder / "localhost.key",
        "allow_anonymous": False,
    } | more


async def test_a_client_certificate_logs_its_user_in(certificates):
    user = User("plc-1", tls_common_name="device-7", rights=ALL)
    settings = tls_settings(certificates, tls_client_ca_file=certificates / "ca.pem", users=(user,), bind=None)
    async with Broker(**settings) as broker:
        assert broker.port == 0
        context = ssl.create_default_context(cafile=certificates / "ca.pem")
        context.check_hostname = False
        context.load_cert_chain(certificates / "device-7.pem", certificates / "device-7.key")
        client = await RawClient.open(broker.front.tls_port, ssl=context)
        assert await client.connect("c") == (0, 0)
        client.send(publish("a", b"x" * 100_000, 1, 1))
        assert await client.ack() == (PUBACK, 1)
        assert broker.intake.calls[0][0].user == "plc-1"
        await client.close()


async def test_a_client_without_certificate_logs_in_with_its_password(certificates):
    settings = tls_settings(certificates, tls_client_ca_file=certificates / "ca.pem", users=users("u"))
    async with Broker(**settings) as broker:
        context = ssl.create_default_context(cafile=certificates / "ca.pem")
        context.check_hostname = False
        client = await RawClient.open(broker.front.tls_port, ssl=context)
        assert await client.connect("c", user="u", password="right") == (0, 0)
        await client.close()


async def test_certificate_files_that_are_missing_are_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match=r"^\[mqtt\] tls_cert_file or tls_key_file: .*localhost.pem: No such file"):
        async with Broker(**tls_settings(tmp_path)):
            pass
