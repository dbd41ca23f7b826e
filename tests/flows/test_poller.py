"""A poller with a fake endpoint and a clock that the tests turn; the last ones have a real socket under them."""

import asyncio
import contextlib
from itertools import pairwise

import pytest

from evedge.core.errors import Outage, Refused
from evedge.core.model import Link
from evedge.core.plan import plan
from evedge.core.profile import Write, load
from evedge.core.reading import Identity, ModbusException, NoAnswer
from evedge.flows import shared_endpoint
from evedge.flows.clock import SystemClock
from evedge.flows.poll_stats import Outcome
from evedge.flows.poller import Polled, Poller
from evedge.links.modbus import ModbusEndpoint
from modbus_peer import Peer
from turned_time import TurnedTime, settle

PROFILE = load(
    """
    [device]
    vendor = "Acme"
    model = "One"
    [registers]
    current_l1_a = { address = 100, scale = 0.1, unit = "A" }
    voltage_l1_v = { address = 200, unit = "V" }
    temperature_c = { address = 300, unit = "°C", optional = true }
    energy_import_wh = { address = 350, type = "uint32", unit = "Wh" }
    current_limit_a = { address = 400, unit = "A", access = "rw", min = 6, max = 32 }
    serial_number = { address = 500, type = "string", count = 2 }
    [[state]]
    is = "available"
    """,
    "acme",
)
CURRENT, VOLTAGE, TEMPERATURE, ENERGY, LIMIT, SERIAL = 100, 200, 300, 350, 400, 500
WORDS = {
    CURRENT: [160],
    VOLTAGE: [230],
    TEMPERATURE: [21],
    ENERGY: [1, 2],
    LIMIT: [16],
    SERIAL: [0x4142, 0x3132],
}
POLLED = [CURRENT, VOLTAGE, TEMPERATURE, ENERGY, LIMIT]
ILLEGAL = ModbusException(2)
SILENCE = NoAnswer("no answer within 3 s")


class FakeEndpoint:
    """Answers from `words`; an exception there, or in `refuse`, is raised. Keeps what happened in `log`."""

    def __init__(self, time):
        self.time = time
        self.connected = False
        self.words = {1: dict(WORDS)}
        self.refuse = None
        self.takes_s = 0.0
        self.connect_takes_s = 0.0
        self.log = []
        self.hold = None  # an event that requests wait for

    async def connect(self):
        self.log.append(("connect", self.time.now_s))
        if self.connect_takes_s:
            await self.time.sleep(self.connect_takes_s)
        if self.refuse is not None:
            raise self.refuse
        self.connected = True

    def close(self):
        self.connected = False

    async def read(self, block):
        self.log.append(("read", block.unit_id, block.address))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.words[block.unit_id][block.address]
        if answer is SILENCE:
            await self.time.sleep(3.0)
        elif self.takes_s:
            await self.time.sleep(self.takes_s)
        if isinstance(answer, Exception):
            if isinstance(answer, Outage):
                self.connected = False
            raise answer
        return answer

    async def write(self, unit_id, function, address, words):
        self.log.append(("write", unit_id, address, *words))
        self.words[unit_id][address] = list(words)

    def reads(self, address):
        return sum(1 for entry in self.log if entry[0] == "read" and entry[2] == address)

    def connects(self):
        return [entry[1] for entry in self.log if entry[0] == "connect"]


class FakeSink:
    def __init__(self, time):
        self.time = time
        self.readings = []
        self.links = []
        self.failures = []
        self.alive = 0

    def telemetry(self, recharge_point, *, measured_at_ms, reading):
        self.readings.append((recharge_point, measured_at_ms, reading))

    def status(self, recharge_point, status):
        self.links.append((recharge_point, status))

    def failed(self, recharge_points, error):
        self.failures.append((*recharge_points, error))

    def progress(self):
        self.alive += 1

    def states(self, recharge_point="rp-1"):
        return [link.state for name, link in self.links if name == recharge_point]

    def of(self, recharge_point):
        return [reading for name, _, reading in self.readings if name == recharge_point]

    @property
    def last(self):
        return self.readings[-1][2]


class Bench:
    """A poller under test, with the fakes around it."""

    def __init__(self, time=None, *, units=(1,), interval_s=1.0, slot=5):
        self.time = time or TurnedTime()
        self.endpoint = FakeEndpoint(self.time)
        self.sink = FakeSink(self.time)
        self.endpoint.words = {unit: dict(WORDS) for unit in units}
        self.poller = Poller(
            "192.0.2.10:502",
            self.endpoint,
            [Polled(f"rp-{unit}", plan(PROFILE, unit_id=unit), interval_s) for unit in units],
            self.sink,
            slot=slot,
            clock=self.time,
            call_later=self.time.call_later,
            chance=lambda: 0.0,
        )

    @property
    def device(self):
        return self.poller.devices["rp-1"]

    async def __aenter__(self):
        self.task = asyncio.create_task(self.poller.serve(), name=self.poller.name)
        await settle()
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


# polling


async def test_a_poll_starts_at_each_interval_and_brings_every_value():
    async with Bench(slot=3) as bench:
        await bench.time.advance(3.0)
    assert [ms for _, ms, _ in bench.sink.readings] == [1_700_001_000_300, 1_700_001_001_300, 1_700_001_002_300]
    reading = bench.sink.last
    assert reading.errors == {}
    assert reading.values["current_l1_a"] == 16.0
    assert reading.values["energy_import_wh"] == 65538.0
    assert "serial_number" not in reading.values
    assert bench.sink.alive == 3
    assert bench.device.stats.requests[Outcome.OK] == 3 * len(POLLED) + 1
    assert sum(bench.device.stats.request_buckets) == bench.device.stats.request_count == 3 * len(POLLED) + 1
    assert bench.device.stats.last_good_ms == 1_700_001_002_300
    assert bench.poller.name == "poller[192.0.2.10:502]"


async def test_measured_at_is_when_the_last_register_was_read():
    async with Bench() as bench:
        bench.endpoint.takes_s = 0.1
        await bench.time.advance(1.5)
    assert bench.sink.readings[0][1] == 1_700_001_000_500 + 100 * (len(POLLED) + 1)  # identity first


async def test_identity_is_read_once_per_connection_and_stands_in_the_status():
    async with Bench() as bench:
        await bench.time.advance(3.0)
        assert bench.endpoint.reads(SERIAL) == 1
        assert bench.sink.links[0][1].identity == Identity(vendor="Acme", model="One", serial_number="AB12")
        bench.endpoint.connected = False  # it hung up between two polls: no failure, a new connection
        await bench.time.advance(2.0)
        assert bench.endpoint.reads(SERIAL) == 2
    assert bench.sink.states() == [Link.ONLINE]
    assert all(not reading.errors for _, _, reading in bench.sink.readings)


@pytest.mark.parametrize("answer", [ILLEGAL, SILENCE])
async def test_trouble_with_identity_never_hurts_telemetry(answer):
    bench = Bench()
    bench.endpoint.words[1][SERIAL] = answer
    async with bench:
        await bench.time.advance(30.0)
    assert all(not reading.errors for _, _, reading in bench.sink.readings)
    assert len(bench.sink.readings) >= 22  # silence costs time twice, and then is not asked for again
    assert bench.endpoint.reads(SERIAL) <= 2
    assert bench.sink.states() == [Link.ONLINE]


async def test_a_modbus_exception_costs_the_values_of_its_block_only():
    async with Bench() as bench:
        await bench.time.advance(1.0)
        bench.endpoint.words[1][VOLTAGE] = ILLEGAL
        await bench.time.advance(1.0)
        assert bench.sink.last.errors == {"voltage_l1_v": "illegal data address"}
        assert "voltage_l1_v" not in bench.sink.last.values
        assert bench.sink.last.values["current_l1_a"] == 16.0
        assert bench.sink.links[-1][1].reason == "voltage_l1_v: illegal data address"
        bench.endpoint.words[1][VOLTAGE] = [231]
        await bench.time.advance(1.0)
        assert bench.sink.last.values["voltage_l1_v"] == 231.0
    assert bench.sink.states() == [Link.ONLINE, Link.DEGRADED, Link.ONLINE]
    assert len(bench.endpoint.connects()) == 1


async def test_an_optional_register_that_the_device_lacks_is_no_error_and_is_not_asked_for_again():
    bench = Bench()
    bench.endpoint.words[1][TEMPERATURE] = ILLEGAL
    async with bench:
        await bench.time.advance(10.0)
        assert all(not reading.errors for _, _, reading in bench.sink.readings)
        assert "temperature_c" not in bench.sink.last.values
        assert bench.sink.states() == [Link.ONLINE]
        assert bench.endpoint.reads(TEMPERATURE) == 1
        assert bench.endpoint.reads(CURRENT) == 10  # finding out cost no other register a request
        bench.endpoint.connected = False
        bench.endpoint.refuse = Outage("connection refused")
        await bench.time.advance(2.0)
        bench.endpoint.refuse = None
        bench.endpoint.words[1] = dict(WORDS)  # a new firmware
        await bench.time.advance(20.0)
        assert bench.sink.last.values["temperature_c"] == 21.0


async def test_a_time_out_ends_the_poll_and_renews_the_connection():
    async with Bench(interval_s=10.0) as bench:
        await bench.time.advance(5.0)
        bench.endpoint.words[1][VOLTAGE] = SILENCE
        before = len(bench.endpoint.log)
        await bench.time.advance(10.0)
        log = bench.endpoint.log[before:]
        assert [entry[2] for entry in log if entry[0] == "read"] == [CURRENT, VOLTAGE]  # the others were not tried
        reading = bench.sink.last
        assert reading.values["current_l1_a"] == 16.0
        assert reading.errors["voltage_l1_v"] == reading.errors["energy_import_wh"] == "no answer within 3 s"
        bench.endpoint.words[1][VOLTAGE] = [230]
        await bench.time.advance(10.0)
        assert bench.sink.last.errors == {}
    assert len(bench.endpoint.connects()) == 2
    assert bench.device.stats.requests[Outcome.TIMEOUT] == 1


async def test_a_poll_slower_than_its_interval_skips_starts_and_counts_them():
    async with Bench() as bench:
        bench.endpoint.takes_s = 0.5  # 2.5 s for a poll
        await bench.time.advance(12.0)
    moments = [ms for _, ms, _ in bench.sink.readings[1:]]
    assert [later - earlier for earlier, later in pairwise(moments)] == [2500, 2500]
    assert bench.device.stats.overruns >= 4


# outages


async def test_a_dead_endpoint_gives_one_reading_without_values_per_interval_and_the_reason():
    bench = Bench()
    bench.endpoint.refuse = Outage("connection refused")
    async with bench:
        await bench.time.advance(60.0)
    assert len(bench.sink.readings) == 60
    for _, _, reading in bench.sink.readings:
        assert reading.values == {}
        assert set(reading.errors.values()) == {"connection refused"}
        assert "state" in reading.errors  # which this profile would give without reading anything
    assert [(link.state, link.reason) for _, link in bench.sink.links] == [(Link.OFFLINE, "connection refused")]
    connects = bench.endpoint.connects()
    gaps = [later - earlier for earlier, later in pairwise(connects)]
    assert gaps == sorted(gaps)  # the waits grow
    assert min(gaps) >= 1.0
    assert max(gaps) <= 15.0


async def test_what_recovers_is_read_before_it_is_next_due():
    bench = Bench(interval_s=600.0)
    bench.time.now_s = 1200.0
    bench.endpoint.refuse = Outage("connection refused")
    async with bench:
        await bench.time.advance(605.0)
        due = len(bench.sink.readings)
        bench.endpoint.refuse = None
        await bench.time.advance(16.0)
        assert bench.sink.readings[due][2].errors == {}
        assert len(bench.sink.readings) == due + 1
    assert bench.sink.states() == [Link.OFFLINE, Link.ONLINE]


async def test_one_missed_poll_is_not_offline_yet_and_the_second_is():
    async with Bench(interval_s=5.0) as bench:
        await bench.time.advance(1.0)
        bench.endpoint.words[1] = dict.fromkeys(WORDS, SILENCE)
        await bench.time.advance(8.0)  # due, and no answer for 3 s
        assert bench.sink.last.values == {}
        assert bench.sink.states() == [Link.ONLINE]
        await bench.time.advance(5.0)
        assert bench.sink.states() == [Link.ONLINE, Link.OFFLINE]
        assert bench.sink.links[-1][1].reason == "no answer within 3 s"
        assert bench.sink.links[-1][1].identity.serial_number == "AB12"
        bench.endpoint.words[1] = dict(WORDS)
        await bench.time.advance(15.0)
    assert bench.sink.states() == [Link.ONLINE, Link.OFFLINE, Link.ONLINE]


async def test_a_device_that_refuses_everything_is_offline_for_that_reason_and_asked_at_its_pace():
    bench = Bench()
    bench.endpoint.words[1] = dict.fromkeys(WORDS, ModbusException(11))
    async with bench:
        await bench.time.advance(5.0)
    assert bench.endpoint.reads(CURRENT) == 5
    assert [(link.state, link.reason) for _, link in bench.sink.links] == [
        (Link.OFFLINE, "gateway target does not respond")
    ]


async def test_a_dead_unit_id_backs_off_and_its_neighbour_on_the_endpoint_goes_on():
    bench = Bench(units=(1, 2))
    bench.endpoint.words[1] = dict.fromkeys(WORDS, SILENCE)
    async with bench:
        await bench.time.advance(120.0)
    assert bench.sink.states("rp-1") == [Link.OFFLINE]
    assert bench.sink.states("rp-2") == [Link.ONLINE]
    good = [reading for reading in bench.sink.of("rp-2") if not reading.errors]
    assert len(good) == len(bench.sink.of("rp-2")) > 80  # its polls wait behind a time-out now and then, none fails
    assert len([reading for reading in bench.sink.of("rp-1") if reading.values]) == 0


async def test_a_dead_endpoint_disturbs_no_other():
    time = TurnedTime()
    dead, alive = Bench(time, slot=0), Bench(time, slot=0)
    dead.endpoint.refuse = NoAnswer("no connection within 3 s")
    dead.endpoint.connect_takes_s = 3.0
    async with dead, alive:
        await time.advance(60.0)
    assert [ms for _, ms, _ in alive.sink.readings] == [1_700_001_000_000 + 1000 * n for n in range(61)]
    assert alive.device.stats.overruns == 0


# commands


async def write_limit(access):
    register = PROFILE.registers["current_limit_a"]
    await access.write(Write(register, 10.0, register.encode(10.0)))
    return await access.read(register.name)


async def test_a_command_goes_between_two_requests_of_a_poll_first_in_line():
    bench = Bench()
    bench.endpoint.hold = asyncio.Event()
    async with bench:
        await bench.time.advance(0.5)
        bench.endpoint.hold.set()
        await settle()
        bench.endpoint.hold.clear()
        await bench.time.advance(1.0)
        assert bench.endpoint.log[-1] == ("read", 1, CURRENT)  # under way
        del bench.endpoint.log[:-1]
        job = asyncio.create_task(bench.device.run(write_limit))
        await settle()
        bench.endpoint.hold.set()
        assert await job == 10.0
        await settle()
    addresses = [entry[:3] for entry in bench.endpoint.log]
    assert addresses[:4] == [("read", 1, CURRENT), ("write", 1, LIMIT), ("read", 1, LIMIT), ("read", 1, VOLTAGE)]
    assert bench.device.stats.writes == 1


async def test_a_command_wakes_a_poller_that_waits():
    async with Bench(interval_s=60.0) as bench:
        await bench.time.advance(1.0)
        assert await bench.device.run(write_limit) == 10.0  # the clock stands still


async def test_commands_keep_their_order_and_have_the_device_alone():
    running = []

    async def job(access, number):
        running.append(("begin", number))
        await access.read("current_limit_a")
        await asyncio.sleep(0)
        running.append(("end", number))

    async with Bench() as bench:
        await asyncio.gather(*(bench.device.run(lambda access, n=n: job(access, n)) for n in range(3)))
    assert running == [(what, n) for n in range(3) for what in ("begin", "end")]


async def test_a_command_for_a_dead_device_says_why_and_knocks_at_most_once_a_second():
    bench = Bench(interval_s=60.0)
    bench.endpoint.refuse = Outage("connection refused")
    async with bench:
        for _ in range(5):
            job = asyncio.create_task(bench.device.run(write_limit))
            await bench.time.advance(1.0)
            with pytest.raises(Outage, match=r"^connection refused$"):
                await job
        connects = bench.endpoint.connects()
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(connects))
    assert not any(entry[0] == "write" for entry in bench.endpoint.log)


async def test_a_command_reaches_a_device_that_came_back_before_its_backoff_is_over():
    bench = Bench(interval_s=60.0)
    bench.endpoint.refuse = Outage("connection refused")
    async with bench:
        await bench.time.advance(40.0)
        bench.endpoint.refuse = None
        job = asyncio.create_task(bench.device.run(write_limit))
        await bench.time.advance(1.0)
        assert await job == 10.0
        await settle()
        assert bench.sink.states()[-1] is Link.ONLINE  # and it is polled right after


async def test_a_command_that_is_given_up_does_not_stop_the_poller():
    async with Bench() as bench:
        forever = asyncio.Event()
        job = asyncio.create_task(bench.device.run(lambda access: forever.wait()))
        await settle()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        before = len(bench.sink.readings)
        await bench.time.advance(2.0)
        assert len(bench.sink.readings) == before + 2


async def test_a_command_that_takes_too_long_ends_at_its_deadline():
    async with Bench() as bench:
        with pytest.raises(NoAnswer, match="rp-1 could not be reached within"):
            await bench.device.run(lambda access: asyncio.Event().wait(), deadline_s=0.01)
        before = len(bench.sink.readings)
        await bench.time.advance(2.0)
        assert len(bench.sink.readings) == before + 2


async def test_what_a_command_raises_is_its_callers_business():
    async def job(access):
        raise Refused("no")

    async with Bench() as bench:
        with pytest.raises(Refused, match="no"):
            await bench.device.run(job)
        before = len(bench.sink.readings)
        await bench.time.advance(1.0)
        assert len(bench.sink.readings) == before + 1
    assert bench.sink.failures == []


async def test_when_the_poller_ends_who_waits_gets_an_outage_and_the_connection_is_closed():
    bench = Bench(slot=0)
    bench.endpoint.hold = asyncio.Event()
    async with bench:
        waiting = asyncio.create_task(bench.device.run(write_limit))
        await settle()
        assert bench.endpoint.connected
    assert not bench.endpoint.connected
    with pytest.raises(Outage, match="the poller has stopped"):
        await waiting
    with pytest.raises(Outage, match="the poller has stopped"):
        await bench.device.run(write_limit)


async def test_a_poller_that_was_never_started_takes_no_commands():
    with pytest.raises(Outage):
        await Bench().device.run(write_limit)


# defects


async def test_a_defect_with_one_device_is_told_once_and_its_neighbour_goes_on(monkeypatch):
    bench = Bench(units=(1, 2))
    bench.endpoint.words[1][CURRENT] = KeyError("a defect")
    async with bench:
        await bench.time.advance(30.0)
        assert bench.sink.failures
        assert {name for name, _ in bench.sink.failures} == {"rp-1"}
        assert bench.device.stats.crashes == len(bench.sink.failures) < 10  # with backoff
        assert bench.sink.states("rp-2") == [Link.ONLINE]
        assert len(bench.sink.of("rp-2")) >= 30
        bench.endpoint.words[1] = dict(WORDS)
        await bench.time.advance(16.0)
        assert bench.sink.last.errors == {}
    assert bench.sink.states("rp-1")[-1] is Link.ONLINE


# with a real socket


async def test_a_device_on_a_socket_goes_away_and_comes_back(monkeypatch):
    monkeypatch.setattr(shared_endpoint, "BETWEEN_CONNECTION_ATTEMPTS_S", 0.0)

    async def behave(request, writer):
        writer.write(request.words(WORDS[request.address]))

    sink = FakeSink(None)
    clock = SystemClock()

    async def until(condition):
        while not condition():
            await asyncio.sleep(0.01)

    async with Peer(behave) as peer:
        endpoint = ModbusEndpoint("127.0.0.1", peer.port)
        poller = Poller("test", endpoint, [Polled("rp-1", plan(PROFILE), 0.1)], sink, clock=clock, chance=lambda: 0.0)
        poller.devices["rp-1"].notes.backoff.first_s = 0.05
        serving = asyncio.create_task(poller.serve())
        await until(lambda: len(sink.readings) >= 3)
        assert await poller.devices["rp-1"].run(lambda access: access.read("current_l1_a")) == 16.0
    await until(lambda: sink.states()[-1] is Link.OFFLINE)
    async with Peer(behave, port=peer.port):
        await until(lambda: sink.states()[-1] is Link.ONLINE)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    assert sink.states() == [Link.ONLINE, Link.OFFLINE, Link.ONLINE]
    assert not endpoint.connected


@pytest.mark.parametrize(("count", "fewest"), [(8, 58), (12, 40)])
async def test_too_many_at_one_endpoint_starve_none_of_them(count, fewest):
    time = TurnedTime()
    sink = FakeSink(time)
    endpoint = FakeEndpoint(time)
    endpoint.words = {unit_id: dict(WORDS) for unit_id in range(1, count + 1)}
    endpoint.takes_s = 0.1 / len(POLLED)  # a tenth of a second a poll: 8 keep the line busy by 80 %, 12 cannot be kept
    polled = [Polled(f"rp-{unit_id}", plan(PROFILE, unit_id=unit_id), 1.0) for unit_id in range(1, count + 1)]
    poller = Poller("line", endpoint, polled, sink, clock=time, call_later=time.call_later)
    task = asyncio.create_task(poller.serve())
    await time.advance(60)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    polls = [len(sink.of(name)) for name in poller.devices]
    assert min(polls) >= fewest
    assert max(polls) - min(polls) <= 2
