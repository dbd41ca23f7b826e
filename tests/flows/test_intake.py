"""The one door for messages: which records a message becomes, what waits for the disk, and who else gets it."""

import asyncio

import pytest

from evedge.core.errors import Outage
from evedge.core.model import Publish, Publisher, Stream
from evedge.core.topics import OwnTopics, Route
from evedge.flows.intake import MAX_KNOWN_TOPICS, Intake
from fakes import EPOCH_MS, Clock, Journal, Router, settle

OWN = OwnTopics("evedge", "site-042")
TOPICS = {stream: f"evedge.{stream.replace('_', '-')}" for stream in Stream}
ROUTES = (
    Route("factory/+/energy", "factory.energy", key="{1}", content_type="application/json"),
    Route("factory/#", "factory.all", key="{gateway}/{topic}/{1}"),
    Route("meters/+", "meters"),
)
PLC = Publisher("plc-client", "plc-1")


class Commands:
    def __init__(self, room=10):
        self.submitted = []
        self.room = room

    def submit(self, payload, issuer, recharge_point):
        if len(self.submitted) >= self.room:
            return False
        self.submitted.append((payload, issuer, recharge_point))
        return True


class House:
    def __init__(self, *, kafka=True, disk=True):
        self.journal, self.router, self.clock, self.commands = Journal(disk=disk), Router(), Clock(), Commands()
        self.intake = Intake(
            self.journal,
            self.router,
            own=OWN,
            kafka_topics=TOPICS if kafka else None,
            routes=ROUTES,
            recharge_points=frozenset({"rp-01", "rp-07"}),
            clock=self.clock,
        )
        self.intake.commands = self.commands

    def accept(self, *publishes, publisher=PLC):
        return self.intake.accept(publisher, publishes)

    @property
    def lanes(self):
        return [one.lane for one in self.journal.accepted]


def publish(topic, payload=b"{}", qos=1, *, retain=False, packet_id=1):
    return Publish(topic, payload, qos, retain, packet_id)


@pytest.mark.parametrize(("qos", "durable"), [(0, False), (1, True), (2, True)])
async def test_qos_1_and_2_are_durable_and_qos_0_is_not(qos, durable):
    house = House()
    kept = house.accept(publish("meters/m-1", qos=qos))
    (record,) = house.journal.accepted
    assert record.durable is durable
    assert (kept is not None) is durable
    assert dict(record.headers)["mqtt_qos"] == b"%d" % qos


async def test_a_message_that_no_route_takes_is_local_only():
    house = House()
    assert house.accept(publish("kitchen/light")) is None
    assert house.journal.accepted == []
    assert house.router.published == [("kitchen/light", b"{}", 1, False)]


async def test_every_route_that_matches_gets_the_message():
    house = House()
    house.accept(publish("factory/hall-1/energy", b"\x00\xffnot json"))
    energy, everything = house.journal.accepted
    assert (energy.lane, energy.key) == ("factory.energy", b"hall-1")
    assert (everything.lane, everything.key) == ("factory.all", b"site-042/factory/hall-1/energy/hall-1/energy")
    assert energy.value == everything.value == b"\x00\xffnot json"
    assert dict(energy.headers)["content-type"] == b"application/json"
    assert dict(everything.headers)["content-type"] == b"application/octet-stream"
    assert dict(energy.headers)["ce_source"] == b"/evedge/site-042"
    assert dict(energy.headers)["ce_type"] == b"evedge.route.v1"


async def test_the_default_key_is_the_topic():
    house = House()
    house.accept(publish("meters/m-1"))
    assert house.journal.accepted[0].key == b"meters/m-1"


async def test_a_route_on_the_gateways_own_topics_takes_them_too():
    house = House()
    house.intake._routes = (Route("evedge/#", "copy"),)
    house.accept(publish(OWN.recharge_point("rp-07", "telemetry")))
    assert house.lanes == ["evedge.telemetry", "copy"]


@pytest.mark.parametrize(
    ("leaf", "lane", "ce_type"),
    [
        ("telemetry", "evedge.telemetry", b"evedge.telemetry.v1"),
        ("status", "evedge.status", b"evedge.status.v1"),
        ("alert", "evedge.alerts", b"evedge.alert.v1"),
        ("command/result", "evedge.command-results", b"evedge.command-result.v1"),
    ],
)
async def test_an_agents_messages_go_to_the_gateways_topics(leaf, lane, ce_type):
    house = House()
    house.accept(publish(f"evedge/site-042/rp/rp-07/{leaf}", b'{"state":"online"}', retain=leaf == "status"))
    (record,) = house.journal.accepted
    assert (record.lane, record.key, record.value) == (lane, b"site-042/rp-07", b'{"state":"online"}')
    headers = dict(record.headers)
    assert headers["ce_type"] == ce_type
    assert headers["ce_source"] == b"/evedge/site-042/rp-07"
    assert headers["ce_subject"] == b"rp-07"
    assert headers["mqtt_retain"] == (b"true" if leaf == "status" else b"false")


@pytest.mark.parametrize(
    "topic", ["evedge/site-042/rp/rp-99/telemetry", "evedge/other/rp/rp-07/telemetry", "evedge/site-042/rp/rp-07/x"]
)
async def test_topics_of_nobody_here_are_local(topic):
    house = House()
    assert house.accept(publish(topic)) is None
    assert house.journal.accepted == []


async def test_an_empty_payload_is_an_empty_value():
    house = House()
    house.accept(publish("meters/m-1", b""))
    assert house.journal.accepted[0].value == b""


@pytest.mark.parametrize(
    ("payload", "timestamp_ms"),
    [
        (b'{"measured_at":"2026-09-01T00:00:00.123Z"}', 1_788_220_800_123),
        (b'{"measured_at":"yesterday"}', EPOCH_MS),
        (b'{"measured_at":"1969-12-31T23:59:59Z"}', EPOCH_MS),
        (b'{"measured_at":5}', EPOCH_MS),
        (b"{}", EPOCH_MS),
        (b"[1]", EPOCH_MS),
    ],
)
async def test_an_agents_telemetry_has_the_time_it_was_measured(payload, timestamp_ms):
    house = House()
    house.accept(publish("evedge/site-042/rp/rp-07/telemetry", payload))
    assert house.journal.accepted[0].timestamp_ms == timestamp_ms


async def test_anything_else_has_the_time_of_its_acceptance():
    house = House()
    house.accept(publish("meters/m-1", b'{"measured_at":"2026-09-01T00:00:00.123Z"}'))
    assert house.journal.accepted[0].timestamp_ms == EPOCH_MS


async def test_no_json_on_the_gateways_own_topics_is_a_dead_letter():
    house = House(disk=False)
    topic = "evedge/site-042/rp/rp-07/telemetry"
    kept = house.accept(publish(topic, b"{no json", 0), publish("meters/m-1", b"{no json"))
    (dead,) = house.journal.dead
    assert (dead.reason, dead.kafka_topic, dead.mqtt_topic) == ("not_json", "evedge.telemetry", topic)
    (letter,) = house.journal.letters
    assert (letter.lane, letter.key, letter.value) == ("evedge.dead-letters", b"site-042/rp-07", b"{no json")
    headers = dict(letter.headers)
    assert headers["reason"] == b"not_json"
    assert headers["kafka_topic"] == b"evedge.telemetry"
    assert headers["error"].startswith(b"JSON is malformed")
    assert headers["mqtt_topic"] == topic.encode()
    assert headers["ce_type"] == b"evedge.dead-letter.v1"
    assert "meters" in house.lanes  # a route's payload may be anything
    assert not kept.done()
    house.journal.write()
    await kept


async def test_qos_2_ids_are_kept_with_their_records():
    house = House()
    house.accept(publish("meters/m-1", qos=2, packet_id=7), publish("kitchen/light", qos=2, packet_id=8))
    assert house.journal.received == [("plc-client", 7)]
    assert house.intake.received_ids("plc-client") == {7}
    await house.intake.release("plc-client", [7])
    house.intake.forget_session("plc-client")
    assert house.journal.log == [("released", "plc-client", (7,)), ("forgotten", "plc-client")]


async def test_subscribers_have_it_after_the_disk_and_before_the_publisher_is_acknowledged():
    house = House(disk=False)
    kept = house.accept(publish("meters/m-1"), publish("kitchen/light"))
    seen_at_acknowledgement = []
    kept.add_done_callback(lambda _: seen_at_acknowledgement.extend(house.router.published))
    await asyncio.sleep(0)
    assert house.router.published == []
    house.journal.write()
    await settle()
    assert [topic for topic, *_ in seen_at_acknowledgement] == ["meters/m-1", "kitchen/light"]


async def test_what_is_not_kept_is_not_handed_on():
    house = House(disk=False)
    kept = house.accept(publish("meters/m-1"), publish("evedge/site-042/rp/rp-07/status", b"no json"))
    house.journal.write(Outage("closing"))
    with pytest.raises(Outage):
        await kept
    assert house.router.published == []


async def test_messages_of_one_read_are_accepted_together():
    house = House(disk=False)
    house.accept(*(publish("meters/m-1", b"%d" % number, packet_id=number) for number in range(1, 6)))
    assert len(house.journal.pending) == 1
    assert [one.value for one in house.journal.accepted] == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_command_goes_to_the_commander_and_nowhere_else():
    house = House()
    topic = "evedge/site-042/rp/rp-07/command"
    assert house.accept(publish(topic, b"a command", retain=True)) is None
    assert house.commands.submitted == [(b"a command", "plc-1", "rp-07")]
    assert house.router.published == []
    assert house.journal.accepted == []


async def test_an_anonymous_clients_command_is_issued_by_its_client_id():
    house = House()
    house.accept(publish("evedge/site-042/rp/rp-07/command"), publisher=Publisher("panel"))
    assert house.commands.submitted[0][1] == "panel"


async def test_too_many_commands_are_dropped_and_nothing_else_is():
    house = House()
    house.commands.room = 1
    command = publish("evedge/site-042/rp/rp-07/command")
    assert house.accept(command, command, publish("kitchen/light")) is None
    assert len(house.commands.submitted) == 1
    assert [topic for topic, *_ in house.router.published] == ["kitchen/light"]


async def test_without_kafka_everything_is_local():
    house = House(kafka=False)
    topic = "evedge/site-042/rp/rp-07/telemetry"
    assert house.accept(publish("meters/m-1"), publish(topic, b"no json")) is None
    own = {"stream": Stream.TELEMETRY, "recharge_point": "rp-07", "timestamp_ms": 1, "durable": True}
    assert house.intake.publish(topic, b"{}", **own) is None
    assert house.journal.accepted == house.journal.dead == []
    assert len(house.router.published) == 3


async def test_what_the_gateway_says_is_kept_and_handed_on_at_once():
    house = House(disk=False)
    topic = "evedge/site-042/rp/rp-01/status"
    kept = house.intake.publish(
        topic, b"{}", stream=Stream.STATUS, recharge_point="rp-01", timestamp_ms=1234, durable=True, retain=True
    )
    assert not kept.done()
    assert house.router.published == [(topic, b"{}", 1, True)]
    (record,) = house.journal.accepted
    assert (record.lane, record.key, record.timestamp_ms) == ("evedge.status", b"site-042/rp-01", 1234)
    assert dict(record.headers)["mqtt_retain"] == b"true"
    volatile = house.intake.publish(
        OWN.telemetry, b"{}", stream=Stream.GATEWAY_TELEMETRY, recharge_point=None, timestamp_ms=1, durable=False
    )
    assert volatile is None
    assert house.journal.accepted[-1].key == b"site-042"


async def test_a_foreign_value_that_is_ours_becomes_a_dead_letter():
    house = House(disk=False)
    headers = (("ce_id", b"theirs"), ("ce_source", b"/them"))
    kept = house.intake.refuse_foreign(b"junk", b"site-042", headers, "evedge.commands", "is not a JSON object")
    assert not kept.done()
    house.journal.write()
    await kept
    (letter,) = house.journal.letters
    found = dict(letter.headers)
    assert (letter.key, letter.value) == (b"site-042", b"junk")
    assert found["original_ce_id"] == b"theirs"
    assert found["ce_source"] == b"/them"
    assert found["ce_specversion"] == b"1.0"
    assert found["reason"] == b"not_understood"
    assert found["error"] == b"is not a JSON object"
    assert found["kafka_topic"] == b"evedge.commands"


async def test_a_client_that_invents_topics_does_not_fill_the_memory():
    house = House()
    for number in range(MAX_KNOWN_TOPICS + 10):
        house.accept(publish(f"meters/{number}", qos=0))
        house.journal.accepted.clear()
    assert len(house.intake._ways) <= MAX_KNOWN_TOPICS
