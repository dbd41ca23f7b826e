"""Commands from Kafka and from local users: settled on disk before they are committed, each id once."""

import asyncio
import json

import pytest

from evedge.core.commands import Action, Command, Purpose, Rules, Step, judge
from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import Outage, Refused
from evedge.core.life import OpenCommand
from evedge.core.times import to_rfc3339
from evedge.flows.commander import MAX_LOCAL_WAITING, Commander
from evedge.flows.lives import Lives, Told
from fakes import EPOCH_MS, Alerts, Clock, LoopClock, Results, Store, settle, turned

KNOWN = frozenset({"rp-01", "rp-07", "rp-08"})
RULES = Rules("site-042", KNOWN, default_lease_s=900.0, max_age_s=86_400.0)


class Executor:
    """A recharge point that accepts, on disk."""

    def __init__(self, lives):
        self.lives = lives
        self.accepted = []

    async def accept(self, command):
        self.accepted.append(command.id)
        await self.lives.tell([Told(Step.ACCEPTED, command.id, command.action, "rp-01", 0, command=command)])


class DeadLetters:
    def __init__(self):
        self.refused = []
        self.pending = None

    def refuse_foreign(self, value, key, headers, kafka_topic, reason):
        self.refused.append((value, key, kafka_topic, reason))
        return self.pending


class Consumer:
    """Gives `batches` one after another; an exception among them is raised."""

    def __init__(self, *batches, commits=()):
        self.batches = list(batches)
        self.commits = list(commits)
        self.committed = []

    async def read(self, timeout_s):
        if not self.batches:
            await asyncio.sleep(timeout_s)
            return []
        batch = self.batches.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return batch

    async def commit(self, records):
        if self.commits:
            raise self.commits.pop(0)
        self.committed += [one.offset for one in records]


class House:
    def __init__(self, *, clock=None, disk=True, tells_duplicates=True):
        self.clock = clock or Clock()
        self.store, self.results = Store(disk=disk), Results()
        self.lives = Lives(self.store, self.results, gateway="site-042", clock=self.clock)
        self.executor, self.dead_letters, self.alerts = Executor(self.lives), DeadLetters(), Alerts()
        self.commander = Commander(
            rules=RULES,
            executors={"rp-01": self.executor},
            unable={"rp-07": "it belongs to agent plc-1"},
            lives=self.lives,
            ids=self.store,
            dead_letters=self.dead_letters,
            alerts=self.alerts,
            clock=self.clock,
            about=lambda: {"version": "1.0"},
            tells_duplicates=tells_duplicates,
            chance=lambda: 0.5,
        )

    async def serve(self, consumer, seconds=1.5):
        """Runs `serve_kafka` for some turned seconds."""
        task = asyncio.create_task(self.commander.serve_kafka(consumer))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def value(command_id="c-1", **changed):
    fields = {
        "id": command_id,
        "gateway": "site-042",
        "recharge_point": "rp-01",
        "action": "pause",
        "expires_at": to_rfc3339(EPOCH_MS + 3_600_000),
        **changed,
    }
    return json.dumps({name: one for name, one in fields.items() if one is not None}).encode()


def consumed(value_, key=b"site-042/rp-01", offset=0):
    return ConsumedRecord("evedge.commands", 0, offset, key, value_, (("h", b"x"),), EPOCH_MS)


async def test_a_command_goes_to_its_recharge_point():
    house = House()
    await house.commander.take(consumed(value()))
    assert house.executor.accepted == ["c-1"]
    assert house.results.of("c-1") == ["accepted"]


async def test_an_id_that_was_seen_is_a_duplicate_and_the_first_keeps_its_end():
    house = House()
    for _ in range(3):
        await house.commander.take(consumed(value()))
    assert house.executor.accepted == ["c-1"]
    assert house.results.of("c-1") == ["accepted", "duplicate", "duplicate"]
    assert not any(one.final for one in house.results.told)
    assert house.store.commands["c-1"].step is Step.ACCEPTED


async def test_two_of_one_id_at_the_same_moment_are_one():
    house = House(disk=False)
    first = asyncio.create_task(house.commander.take(consumed(value())))
    second = asyncio.create_task(house.commander.take(consumed(value())))
    for _ in range(3):
        await settle()
        house.store.write()
    await asyncio.gather(first, second)
    assert house.executor.accepted == ["c-1"]


async def test_a_rejected_id_was_seen_too():
    house = House()
    await house.commander.take(consumed(value(action="explode")))
    await house.commander.take(consumed(value()))
    assert house.results.of("c-1") == ["rejected", "duplicate"]
    assert house.results.end("c-1").state is Step.REJECTED


@pytest.mark.parametrize(
    ("changed", "state", "reason"),
    [
        ({"action": "explode"}, "rejected", "is not known"),
        ({"expires_at": None}, "rejected", "expires_at is missing"),
        ({"expires_at": to_rfc3339(EPOCH_MS - 1)}, "expired", "expires_at is past"),
        ({"recharge_point": "rp-99"}, "rejected", "not known here"),
        ({"recharge_point": "rp-07"}, "rejected", "it belongs to agent plc-1"),
        ({"recharge_point": "rp-08"}, "rejected", "it takes no commands"),
        ({"recharge_point": 5}, "rejected", "needs a recharge_point"),
    ],
)
async def test_whatever_is_wrong_there_is_one_end(changed, state, reason):
    house = House()
    await house.commander.take(consumed(value(**changed)))
    end = house.results.end("c-1")
    assert str(end.state) == state
    assert reason in end.reason
    assert house.executor.accepted == []
    assert house.store.commands["c-1"].final


async def test_a_ping_is_answered_in_one_step():
    house = House(disk=False)
    taking = asyncio.create_task(house.commander.take(consumed(value(action="ping", recharge_point=None))))
    await settle()
    assert len(house.store.pending) == 1
    house.store.write()
    await taking
    assert house.results.of("c-1") == ["accepted", "verified"]
    assert house.results.end("c-1").details == {"version": "1.0"}
    assert house.store.opened() == []


@pytest.mark.parametrize("junk", [b"junk", b"", b"[]", b'{"gateway":"site-042"}', None, value(gateway="other")])
@pytest.mark.parametrize("key", [b"site-042", b"site-042/rp-01", b"site-042/"])
async def test_what_cannot_be_answered_is_a_dead_letter_where_the_key_names_this_gateway(junk, key):
    house = House()
    await house.commander.take(consumed(junk, key))
    ((refused, its_key, topic, reason),) = house.dead_letters.refused
    assert (refused, its_key, topic) == (junk or b"", key, "evedge.commands")
    assert reason
    assert house.results.told == []


@pytest.mark.parametrize("key", [b"site-043", b"site-0421", b"site-0421/rp-01", b"", None, b"x/site-042", b"\xff"])
async def test_and_is_skipped_where_it_does_not(key):
    house = House()
    await house.commander.take(consumed(b"junk", key))
    assert house.dead_letters.refused == []
    assert house.results.told == []


async def test_a_command_is_taken_whatever_its_key_is():
    house = House()
    await house.commander.take(consumed(value(), b"somebody-else"))
    assert house.executor.accepted == ["c-1"]


@turned
async def test_offsets_are_committed_after_the_first_step_is_on_disk():
    house = House(clock=LoopClock(), disk=False)
    consumer = Consumer([consumed(value("c-1"), offset=1), consumed(value("c-2"), offset=2)])
    task = asyncio.create_task(house.commander.serve_kafka(consumer))
    await settle()
    assert consumer.committed == []
    house.store.write()
    await settle()
    assert consumer.committed == []
    house.store.write()
    await settle()
    assert consumer.committed == [1, 2]
    task.cancel()


@turned
async def test_offsets_are_committed_after_a_dead_letter_is_on_disk():
    house = House(clock=LoopClock())
    house.dead_letters.pending = asyncio.get_running_loop().create_future()
    consumer = Consumer([consumed(b"junk", offset=1)])
    task = asyncio.create_task(house.commander.serve_kafka(consumer))
    await settle()
    assert consumer.committed == []
    house.dead_letters.pending.set_result(None)
    await settle()
    assert consumer.committed == [1]
    task.cancel()


@turned
async def test_offsets_of_skipped_values_are_committed():
    house = House(clock=LoopClock())
    consumer = Consumer([consumed(value(gateway="other"), b"other", offset=7)])
    await house.serve(consumer)
    assert consumer.committed == [7]


@turned
async def test_what_kafka_delivers_again_is_answered_as_a_duplicate():
    house = House(clock=LoopClock())
    batch = [consumed(value("c-1"), offset=1)]
    consumer = Consumer(batch, batch, commits=[Outage("rebalanced")])
    await house.serve(consumer, seconds=30)
    assert house.executor.accepted == ["c-1"]
    assert house.results.of("c-1") == ["accepted", "duplicate"]
    assert consumer.committed == [1]


@turned
async def test_an_outage_of_kafka_is_an_alert_until_it_is_back():
    house = House(clock=LoopClock())
    consumer = Consumer(Outage("no answer"), Outage("no answer"), [consumed(value())])
    await house.serve(consumer, seconds=30)
    assert house.alerts.told == [("raised", "commands_unavailable"), ("cleared", "commands_unavailable")]
    assert house.executor.accepted == ["c-1"]


@turned
async def test_an_outage_of_our_own_skips_no_command():
    house = House(clock=LoopClock())
    known, fails = house.store.known, [None, Outage("disk")]

    async def troubled(command_id):
        if fails and (error := fails.pop(0)):
            raise error
        return await known(command_id)

    house.store.known = troubled
    consumer = Consumer([consumed(value(f"c-{number}"), offset=number) for number in range(3)])
    await house.serve(consumer, seconds=30)
    assert house.executor.accepted == ["c-0", "c-1", "c-2"]
    assert consumer.committed == [0, 1, 2]
    assert house.results.of("c-0") == ["accepted"]  # settled before, and not again


@turned
async def test_another_gateway_with_this_id_ends_it():
    house = House(clock=LoopClock())
    with pytest.raises(Refused, match="another"):
        await house.commander.serve_kafka(Consumer(Refused("another member took this one's place")))


@turned
async def test_old_ids_are_forgotten_now_and_then():
    house = House(clock=LoopClock())
    await house.serve(Consumer(), seconds=1900)
    assert len(house.store.forgotten) == 3


async def serve_local(house):
    task = asyncio.create_task(house.commander.serve_local())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_agent_takes_the_issuer_from_the_value_and_is_silent_about_repetitions():
    house = House(tells_duplicates=False)
    for _ in range(3):
        assert house.commander.submit(value(issuer="dr-service"), None, "rp-01")
    await serve_local(house)
    assert house.executor.accepted == ["c-1"]
    assert house.store.commands["c-1"].command.issuer == "dr-service"
    assert house.results.of("c-1") == ["accepted"]
    assert house.commander.repeated == 2


async def test_a_local_users_command_is_executed_as_theirs():
    house = House()
    assert house.commander.submit(value(issuer="somebody"), "panel", "rp-01")
    await serve_local(house)
    assert house.executor.accepted == ["c-1"]
    assert house.store.commands["c-1"].command.issuer == "panel"


async def test_a_local_user_commands_the_recharge_point_of_the_topic_only():
    house = House()
    house.commander.submit(value(), "panel", "rp-07")
    await serve_local(house)
    assert house.executor.accepted == []
    assert "the topic is that of rp-07" in house.results.end("c-1").reason


async def test_a_local_value_that_cannot_be_answered_is_logged_and_the_next_goes_on():
    house = House()
    house.commander.submit(b"junk", "panel", "rp-01")
    house.commander.submit(value(), "panel", "rp-01")
    await serve_local(house)
    assert house.executor.accepted == ["c-1"]
    assert house.dead_letters.refused == []


async def test_local_commands_are_bounded():
    house = House()
    taken = [house.commander.submit(b"", "panel", "rp-01") for _ in range(MAX_LOCAL_WAITING + 1)]
    assert taken == [True] * MAX_LOCAL_WAITING + [False]


async def test_commands_that_nobody_can_end_any_more_are_ended():
    house = House()
    mine, theirs, gone = (
        judge(value(one, recharge_point=rp), RULES, EPOCH_MS)
        for one, rp in [("mine", "rp-01"), ("theirs", "rp-07"), ("gone", "rp-08")]
    )
    ping = Command(
        id="ping", gateway="site-042", recharge_point=None, action=Action.PING, issued_at_ms=None, expires_at_ms=0,
        lease_s=None, issuer=None, purpose=Purpose.MARKET,
    )  # fmt: skip
    await house.commander.end_orphans(
        [OpenCommand(one, Step.ACCEPTED, intent=False) for one in (mine, theirs, gone, ping)]
    )
    assert house.results.of("mine") == []
    assert house.results.end("theirs").reason == "it belongs to agent plc-1"
    assert house.results.end("gone").reason == "its recharge point is not configured any more"
    assert house.results.end("ping").state is Step.FAILED
