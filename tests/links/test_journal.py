"""The journal against a list: what was accepted is confirmed, waits, or was dropped, whatever happens in between."""

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from evedge.core.cloudevents import COUNTER_BITS
from evedge.core.errors import EvedgeError, Outage
from evedge.core.lanes import DeadLetter, DropReason, WhenFull
from evedge.links.journal import Journal
from fakes import EPOCH_MS, record

PLACES = st.frozensets(st.integers(0, 7))
LANES = ("telemetry", "alerts")


def open_journal(directory, **changed):
    keys = {"max_bytes": 1 << 20, "head_records": 4, "head_bytes": 2000, **changed}
    return Journal(Path(directory) / "journal.db", **keys)


def new_place():
    """A directory for many short runs: in memory where the machine offers that, as a real disk syncs for seconds."""
    memory = Path("/dev/shm")
    return tempfile.mkdtemp(prefix="journal-", dir=memory if os.access(memory, os.W_OK) else None)


def rows_on_disk(directory):
    with contextlib.closing(sqlite3.connect(Path(directory) / "journal.db")) as connection:
        return connection.execute("SELECT lane, number FROM records ORDER BY number").fetchall()


async def drain(journal, lane):
    """Takes all of a lane."""
    found = []
    while records := await journal.take(lane, 1000, 1 << 30):
        found += records
    return found


async def values(journal, lane):
    return [int(one.value) for one in await drain(journal, lane)]


def numbered(count, first=0, **keys):
    return [record(b"%d" % number, **keys) for number in range(first, first + count)]


# A model that is a list.


class Waiting:
    """What the model knows of a record that waits."""

    def __init__(self, sent, done):
        self.sent = sent
        self.done = done

    @property
    def value(self):
        return int(self.sent.value)

    @property
    def promised(self):
        return self.sent.durable and self.done is not None and self.done.done() and self.done.exception() is None


class JournalMachine(RuleBasedStateMachine):
    """`max_bytes` is small, so that accepts are held back; the heads are small, so that lanes go to disk."""

    MAX_BYTES = 3000

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = new_place()
        self.places = [self.directory]
        self.journal = None
        self.epoch = 0
        self.count = 0
        self.waiting = {lane: [] for lane in LANES}  # not taken, oldest first
        self.taken = {lane: {} for lane in LANES}  # number to what waits
        self.settled = dict.fromkeys(LANES, 0)  # confirmed or dropped in this run
        self.held = []  # accepts without room
        self.gone = set()  # values that were confirmed or dropped
        self.received = set()

    def run(self, awaitable):
        async def call():
            return await awaitable

        return self.runner.run(call())

    @initialize()
    def start(self):
        self.open(self.directory)

    def open(self, directory):
        self.journal = open_journal(directory, max_bytes=self.MAX_BYTES)
        self.run(self.journal.__aenter__())
        self.epoch = max(self.epoch, self.journal.last_number >> COUNTER_BITS) + 1

        async def begin():
            self.journal.start_epoch(self.epoch)

        self.run(begin())

    def teardown(self):
        if self.journal is not None:
            self.run(self.journal.close())
        self.runner.close()
        for place in self.places:
            shutil.rmtree(place)

    # The model's rules, in a few lines each.

    def size(self):
        everything = [one for lane in LANES for one in (*self.waiting[lane], *self.taken[lane].values())]
        return sum(one.sent.size for one in everything)

    def has_room(self, records):
        size = self.size()
        return not size or size + sum(one.size for one in records) <= self.MAX_BYTES

    def keep(self, records, done):
        for one in records:
            self.waiting[one.lane].append(Waiting(one, done))

    def admit(self):
        while self.held and self.has_room(self.held[0][0]):
            self.keep(*self.held.pop(0))

    def settle(self, lane, numbers):
        for number in numbers:
            self.gone.add(self.taken[lane].pop(number).value)
            self.settled[lane] += 1
        self.admit()

    @rule(
        chosen=st.lists(st.tuples(st.sampled_from(LANES), st.booleans(), st.integers(0, 400)), min_size=1, max_size=6),
        qos2=st.booleans(),
        wait=st.booleans(),
    )
    def accept(self, chosen, qos2, wait):
        records = []
        for lane, durable, padding in chosen:
            self.count += 1
            headers = (("h", b"x" * padding),)
            records.append(record(b"%d" % self.count, lane=lane, durable=durable, headers=headers))
        received = [("client", self.count)] if qos2 else []
        held = bool(self.held) or not self.has_room(records)
        durable = qos2 or any(one.durable for one in records)

        async def call():
            return self.journal.accept(records, received)

        done = self.run(call())
        assert (done is not None) == durable
        if held and not durable:
            for one in records:
                self.settled[one.lane] += 1
                self.gone.add(int(one.value))
            return
        if qos2:
            self.received.add((done, received[0]))
        if held:
            self.held.append((records, done))
            return
        self.keep(records, done)
        if wait and done is not None:
            self.run(asyncio.wait_for(done, 10))

    @rule(lane=st.sampled_from(LANES), count=st.integers(1, 7), size=st.integers(1, 2000))
    def take(self, lane, count, size):
        found = self.run(self.journal.take(lane, count, size))
        if self.waiting[lane]:
            assert found
        assert len(found) <= count
        assert len(found) <= 1 or sum(one.size for one in found) <= size
        self.check_next(lane, found)

    def check_next(self, lane, found):
        for one in found:
            expected = self.waiting[lane].pop(0)
            self.same(one, expected.sent)
            self.taken[lane][one.number] = expected

    def same(self, found, sent):
        assert (found.lane, found.key, found.value, found.headers) == (sent.lane, sent.key, sent.value, sent.headers)
        assert (found.timestamp_ms, found.durable) == (sent.timestamp_ms, sent.durable)

    def some_taken(self, lane, chosen):
        """Those at the chosen places. What a crash left is the disk's choice: draws must not depend on it."""
        numbers = [number for place, number in enumerate(sorted(self.taken[lane])) if place in chosen]
        return [self.journal._lanes[lane].taken[number] for number in numbers]

    @rule(lane=st.sampled_from(LANES), chosen=PLACES)
    def confirm(self, lane, chosen):
        records = self.some_taken(lane, chosen)

        async def call():
            self.journal.confirm(lane, records)

        self.run(call())
        self.settle(lane, [one.number for one in records])

    @rule(lane=st.sampled_from(LANES), chosen=PLACES)
    def drop(self, lane, chosen):
        records = self.some_taken(lane, chosen)

        async def call():
            self.journal.drop(lane, records, DropReason.DEAD_LETTER)

        self.run(call())
        self.settle(lane, [one.number for one in records])

    @rule(lane=st.sampled_from(LANES), chosen=PLACES)
    def give_back(self, lane, chosen):
        records = self.some_taken(lane, chosen)

        async def call():
            self.journal.give_back(lane, records)

        self.run(call())
        back = sorted(records, key=lambda one: one.number)
        self.waiting[lane][:0] = [self.taken[lane].pop(one.number) for one in back]
        self.waiting[lane].sort(key=lambda one: one.value)

    @rule()
    def spill(self):
        async def call():
            self.journal.spill()

        self.run(call())

    @rule()
    def let_it_write(self):
        self.run(self.journal.dead_letters())

    @rule()
    def close_and_reopen(self):
        self.run(self.journal.close())
        for records, done in self.held:
            assert isinstance(done.exception(), Outage)
            self.gone.update(int(one.value) for one in records)
        self.forget_run()
        self.open(self.directory)
        assert self.journal.last_number >> COUNTER_BITS == self.epoch  # the one before was kept
        for lane in LANES:
            found = self.run(drain(self.journal, lane))
            assert [int(one.value) for one in found] == [one.value for one in self.waiting[lane]]
            self.check_next(lane, found)
            self.give_all_back(lane, found)

    @precondition(lambda self: len(self.places) < 6)
    @rule()
    def crash(self):
        place = new_place()
        self.places.append(place)
        promised = {lane: [one for one in self.everything(lane) if one.promised] for lane in LANES}
        possible = {lane: {one.value: one for one in self.everything(lane)} for lane in LANES}
        for records, done in self.held:
            for one in records:
                possible[one.lane][int(one.value)] = Waiting(one, done)
        kept = {ids for done, ids in self.received if done.done() and done.exception() is None}
        for name in ("journal.db", "journal.db-wal"):  # the thread may be writing: a torn end is what a crash leaves
            shutil.copy(Path(self.directory) / name, place)
        self.run(self.journal.close())
        self.directory = place
        self.forget_run()
        self.open(place)
        assert {number for _, number in kept} <= self.journal.received_ids("client")
        for lane in LANES:
            found = self.run(drain(self.journal, lane))
            back = [int(one.value) for one in found]
            assert {one.value for one in promised[lane]} <= set(back)
            assert set(back) <= set(possible[lane]) | self.gone
            assert back == sorted(back)
            self.waiting[lane] = [possible[lane].get(int(one.value)) or Waiting(one, None) for one in found]
            self.check_next(lane, found)
            self.give_all_back(lane, found)

    def everything(self, lane):
        return sorted((*self.taken[lane].values(), *self.waiting[lane]), key=lambda one: one.value)

    def forget_run(self):
        self.held = []
        self.received = set()
        for lane in LANES:
            self.waiting[lane] = self.everything(lane)
            self.taken[lane] = {}
            self.settled[lane] = 0

    def give_all_back(self, lane, found):
        async def call():
            self.journal.give_back(lane, found)

        self.run(call())
        self.waiting[lane] = self.everything(lane)
        self.taken[lane] = {}

    @invariant()
    def counts_are_true(self):
        if self.journal is None:
            return
        assert self.journal.bytes == self.size()
        lanes = self.journal.lanes()
        for lane in LANES:
            really = len(self.waiting[lane]) + len(self.taken[lane])
            if lane not in lanes:
                assert really == 0
                continue
            counts = lanes[lane]
            assert counts.waiting == really
            assert counts.confirmed + counts.dropped.total() == self.settled[lane]
        for _, done in self.held:
            assert not done.done()


class RoomyMachine(JournalMachine):
    """The same with room for everything, so that long queues and crashes get their turn."""

    MAX_BYTES = 1 << 20


modest = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestFullJournal = JournalMachine.TestCase
TestFullJournal.settings = modest
TestRoomyJournal = RoomyMachine.TestCase
TestRoomyJournal.settings = modest


# What the model does not reach.


async def test_an_accept_waits_for_the_disk_when_something_in_it_is_durable(tmp_path):
    async with open_journal(tmp_path) as journal:
        assert journal.accept([record(durable=False)]) is None
        done = journal.accept([record(durable=False), record(durable=True)])
        assert not done.done()
        await done
        assert [number for _, number in rows_on_disk(tmp_path)] == [3]


async def test_volatile_records_write_nothing_while_kafka_confirms(tmp_path):
    async with open_journal(tmp_path) as journal:
        await journal.dead_letters()  # everything handed to the disk before is there now
        before = (tmp_path / "journal.db-wal").stat().st_size
        for _ in range(20):
            journal.accept([record(durable=False)])
            journal.confirm("telemetry", await drain(journal, "telemetry"))
        await journal.dead_letters()
        assert (tmp_path / "journal.db-wal").stat().st_size == before


async def test_confirmed_records_leave_no_rows(tmp_path):
    async with open_journal(tmp_path) as journal:
        for number in range(50):
            journal.accept([record(b"%d" % number, durable=number % 3 == 0)])
        while found := await journal.take("telemetry", 7, 1 << 20):
            journal.confirm("telemetry", found)
        await journal.dead_letters()
        assert rows_on_disk(tmp_path) == []
        assert journal.bytes == 0
        assert not journal._lanes["telemetry"].spilled


async def test_what_does_not_fit_into_the_head_comes_from_disk_in_its_order(tmp_path):
    async with open_journal(tmp_path) as journal:
        for one in numbered(40, durable=False):
            journal.accept([one])
        lane = journal._lanes["telemetry"]
        assert len(lane.head) == 4
        assert not lane.spilled  # memory does not grow with what is on disk only
        assert await values(journal, "telemetry") == list(range(40))


async def test_the_file_is_at_most_twice_what_is_in_it(tmp_path):
    async with open_journal(tmp_path) as journal:
        for size in (300, 900, 1100, 1500, 3000, 9000):
            await journal.accept([record(bytes(size)) for _ in range(50_000 // size)])
            journal.confirm("telemetry", await drain(journal, "telemetry"))
        sent = [record(bytes(1100)) for _ in range(500)]
        await journal.accept(sent)
        held = journal.bytes
    assert (tmp_path / "journal.db").stat().st_size < 2 * held


async def test_a_large_record_behind_the_head_is_read_alone(tmp_path):
    async with open_journal(tmp_path, head_bytes=1000) as journal:
        sent = [record(b"%d" % number, headers=[("h", bytes(700))]) for number in range(9)]
        journal.accept(sent)
        assert await values(journal, "telemetry") == list(range(9))


async def test_records_accepted_while_the_disk_is_read_come_after(tmp_path):
    async with open_journal(tmp_path) as journal:
        journal.accept(numbered(6))
        first = await journal.take("telemetry", 4, 1 << 20)
        second = asyncio.ensure_future(journal.take("telemetry", 4, 1 << 20))
        await asyncio.sleep(0)
        journal.accept(numbered(5, 6))
        found = [*first, *await second, *await drain(journal, "telemetry")]
        assert [int(one.value) for one in found] == list(range(11))


async def test_two_who_take_from_disk_at_once_share_no_record(tmp_path):
    async with open_journal(tmp_path) as journal:
        journal.accept(numbered(12))
        await journal.take("telemetry", 4, 1 << 20)
        found = await asyncio.gather(*(journal.take("telemetry", 2, 1 << 20) for _ in range(2)))
        assert sorted(int(one.value) for part in found for one in part) == [4, 5, 6, 7]
        assert await values(journal, "telemetry") == [8, 9, 10, 11]


async def test_what_is_given_back_in_parts_is_in_order_again(tmp_path):
    async with open_journal(tmp_path) as journal:
        journal.accept(numbered(4))
        one, two = [await journal.take("telemetry", 2, 1 << 20) for _ in range(2)]
        journal.give_back("telemetry", one)
        journal.give_back("telemetry", [two[1], two[0]])
        journal.give_back("telemetry", two)  # twice is once
        assert await values(journal, "telemetry") == [0, 1, 2, 3]


async def test_waiting_for_a_lane_ends_when_it_has_a_record(tmp_path):
    async with open_journal(tmp_path) as journal:
        waiting = asyncio.ensure_future(journal.wait("alerts"))
        await asyncio.sleep(0)
        journal.accept([record(lane="telemetry")])
        await asyncio.sleep(0)
        assert not waiting.done()
        journal.accept([record(lane="alerts")])
        await asyncio.wait_for(waiting, 5)
        await journal.take("alerts", 1, 1)
        again = asyncio.ensure_future(journal.wait("alerts"))
        await asyncio.sleep(0)
        assert not again.done()
        again.cancel()


async def test_a_full_journal_holds_durable_records_back_in_their_order(tmp_path):
    async with open_journal(tmp_path, max_bytes=100) as journal:
        first = journal.accept([record(b"0" * 60)])
        held = [journal.accept([record(b"%d" % number * 50)]) for number in range(1, 4)]
        await first
        await journal.dead_letters()
        assert not any(done.done() for done in held)
        order = []
        for number, done in enumerate(held):
            done.add_done_callback(lambda _, number=number: order.append(number))
        taken = []
        for _ in range(4):
            found = await journal.take("telemetry", 1, 1)
            taken += [one.value[:1] for one in found]
            journal.confirm("telemetry", found)
            await journal.dead_letters()
        assert taken == [b"0", b"1", b"2", b"3"]
        assert order == [0, 1, 2]
        assert all(done.exception() is None for done in held)


async def test_a_small_record_does_not_overtake_a_large_one_that_waits_for_room(tmp_path):
    async with open_journal(tmp_path, max_bytes=200) as journal:
        await journal.accept([record(bytes(100))])
        large, small = journal.accept([record(b"1" * 100)]), journal.accept([record(b"2")])
        await journal.dead_letters()
        assert not large.done()
        assert not small.done()
        journal.confirm("telemetry", await journal.take("telemetry", 1, 1))
        await asyncio.gather(large, small)
        assert [one.value[:1] for one in await drain(journal, "telemetry")] == [b"1", b"2"]


async def test_a_full_journal_drops_polls_and_counts_them(tmp_path):
    async with open_journal(tmp_path, max_bytes=100) as journal:
        await journal.accept([record(bytes(90))])
        assert journal.accept([record(bytes(50), durable=False)]) is None
        counts = journal.lanes()["telemetry"]
        assert (counts.accepted, counts.waiting, dict(counts.dropped)) == (2, 1, {DropReason.JOURNAL_FULL: 1})


async def test_who_gives_up_waiting_for_room_is_passed_over(tmp_path):
    async with open_journal(tmp_path, max_bytes=100) as journal:
        await journal.accept([record(bytes(60))])
        given_up, patient = journal.accept([record(b"1" * 50)]), journal.accept([record(b"2" * 50)])
        given_up.cancel()
        journal.confirm("telemetry", await journal.take("telemetry", 1, 1))
        await patient
        assert [one.value[:1] for one in await drain(journal, "telemetry")] == [b"2"]
        assert journal.lanes()["telemetry"].accepted == 2


async def test_one_accept_larger_than_the_journal_does_not_block_for_ever(tmp_path):
    async with open_journal(tmp_path, max_bytes=100) as journal:
        await journal.accept([record(bytes(500))])
        behind = journal.accept([record(bytes(10))])
        assert not behind.done()
        journal.confirm("telemetry", await journal.take("telemetry", 1, 1))
        await behind


async def test_accepts_fail_with_an_outage_when_the_journal_closes_first(tmp_path):
    async with open_journal(tmp_path, max_bytes=100) as journal:
        await journal.accept([record(bytes(90))])
        held = journal.accept([record(bytes(90))])
        written = journal.accept([record(b"")], [("client", 1)])
    for done in (held, written):
        with pytest.raises(Outage):
            await done
    late = journal.accept([record()])
    with pytest.raises(Outage):
        await late
    assert journal.accept([record(durable=False)]) is None
    assert len(rows_on_disk(tmp_path)) == 1


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("accept"), st.sampled_from(LANES), st.booleans(), st.integers(0, 300)),
            st.tuples(st.just("take"), st.sampled_from(LANES), st.integers(1, 5), st.booleans()),
        ),
        max_size=60,
    )
)
@settings(max_examples=40, deadline=None)
def test_drop_oldest_keeps_the_newest_and_counts_the_rest(steps):
    async def play(directory):
        async with open_journal(directory, max_bytes=1500, when_full=WhenFull.DROP_OLDEST) as journal:
            futures, confirmed, newest = [], [], {}
            for number, (what, lane, *rest) in enumerate(steps):
                if what == "accept":
                    durable, padding = rest
                    value = b"%d" % number
                    done = journal.accept([record(value, lane=lane, durable=durable, headers=[("h", bytes(padding))])])
                    if done is not None:
                        futures.append(asyncio.wait_for(done, 10))
                        newest[lane] = number
                else:
                    count, confirms = rest
                    found = await journal.take(lane, count, 1 << 20)
                    if confirms:
                        journal.confirm(lane, found)
                        confirmed += [int(one.value) for one in found]
                    else:
                        journal.give_back(lane, found)
                assert journal.bytes <= 1500
            await asyncio.gather(*futures)  # nobody waits for ever
            for lane in LANES:
                found = await values(journal, lane)
                counts = journal.lanes()[lane]
                assert found == sorted(found)
                assert counts.waiting == len(found)
                assert set(counts.dropped) <= {DropReason.JOURNAL_FULL}
            assert not set(confirmed) & set(found)

    directory = new_place()
    try:
        asyncio.run(play(directory))
    finally:
        shutil.rmtree(directory)


async def test_drop_oldest_reaches_what_is_on_disk_only(tmp_path):
    keys = {"max_bytes": 4000, "when_full": WhenFull.DROP_OLDEST}
    async with open_journal(tmp_path, **keys) as journal:
        await asyncio.gather(*(journal.accept([record(b"%04d" % number)]) for number in range(100)))
    async with open_journal(tmp_path, **keys) as journal:  # nothing is in memory now
        more = [journal.accept([record(b"%04d" % number)]) for number in range(100, 300)]
        await asyncio.wait_for(asyncio.gather(*more), 20)
        found = await values(journal, "telemetry")
        assert found == list(range(300 - len(found), 300))
        assert len(found) > 150
        counts = journal.lanes()["telemetry"]
        assert counts.dropped[DropReason.JOURNAL_FULL] == 300 - len(found)
        await journal.dead_letters()
        assert len(rows_on_disk(tmp_path)) == len(found)


async def test_numbers_go_on_from_the_epoch(tmp_path):
    async with open_journal(tmp_path) as journal:
        journal.start_epoch(17)
        journal.accept(numbered(2))
        assert [one.number - (17 << COUNTER_BITS) for one in await drain(journal, "telemetry")] == [1, 2]
        with pytest.raises(ValueError, match="epoch 17 is not beyond"):
            journal.start_epoch(17)


async def test_an_epoch_is_known_when_nothing_waits(tmp_path):
    async with open_journal(tmp_path) as journal:
        journal.start_epoch(17)
    async with open_journal(tmp_path) as journal:
        assert journal.last_number >> COUNTER_BITS == 17


async def test_qos_2_ids_are_kept_until_they_are_released(tmp_path):
    async with open_journal(tmp_path) as journal:
        await journal.accept([record()], [("plc", 7), ("plc", 8), ("other", 7)])
        assert journal.received_ids("plc") == {7, 8}
    async with open_journal(tmp_path) as journal:
        assert journal.received_ids("plc") == {7, 8}
        assert journal.release("plc", [9]) is None
        await journal.release("plc", [7, 9])
        journal.forget_session("other")
    async with open_journal(tmp_path) as journal:
        assert journal.received_ids("plc") == {8}
        assert journal.received_ids("other") == frozenset()


def dead(refused, number=0):
    return DeadLetter(EPOCH_MS + number, refused.lane, "evedge/x", "record_too_large", f"error {number}", refused)


async def test_a_refused_record_becomes_a_letter_in_one_step(tmp_path):
    async with open_journal(tmp_path, max_bytes=60) as journal:  # full: the letter takes the record's place
        await journal.accept([record(bytes(40))])
        held = journal.accept([record(bytes(40))])
        (taken,) = await journal.take("telemetry", 1, 1)
        await journal.refuse(dead(taken), record(b"letter", lane="dead-letters", headers=[("reason", b"too large")]))
        counts = journal.lanes()
        assert dict(counts["telemetry"].dropped) == {DropReason.DEAD_LETTER: 1}
        assert counts["dead-letters"].waiting == 1
        assert not held.done()
        (letter,) = await drain(journal, "dead-letters")
        journal.confirm("dead-letters", [letter])
        await held
        (shown,) = await journal.dead_letters()
        assert (shown.reason, shown.error, shown.mqtt_topic) == ("record_too_large", "error 0", "evedge/x")
        assert (shown.record.value, shown.record.number) == (taken.value, taken.number)


async def test_a_record_that_never_was_in_a_lane_counts_as_accepted_and_dropped(tmp_path):
    async with open_journal(tmp_path) as journal:
        await journal.refuse(dead(record(b"no json")), record(b"letter", lane="dead-letters"))
        counts = journal.lanes()["telemetry"]
        assert (counts.accepted, counts.waiting, counts.dropped[DropReason.DEAD_LETTER]) == (1, 0, 1)
        assert journal.refuse(dead(record(b"no letter")), None) is None
        assert len(await journal.dead_letters()) == 2


async def test_dead_letters_are_bounded_in_number_and_bytes(tmp_path):
    async with open_journal(tmp_path, max_bytes=40_000) as journal:
        for number in range(30):
            journal.refuse(dead(record(bytes(1000)), number), None)
        shown = await journal.dead_letters()
        assert [one.error for one in shown] == [f"error {number}" for number in range(21, 30)]
        for number in range(1100):
            journal.refuse(dead(record(b"", key=b""), number), None)
        assert len(await journal.dead_letters()) == 1000


@contextlib.contextmanager
def full_disk():
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


async def test_a_full_disk_delays_promises_and_drops_only_polls_that_do_not_fit_into_memory(tmp_path):
    async with open_journal(tmp_path) as journal:
        with full_disk():
            big = journal.accept([record(b"0" + bytes(100_000), lane="alerts")])
            await until_trouble(journal)
            for one in numbered(6, durable=False):
                journal.accept([one])
            counts = journal.lanes()["telemetry"]
            assert dict(counts.dropped) == {DropReason.DISK: 2}
            assert not big.done()
            assert await values(journal, "telemetry") == [0, 1, 2, 3]  # what is in memory goes on
        await asyncio.wait_for(big, 10)


async def test_a_stop_on_a_full_disk_counts_what_it_loses(tmp_path):
    async with open_journal(tmp_path) as journal:
        journal.accept([record(bytes(100_000), durable=False)])
        with full_disk():
            big = journal.accept([record(bytes(100_000), lane="alerts")])
            await until_trouble(journal)
            await journal.close()
        counts = journal.lanes()["telemetry"]
        assert (counts.accepted, counts.waiting, dict(counts.dropped)) == (1, 0, {DropReason.DISK: 1})
        with pytest.raises(Outage):
            await big


async def until_trouble(journal):
    while journal.database.trouble is None:
        await asyncio.sleep(0.005)


async def test_two_lanes_do_not_wait_for_each_other(tmp_path):
    async with open_journal(tmp_path) as journal:
        journal.accept([record(b"1", lane="blocked"), record(b"2", lane="free")])
        await journal.take("blocked", 1, 1)  # and never confirmed
        assert await values(journal, "free") == [2]


async def test_a_file_of_a_newer_evedge_is_refused(tmp_path):
    async with open_journal(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(EvedgeError, match="newer version"):
        await open_journal(tmp_path).__aenter__()


async def test_the_journal_describes_itself_to_an_operator(tmp_path):
    async with open_journal(tmp_path, max_bytes=100) as journal:
        await journal.accept([record(bytes(90))])
        journal.accept([record(bytes(90))])
        assert repr(journal) == "<Journal 0.0 MB, 1 waiting, 1 held>"
