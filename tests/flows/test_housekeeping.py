"""What is done about the journal, and what the gateway tells of itself."""

import asyncio
from collections import Counter

import msgspec
import pytest

from evedge.core.errors import Outage
from evedge.core.lanes import LaneCounts, WhenFull
from evedge.core.machine import MachineReading
from evedge.flows.housekeeping import LOOKS_TO_WAIT, Housekeeping
from turned_time import TurnedTime


class Journal:
    def __init__(self):
        self.max_bytes = 1000
        self.when_full = WhenFull.BLOCK
        self.bytes = 0
        self.counts = {"telemetry": LaneCounts(), "alerts": LaneCounts()}
        self.spills = 0

    def lanes(self):
        return self.counts

    def spill(self):
        self.spills += 1


class Disk:
    trouble = None


class Producer:
    up = True


class Machine:
    def __init__(self):
        self.answer = MachineReading(cpu_percent=12.5, disk_free_bytes=7)

    async def read(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Reports:
    def __init__(self):
        self.payloads = []
        self.open = {}

    def gateway_telemetry(self, payload, now_ms):
        self.payloads.append(msgspec.json.decode(payload))

    def raise_alert(self, kind, message, *, severity="warning"):
        self.open.setdefault(kind, (severity, message))

    def clear_alert(self, kind):
        self.open.pop(kind, None)


class House:
    def __init__(self, kafka=True):
        self.time = TurnedTime()
        self.journal = Journal()
        self.disk = Disk()
        self.producer = Producer() if kafka else None
        self.machine = Machine()
        self.reports = Reports()
        self.keeping = Housekeeping(
            gateway="site-042",
            journal=self.journal,
            disks={"journal": self.disk, "state": Disk()},
            producer=self.producer,
            machine=self.machine,
            reports=self.reports,
            clock=self.time,
            mqtt_clients=lambda: 3,
            sleep=self.time.sleep,
        )

    def looks(self, count=1):
        for _ in range(count):
            self.keeping.look()
            self.time.now_s += 1.0


@pytest.fixture
def house():
    return House()


@pytest.fixture
async def running(house):
    task = asyncio.create_task(house.keeping.run())
    yield house
    task.cancel()
    await asyncio.wait([task])


# The journal.


def test_nothing_is_spilled_while_kafka_confirms(house):
    counts = house.journal.counts["telemetry"]
    for _ in range(20):
        counts.accepted += 10
        house.looks()
        counts.confirmed = counts.accepted - 3  # something always waits, but never the same
    assert house.journal.spills == 0


def test_memory_goes_to_disk_when_kafka_is_away(house):
    house.looks()
    house.producer.up = False
    house.looks()
    assert house.journal.spills == 0  # it may come back at once
    house.looks(2)
    assert house.journal.spills > 0
    house.producer.up = True
    house.looks()
    spills = house.journal.spills
    house.looks(3)
    assert house.journal.spills == spills


def test_memory_goes_to_disk_when_one_topic_waits(house):
    house.journal.counts["alerts"].accepted = 1
    busy = house.journal.counts["telemetry"]
    for _ in range(LOOKS_TO_WAIT):
        busy.accepted += 10
        busy.confirmed += 10
        house.looks()
    assert house.journal.spills == 0
    house.looks()
    assert house.journal.spills == 1


def test_a_record_that_was_dropped_waits_no_more(house):
    house.journal.counts["alerts"].accepted = 1
    house.looks(2)
    house.journal.counts["alerts"].dropped = Counter(dead_letter=1)
    house.looks(2 * LOOKS_TO_WAIT)
    assert house.journal.spills == 0


def test_without_kafka_nothing_is_spilled():
    house = House(kafka=False)
    house.looks(10)
    assert house.journal.spills == 0


def test_a_full_journal_is_told_until_there_is_room_again(house):
    house.journal.bytes = 899
    house.looks()
    assert house.reports.open == {}
    house.journal.bytes = 900
    house.looks()
    severity, message = house.reports.open["journal_full"]
    assert severity == "error"
    assert message == "90% of journal.max_bytes (1000) are taken; at 100 % publishers wait, polls and QoS 0 are dropped"
    house.journal.bytes = 800
    house.looks()
    assert "journal_full" in house.reports.open  # it would come and go
    house.journal.bytes = 799
    house.looks()
    assert house.reports.open == {}


def test_a_disk_that_takes_nothing_is_told(house):
    house.disk.trouble = "database or disk is full"
    house.looks()
    assert house.reports.open["disk_failed"] == ("error", "the disk takes nothing (journal: database or disk is full)")
    house.disk.trouble = None
    house.looks()
    assert house.reports.open == {}


# Telemetry.


async def test_the_gateway_tells_how_it_is(running):
    running.journal.bytes = 40
    running.journal.counts["alerts"].accepted = 2
    await running.time.advance(31.0)
    (told,) = running.reports.payloads
    assert told["gateway"] == "site-042"
    assert told["machine"] == {"cpu_percent": 12.5, "disk_free_bytes": 7}
    assert told["waiting"] == {"telemetry": 0, "alerts": 2}
    assert (told["journal_bytes"], told["journal_max_bytes"]) == (40, 1000)
    assert (told["mqtt_clients"], told["kafka_up"]) == (3, True)
    assert told["measured_at"].endswith("Z")
    await running.time.advance(60.0)
    assert len(running.reports.payloads) == 3


async def test_what_cannot_be_read_is_absent(running):
    running.machine.answer = Outage("no such sensor")
    await running.time.advance(31.0)
    assert "machine" not in running.reports.payloads[0]
    running.machine.answer = MachineReading(load_1m=0.5)
    await running.time.advance(30.0)
    assert running.reports.payloads[1]["machine"] == {"load_1m": 0.5}


async def test_it_shows_that_it_is_alive(running):
    await running.time.advance(10.0)
    assert running.time.now_s - running.keeping.last_look_s <= 1.0
