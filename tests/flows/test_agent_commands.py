"""Commands for agents: kept first, sent until answered, ended once."""

import asyncio
import json

import msgspec
import pytest

from evedge.core.commands import Action, Command, CommandResult, Purpose, Rules, Step, judge
from evedge.core.errors import Outage
from evedge.core.model import Link, Publish, Publisher, Quality, Stream
from evedge.core.reading import LinkState
from evedge.core.topics import OwnTopics
from evedge.flows.agent_commands import EXPIRY_GRACE_S, REPEAT_EVERY_S, AgentCommands
from evedge.flows.agent_news import AgentNews
from evedge.flows.intake import Intake
from evedge.flows.lives import Lives
from evedge.flows.presence import AgentPresence
from evedge.flows.reporter import Reporter
from fakes import EPOCH_MS, Clock, Journal, Results, Router, Store, settle

OWN = OwnTopics("evedge", "site-042")
TOPICS = {stream: stream.value for stream in Stream}
COMMAND_TOPIC = "evedge/site-042/rp/rp-07/command"
RESULT_TOPIC = f"{COMMAND_TOPIC}/result"
PLC = Publisher("plc-client", "plc-1")
HOUR_MS = 3_600_000


def command(command_id="one", *, current_a=10.0, expires_in_ms=60_000, purpose=Purpose.MARKET, lease_s=900.0):
    return Command(
        id=command_id,
        gateway="site-042",
        recharge_point="rp-07",
        action=Action.SET_CURRENT_LIMIT,
        issued_at_ms=EPOCH_MS,
        expires_at_ms=EPOCH_MS + expires_in_ms,
        lease_s=lease_s,
        issuer="dr-service",
        purpose=purpose,
        current_a=current_a,
    )


def result(state, command_id="one", *, final=False):
    return msgspec.json.encode(
        CommandResult(
            id=command_id,
            gateway="site-042",
            recharge_point="rp-07",
            action="set_current_limit",
            state=Step(state),
            final=final,
            at="2026-11-23T09:00:00.000Z",
        )
    )


class House:
    """A gateway with one agent. `restarted` is what the next run finds of it."""

    def __init__(self, *, disk=True, journal_disk=True, store=None, opened=(), ended=()):
        self.clock, self.router, self.journal = Clock(), Router(), Journal(disk=journal_disk)
        self.store, self.results = store or Store(disk=disk), Results()
        self.lives = Lives(self.store, self.results, gateway="site-042", clock=self.clock)
        self.intake = Intake(
            self.journal,
            self.router,
            own=OWN,
            kafka_topics=TOPICS,
            routes=(),
            recharge_points=frozenset({"rp-01", "rp-07"}),
            clock=self.clock,
        )
        self.reporter = Reporter(
            self.intake, None, own=OWN, recharge_points=["rp-01", "rp-07"], clock=self.clock, version="1"
        )
        self.commands = AgentCommands(
            {"plc-1": ("rp-07",)},
            own=OWN,
            router=self.router,
            lives=self.lives,
            clock=self.clock,
            max_age_s=86_400.0,
            opened=opened,
            ended=ended,
        )
        self.presence = AgentPresence({"plc-1": ("rp-07",)}, self.reporter, self.commands)
        self.intake.agents = AgentNews(["rp-07"], commands=self.commands, views=self.reporter, presence=self.presence)

    def restarted(self):
        ended = [change.id for change in self.store.commands.values() if change.final]
        return House(store=self.store, opened=self.store.opened(), ended=ended)

    def tell(self, payload, topic=RESULT_TOPIC):
        """The agent publishes; what its acknowledgement waits for."""
        return self.intake.accept(PLC, [Publish(topic, payload, 1, False, 1)])

    async def later(self, seconds):
        self.clock.now_s += seconds
        self.clock.now_ms += round(seconds * 1000)
        await self.commands.look()

    @property
    def published(self):
        return [json.loads(payload)["id"] for topic, payload, _, _ in self.router.published if topic == COMMAND_TOPIC]

    @property
    def on_kafka(self):
        return [json.loads(one.value)["state"] for one in self.journal.accepted if one.lane == "command_results"]


async def test_a_command_is_on_disk_before_the_agent_sees_it():
    house = House(disk=False)
    accepting = asyncio.create_task(house.commands.accept(command()))
    await settle()
    assert house.published == []
    house.store.write()
    await accepting
    assert house.published == ["one"]
    assert [one.command.id for one in house.store.opened()] == ["one"]
    assert house.results.told == []  # `accepted` is the agent's to tell


@pytest.mark.parametrize("lease_s", [900.0, None])
async def test_the_agent_understands_what_was_judged(lease_s):
    house = House()
    await house.commands.accept(command(lease_s=lease_s))
    ((topic, payload, qos, retain),) = house.router.published
    assert (topic, qos, retain) == (COMMAND_TOPIC, 1, False)
    rules = Rules("site-042", frozenset({"rp-07"}), default_lease_s=5.0, max_age_s=86_400.0)
    assert judge(payload, rules, EPOCH_MS, only_for="rp-07") == command(lease_s=lease_s)


async def test_it_is_published_again_until_the_first_result():
    house = House()
    await house.commands.accept(command())
    await house.later(REPEAT_EVERY_S - 1)
    assert house.published == ["one"]
    await house.later(1)
    assert house.published == ["one"] * 2
    await house.tell(result("accepted"))
    await house.later(REPEAT_EVERY_S)
    house.presence.subscribed(PLC, COMMAND_TOPIC)
    assert house.published == ["one"] * 2


async def test_an_agent_that_subscribes_gets_what_it_has_not_answered_in_order():
    house = House()
    await house.commands.accept(command("one"))
    await house.commands.accept(command("two", purpose=Purpose.GRID))
    await house.commands.accept(command("three", purpose=Purpose.USER))
    await house.tell(result("accepted", "two"))
    house.router.published.clear()
    house.presence.subscribed(Publisher("x", "somebody"), COMMAND_TOPIC)
    house.presence.subscribed(PLC, "evedge/site-042/rp/rp-08/command")
    assert house.published == []
    house.presence.subscribed(PLC, "evedge/site-042/rp/+/command")
    assert house.published == ["one", "three"]


async def test_the_agents_results_pass_and_end_the_command():
    house = House()
    await house.commands.accept(command())
    for state, final in (("accepted", False), ("written", False), ("verified", True)):
        await house.tell(result(state, final=final))
    assert house.on_kafka == ["accepted", "written", "verified"]
    assert house.store.commands["one"].final
    assert house.lives.counts[("set_current_limit", "verified")] == 1
    await house.later(2 * HOUR_MS / 1000)
    assert house.results.told == []


async def test_a_final_comes_once_however_often_the_agent_sends_it():
    house = House()
    await house.commands.accept(command())
    await house.tell(result("verified", final=True))
    assert house.tell(result("verified", final=True)) is None
    again = house.restarted()
    assert again.tell(result("verified", final=True)) is None
    assert (house.on_kafka, again.on_kafka) == (["verified"], [])
    assert (house.commands.late_finals, again.commands.late_finals) == (1, 1)


async def test_a_final_is_acknowledged_when_the_journal_and_then_the_end_are_on_disk():
    house = House(journal_disk=False)
    await house.commands.accept(command())
    house.store.disk = False
    acknowledged = house.tell(result("verified", final=True))
    repeated = house.tell(result("verified", final=True))
    await settle()
    assert not house.store.commands["one"].final
    assert not repeated.done()  # the first may still be lost
    house.journal.write()
    await settle()
    assert not acknowledged.done()
    house.store.write()
    await settle()
    assert acknowledged.done()
    assert repeated.done()
    assert house.store.commands["one"].final
    assert house.on_kafka == ["verified"]


async def test_a_final_that_was_not_kept_ends_nothing():
    house = House(journal_disk=False)
    await house.commands.accept(command())
    acknowledged = house.tell(result("verified", final=True))
    house.journal.write(Outage("the journal closes"))
    with pytest.raises(Outage):
        await acknowledged
    again = house.restarted()
    await again.tell(result("verified", final=True))
    assert again.on_kafka == ["verified"]


async def test_what_the_agent_never_answered_expires_and_a_late_end_is_dropped():
    house = House()
    await house.commands.accept(command(expires_in_ms=10_000))
    await house.later(10)
    assert house.published == ["one"]  # at its end it is not sent any more
    assert house.results.told == []
    await house.later(EXPIRY_GRACE_S)
    assert house.results.of("one") == ["expired"]
    assert house.results.end("one").reason == "the agent did not answer before expires_at"
    await house.tell(result("written"))
    assert house.tell(result("verified", final=True)) is None
    assert house.on_kafka == ["written"]
    await house.later(60)
    assert house.results.of("one") == ["expired"]


async def test_what_was_answered_waits_for_the_agent_and_not_for_ever():
    house = House()
    await house.commands.accept(command())
    await house.tell(result("accepted"))
    await house.later(HOUR_MS / 1000)
    assert house.results.told == []
    await house.later(86_400)
    assert house.results.end("one").state is Step.FAILED


async def test_a_restart_goes_on_with_what_is_open():
    house = House()
    await house.commands.accept(command("one"))
    await house.commands.accept(command("two", purpose=Purpose.GRID))
    await house.tell(result("accepted", "two"))
    again = house.restarted()
    await again.later(1)
    assert again.published == ["one"]
    await again.tell(result("verified", "two", final=True))
    await again.tell(result("verified", "one", final=True))
    assert not again.store.opened()


async def test_an_older_limit_is_not_sent_after_a_newer_one_was_taken():
    house = House()
    await house.commands.accept(command("old", current_a=16.0))
    await house.commands.accept(command("new", current_a=8.0))
    await house.tell(result("accepted", "new"))
    await house.later(REPEAT_EVERY_S)
    assert house.results.end("old").state is Step.SUPERSEDED
    assert house.published == ["old", "new"]


async def test_what_is_no_result_passes_as_it_is():
    house = House()
    await house.tell(b'{"id":"one","state":"in a future version","final":true}')
    assert len(house.journal.accepted) == 1
    assert not house.store.changes


async def test_telemetry_and_status_of_an_agent_fill_the_view():
    house = House()
    house.presence.start()
    view = house.reporter.recharge_points["rp-07"]
    assert (view.state.state, view.state.reason) == (Link.OFFLINE, "agent plc-1 is not connected")
    assert [alert.kind for alert in house.reporter.alerts.open()] == ["offline"]
    house.presence.connected(PLC)
    at = "2026-09-21T14:13:20.000Z"
    await house.tell(
        b'{"state":"degraded","reason":"half of it","since":"%s","vendor":"ABB"}' % at.encode(),
        "evedge/site-042/rp/rp-07/status",
    )
    await settle()
    assert (view.state.state, view.state.reason, view.since_ms) == (Link.DEGRADED, "half of it", EPOCH_MS)
    assert view.state.identity.vendor == "ABB"
    assert not house.reporter.alerts.open()
    telemetry = b'{"measured_at":"%s","quality":"partial","values":{"active_power_w":11040.0},"seq":1}' % at.encode()
    await house.tell(telemetry, "evedge/site-042/rp/rp-07/telemetry")
    await settle()
    assert (view.values, view.measured_at_ms, view.quality) == ({"active_power_w": 11040.0}, EPOCH_MS, Quality.PARTIAL)
    for nonsense in (b"", b"[]", b'{"measured_at":"yesterday","values":{}}', b'{"state":"away"}'):
        house.tell(nonsense, "evedge/site-042/rp/rp-07/telemetry")
        house.tell(nonsense, "evedge/site-042/rp/rp-07/status")
    await settle()
    assert view.values == {"active_power_w": 11040.0}
    house.presence.disconnected(PLC)
    assert view.state.state is Link.OFFLINE


async def test_a_status_that_is_kept_after_its_agent_left_is_not_the_last_word():
    house = House(journal_disk=False)
    house.presence.connected(PLC)
    house.tell(b'{"state":"online"}', "evedge/site-042/rp/rp-07/status")
    house.presence.disconnected(PLC)
    house.journal.write()
    await settle()
    told = [json.loads(payload)["state"] for topic, payload, *_ in house.router.published if topic.endswith("status")]
    assert told == ["offline", "online", "offline"]
    assert house.reporter.recharge_points["rp-07"].state.state is Link.OFFLINE


async def test_an_agent_that_came_before_the_start_was_told_is_connected():
    house = House()
    house.presence.connected(PLC)
    house.presence.start()
    assert not house.router.published


async def test_an_agent_tells_again_what_it_told():
    house = House()
    house.reporter.status("rp-01", LinkState(Link.ONLINE))
    house.clock.now_ms += 5000
    house.reporter.tell_again()
    first, second = [payload for topic, payload, _, _ in house.router.published if topic.endswith("rp-01/status")]
    assert first == second
    assert not [topic for topic, *_ in house.router.published if "rp-07" in topic]
