"""From the lanes to Kafka: nothing is forgotten before it is confirmed, and one lane holds up no other."""

import asyncio
from dataclasses import replace

import pytest

from evedge.core.delivery import RefusalReason, RefusedRecord, SendOutage, SendResult, TopicUnavailable
from evedge.flows.forwarder import Forwarder
from fakes import Alerts, Journal, LoopClock, record, settle, turned


class Producer:
    """Answers each send by the next of `answers` for its topic, then by confirming everything."""

    def __init__(self):
        self.answers = {}
        self.sent = []
        self.hangs = {}

    async def send(self, topic, records):
        self.sent.append((topic, [int(one.value) for one in records], [one.number for one in records]))
        if topic in self.hangs:
            await self.hangs[topic].wait()
        answers = self.answers.get(topic, [])
        return answers.pop(0)(records) if answers else SendResult(confirmed=tuple(records))

    def values(self, topic):
        return [values for sent_to, values, _ in self.sent if sent_to == topic]


def away(settled=0, kind=SendOutage):
    def answer(records):
        raise kind("no answer", SendResult(confirmed=tuple(records[:settled])))

    return answer


def refuse(*values):
    def answer(records):
        refused = [one for one in records if int(one.value) in values]
        return SendResult(
            confirmed=tuple(one for one in records if one not in refused),
            refused=tuple(RefusedRecord(one, RefusalReason.RECORD_TOO_LARGE, "1 MB is too much") for one in refused),
        )

    return answer


class House:
    def __init__(self, *lanes, left=()):
        self.journal, self.producer, self.alerts = Journal(), Producer(), Alerts()
        self.journal.accept(left)
        self.forwarder = Forwarder(
            self.journal,
            self.producer,
            self.alerts,
            lanes=lanes or ("telemetry", "alerts"),
            telemetry_lanes=frozenset({"telemetry"}),
            dead_letters="dead-letters",
            clock=LoopClock(),
            chance=lambda: 0.5,
        )
        self.task = None

    async def __aenter__(self):
        self.task = asyncio.create_task(self.forwarder.run())
        await settle()
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task

    def accept(self, *values, lane="telemetry"):
        self.journal.accept([record(b"%d" % value, lane=lane) for value in values])

    @property
    def confirmed(self):
        return [value for what, value in self.journal.log if what == "confirmed"]


@turned
async def test_records_are_sent_and_forgotten_when_kafka_confirms():
    async with House() as house:
        house.accept(1, 2, 3)
        await asyncio.sleep(1)
        assert house.confirmed == [1, 2, 3]
        assert house.journal.counts["telemetry"].waiting == 0


@turned
async def test_what_comes_within_the_gathering_time_is_sent_together():
    async with House() as house:
        for value in range(5):
            house.accept(value)
            await asyncio.sleep(0.03)
        await asyncio.sleep(1)
        assert house.producer.values("telemetry") == [[0, 1, 2, 3, 4]]


@turned
async def test_a_lone_alert_does_not_wait_long():
    async with House() as house:
        house.accept(1, lane="alerts")
        await asyncio.sleep(0.05)
        assert house.confirmed == [1]


@turned
async def test_an_outage_gives_back_and_sends_again_in_order_under_the_same_numbers():
    async with House() as house:
        house.producer.answers["telemetry"] = [away(), away(settled=2), away()]
        house.accept(1, 2, 3, 4)
        await asyncio.sleep(1.1)
        house.accept(5)
        await asyncio.sleep(60)
        assert house.confirmed == [1, 2, 3, 4, 5]
        first, *_, last = [numbers for _, _, numbers in house.producer.sent]
        assert last == [*first[2:], 5]
        assert ("given back", [3, 4]) in house.journal.log


@turned
async def test_while_kafka_is_away_tries_become_rare():
    async with House() as house:
        house.producer.answers["telemetry"] = [away()] * 1000
        house.accept(1)
        await asyncio.sleep(600)
        assert 55 < len(house.producer.sent) < 80
        assert house.forwarder.blocked == {"telemetry": "no answer"}


@turned
async def test_the_loss_of_kafka_is_told_once_and_its_return_too():
    async with House() as house:
        house.producer.answers = {"telemetry": [away()] * 3, "alerts": [away()] * 2}
        house.accept(1)
        house.accept(2, lane="alerts")
        await asyncio.sleep(60)
        assert house.alerts.told == [("raised", "kafka_lost"), ("cleared", "kafka_lost")]
        assert house.forwarder.blocked == {}


@turned
async def test_a_topic_that_is_missing_holds_up_its_own_route_only():
    async with House("telemetry", "alerts", "factory") as house:
        house.producer.answers["factory"] = [away(kind=TopicUnavailable)] * 1000
        house.producer.answers["telemetry"] = [away()] * 2
        house.accept(1, lane="factory")
        house.accept(2)
        await asyncio.sleep(60)
        assert house.confirmed == [2]
        assert house.alerts.raised == {"topic_unavailable:factory": "no answer"}  # and kafka_lost is over
        house.producer.answers["factory"] = []
        await asyncio.sleep(60)
        assert house.confirmed == [2, 1]
        assert house.alerts.raised == {}


@turned
async def test_a_lane_that_hangs_holds_up_no_other():
    async with House() as house:
        house.producer.hangs["telemetry"] = asyncio.Event()
        house.accept(1)
        await asyncio.sleep(1)
        house.accept(2, lane="alerts")
        await asyncio.sleep(1)
        assert house.confirmed == [2]
        house.producer.hangs.pop("telemetry").set()
        await asyncio.sleep(1)
        assert house.confirmed == [2, 1]


@turned
async def test_a_lane_has_one_send_in_flight():
    async with House() as house:
        hang = house.producer.hangs["telemetry"] = asyncio.Event()
        house.accept(1)
        await asyncio.sleep(1)
        house.accept(2)
        await asyncio.sleep(1)
        assert house.producer.values("telemetry") == [[1]]
        hang.set()
        await asyncio.sleep(1)
        assert house.producer.values("telemetry") == [[1], [2]]


@turned
async def test_a_refused_record_becomes_a_dead_letter_and_the_rest_goes_on():
    async with House() as house:
        house.producer.answers["telemetry"] = [refuse(2)]
        house.accept(1, 2, 3)
        await asyncio.sleep(1)
        (dead,) = house.journal.dead
        assert (dead.reason, dead.error, dead.kafka_topic) == ("record_too_large", "1 MB is too much", "telemetry")
        (letter,) = house.journal.letters
        assert letter.lane == "dead-letters"
        assert dict(letter.headers)["original_ce_id"] == b"0-2"
        assert house.confirmed == [1, 3, 2]  # the letter has the record's value, and went out as well
        counts = house.journal.counts["telemetry"]
        assert (counts.accepted, counts.confirmed, counts.waiting) == (3, 2, 0)
        assert counts.dropped == {"dead_letter": 1}


@turned
async def test_a_dead_letter_that_is_refused_stays_in_the_journal_only():
    async with House() as house:
        house.producer.answers["dead-letters"] = [refuse(1)]
        house.accept(1, lane="dead-letters")
        await asyncio.sleep(1)
        assert len(house.journal.dead) == 1
        assert house.journal.letters == []
        assert house.journal.counts["dead-letters"].waiting == 0


@turned
async def test_what_was_settled_before_an_outage_is_not_sent_again():
    def half(records):
        settled = SendResult(
            confirmed=(records[0],), refused=(RefusedRecord(records[1], RefusalReason.INVALID_RECORD, "odd"),)
        )
        raise SendOutage("lost in the middle", settled)

    async with House() as house:
        house.producer.answers["telemetry"] = [half]
        house.accept(1, 2, 3)
        await asyncio.sleep(30)
        assert house.producer.values("telemetry") == [[1, 2, 3], [3]]
        assert [dead.reason for dead in house.journal.dead] == ["invalid_record"]


@turned
async def test_a_refused_timestamp_is_an_alert_that_ends():
    def restamp(records):
        return SendResult(confirmed=tuple(records), restamped=(records[0],))

    async with House() as house:
        house.producer.answers["telemetry"] = [restamp, restamp]
        for value in (1, 2, 3):
            house.accept(value)
            await asyncio.sleep(30)
        assert "timestamp_refused" in house.alerts.raised
        await asyncio.sleep(60)
        house.accept(4)
        await asyncio.sleep(1)
        assert house.alerts.told == [("raised", "timestamp_refused"), ("cleared", "timestamp_refused")]


@turned
async def test_a_stop_in_the_middle_of_a_send_gives_back():
    async with House() as house:
        house.producer.hangs["telemetry"] = asyncio.Event()
        house.accept(1, 2)
        await asyncio.sleep(1)
        assert len(house.journal.taken) == 2
    assert house.journal.taken == {}
    assert [int(one.value) for one in house.journal.queues["telemetry"]] == [1, 2]
    assert house.journal.counts["telemetry"].waiting == 2


@turned
async def test_draining_does_not_gather_and_tells_when_all_is_confirmed():
    async with House() as house:
        start_s = asyncio.get_running_loop().time()
        house.accept(1, 2)
        house.accept(3, lane="alerts")
        assert await house.forwarder.drain(10)
        assert sorted(house.confirmed) == [1, 2, 3]
        assert asyncio.get_running_loop().time() - start_s < 0.1


@turned
async def test_draining_gives_up_when_its_time_is_up():
    async with House() as house:
        house.producer.answers["telemetry"] = [away()] * 1000
        house.accept(1)
        start_s = asyncio.get_running_loop().time()
        assert not await house.forwarder.drain(10)
        assert 10 <= asyncio.get_running_loop().time() - start_s < 10.1


@turned
async def test_draining_wakes_a_lane_that_waits_for_its_next_try():
    async with House() as house:
        house.producer.answers["telemetry"] = [away()] * 8
        house.accept(1)
        await asyncio.sleep(50)  # the next try is up to ten seconds away, and Kafka is back
        house.producer.answers["telemetry"] = []
        start_s = asyncio.get_running_loop().time()
        assert await house.forwarder.drain(10)
        assert asyncio.get_running_loop().time() - start_s < 1


@turned
async def test_when_kafka_answers_one_lane_those_that_lost_it_try_at_once():
    async with House() as house:
        house.producer.answers["telemetry"] = [away()] * 1000
        house.accept(1)
        while len(house.producer.sent) < 12:
            await asyncio.sleep(0.1)
        house.producer.answers["telemetry"] = []  # its next try is ten seconds away, and Kafka is back
        house.accept(2, lane="alerts")
        await asyncio.sleep(1)
        assert house.confirmed == [2, 1]


@turned
async def test_a_lane_that_works_does_not_hurry_a_lost_one_all_the_time():
    async with House() as house:
        house.producer.answers["telemetry"] = [away()] * 1000
        house.accept(1)
        for number in range(600):
            house.accept(100 + number, lane="alerts")
            await asyncio.sleep(0.1)
        assert len(house.producer.values("telemetry")) < 60 / 2 + 10


@turned
async def test_lanes_of_an_earlier_configuration_are_served_too():
    async with House("telemetry", left=[record(b"1", lane="long-gone", durable=False)]) as house:
        await asyncio.sleep(1)
        assert house.confirmed == [1]


@turned
async def test_the_dead_letters_are_served_without_being_named():
    async with House("telemetry") as house:
        house.producer.answers["telemetry"] = [refuse(1)]
        house.accept(1)
        assert await house.forwarder.drain(10)


@turned
async def test_many_records_go_in_sends_of_a_bounded_size():
    async with House() as house:
        house.journal.accept([replace(record(lane="telemetry"), value=b"%d" % value) for value in range(9000)])
        await asyncio.sleep(5)
        assert [len(values) for values in house.producer.values("telemetry")] == [4000, 4000, 1000]
        assert house.confirmed == list(range(9000))
