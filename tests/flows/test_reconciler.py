"""One recharge point and its commands: each has exactly one end, and is written at most once, whatever happens."""

import asyncio
import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from evedge.core.commands import ENDS, Action, Command, Purpose, Step, may_follow
from evedge.core.desired import Bounds, Desired, OnLapse
from evedge.core.errors import Outage, Refused
from evedge.flows.lives import Lives
from evedge.flows.reconciler import PATIENCE_S, Reconciler
from evedge.profiles import load_profile
from fakes import Alerts, LoopClock, Results, Store, settle, turned

ABB, ALFEN, KEBA, CHARX = (
    "abb-terra-ac",
    "alfen-eve-ng9xx",
    "keba-kecontact-p40",
    "phoenix-contact-charx-sec-3xxx",
)
SET = "current_limit_set"


class Device:
    """A recharge point by its profile. What is written shows in the register itself, in its readback, and in force.

    offline: nothing reaches it. refuses: registers it answers with an exception. deaf: it takes writes and ignores
    them. cuts: how many writes are taken, or lost (`cut_before`), while the connection breaks. slow_s: until a turn.
    """

    def __init__(self, profile):
        self.profile = profile
        self.shown = {}
        self.writes = []
        self.offline = False
        self.refuses = set()
        self.deaf = False
        self.cuts = 0
        self.cut_before = False
        self.slow_s = 0.0
        self.on_write = None

    async def run(self, job, *, deadline_s=15.0):
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.sleep(self.slow_s)
                if self.offline:
                    raise Outage("no answer")
                return await job(self)
        except TimeoutError:
            raise Outage("could not be reached in time") from None

    async def write(self, write):
        name = write.register.name
        assert write.register.problem(write.value) is None
        if name in self.refuses:
            raise Refused("illegal data address")
        if self.cuts and self.cut_before:
            self.cuts -= 1
            raise Outage("the connection broke")
        self.writes.append((asyncio.get_running_loop().time() - 1000, name, write.value))
        if self.on_write is not None:
            await self.on_write(write)
        if not self.deaf:
            self.show(write.register, write.words)
        if self.cuts:
            self.cuts -= 1
            raise Outage("the connection broke")

    def show(self, register, words):
        value = register.decode(words)
        self.shown[register.name] = value
        limit = self.profile.limit
        if register is limit.register:
            for other in (limit.readback, limit.in_force):
                if other is not None:
                    self.shown[other.name] = value

    async def read(self, name):
        if name in self.refuses:
            raise Refused("illegal data address")
        await asyncio.sleep(0)
        return self.shown.get(name)

    def values(self, name=SET):
        return [value for _, written, value in self.writes if written == name]


class House:
    def __init__(self, profile=ABB, *, before_a=None, forever=False, **bounds):
        self.clock = LoopClock()
        self.store, self.results, self.alerts = Store(), Results(), Alerts()
        self.profile = load_profile(profile)
        self.device = Device(self.profile)
        self.before_a = before_a
        keys = {"min_current_a": 6.0, "max_current_a": 32.0, "fallback_current_a": None, "on_lapse": None, **bounds}
        self.bounds = Bounds(**keys)
        self.task = None

    def start(self):
        self.lives = Lives(self.store, self.results, gateway="site-042", clock=self.clock)
        self.reconciler = Reconciler(
            "rp-01",
            limit=self.profile.limit,
            failsafe=self.profile.failsafe,
            bounds=self.bounds,
            device=self.device,
            lives=self.lives,
            alerts=self.alerts,
            clock=self.clock,
            forget_after_s=86_400,
            limit_now_a=lambda: self.before_a,
            desired=self.store.desired.get("rp-01"),
            opened=self.store.opened(),
            chance=lambda: 0.5,
        )
        self.task = asyncio.create_task(self.reconciler.serve())

    async def crash(self):
        """Ends the process at this moment; what is not on disk is lost."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.store.pending.clear()

    async def restart(self):
        await self.crash()
        self.start()

    async def __aenter__(self):
        self.start()
        return self

    async def __aexit__(self, *_):
        assert not self.task.done(), self.task
        await self.crash()
        for command_id in {one.id for one in self.results.told}:
            self.check_life(command_id)

    def check_life(self, command_id):
        steps = [one for one in self.results.told if one.id == command_id and one.state != Step.LAPSED]
        before = None
        for one in steps:
            assert may_follow(before, one.state), [str(step.state) for step in steps]
            before = one.state
        finals = [one.final for one in steps]
        assert finals.count(True) <= 1
        assert True not in finals[:-1]
        assert all(one.final for one in steps if one.state in ENDS)

    async def accept(self, command_id, action=Action.SET_CURRENT_LIMIT, current_a=None, **keys):
        keys = {"lease_s": None, "purpose": Purpose.MARKET, "expires_in_s": 60, **keys}
        expires_at_ms = self.clock.wall_ms() + round(keys.pop("expires_in_s") * 1000)
        command = Command(
            id=command_id, gateway="site-042", recharge_point="rp-01", action=action, issued_at_ms=None,
            expires_at_ms=expires_at_ms, issuer=None, current_a=current_a, **keys,
        )  # fmt: skip
        await self.reconciler.accept(command)

    async def limit(self, command_id, current_a, **keys):
        await self.accept(command_id, current_a=current_a, **keys)

    def end(self, command_id):
        return str(self.results.end(command_id).state)


# One command, to its end.


@pytest.mark.parametrize("profile", [ABB, ALFEN, KEBA, CHARX])
@turned
async def test_a_limit_is_written_read_back_and_verified(profile):
    async with House(profile) as house:
        await house.limit("c-1", 10.55)
        await asyncio.sleep(1)
        assert house.results.of("c-1") == ["accepted", "written", "verified"]
        granted_a = house.profile.limit.round_down(10.55)
        assert house.results.end("c-1").details["current_a"] == granted_a
        assert house.device.values() == [granted_a]
        assert house.alerts.raised == {}
        assert house.store.desired["rp-01"].limits[0].command_id == "c-1"


@pytest.mark.parametrize(
    ("profile", "register", "end"),
    [(ABB, SET, "verified"), (ALFEN, SET, "verified"), (KEBA, SET, "written"), (CHARX, "enable_set", "verified")],
)
@turned
async def test_a_pause_ends_by_what_can_be_read_back(profile, register, end):
    async with House(profile) as house:
        await house.accept("c-1", Action.PAUSE)
        await asyncio.sleep(1)
        assert house.end("c-1") == end
        assert house.results.end("c-1").final
        assert house.device.values(register) == [0]


@turned
async def test_a_limit_below_the_minimum_pauses_in_the_profiles_way():
    async with House(CHARX) as house:
        await house.limit("c-1", 5)
        await asyncio.sleep(1)
        end = house.results.end("c-1")
        assert end.state is Step.VERIFIED
        assert end.reason == "5 A (market limit) is below the minimum of 6 A: paused"
        assert house.device.writes[0][1:] == ("enable_set", 0)
        assert house.device.values(SET) == []


@turned
async def test_without_a_command_the_device_is_left_alone():
    async with House(before_a=16.0) as house:
        await asyncio.sleep(86_400)
        assert house.device.writes == []


@turned
async def test_a_device_that_refuses_ends_it_and_leaves_what_was():
    async with House() as house:
        await house.limit("c-1", 16)
        await asyncio.sleep(1)
        house.device.refuses.add(SET)
        await house.limit("c-2", 10)
        await asyncio.sleep(60)
        assert house.end("c-2") == "failed"
        assert house.results.end("c-2").reason == "the device refuses: illegal data address"
        assert house.reconciler.target.current_a == 16.0
        assert house.store.desired["rp-01"].limits[0].command_id == "c-1"


@turned
async def test_a_device_that_ignores_it_ends_it_and_raises_an_alert():
    async with House() as house:
        house.device.deaf = True
        house.device.shown["current_limit_setpoint"] = 32.0
        await house.limit("c-1", 10)
        await asyncio.sleep(30)
        assert house.results.of("c-1") == ["accepted", "written", "failed"]
        assert house.results.end("c-1").reason == "current_limit_setpoint holds 32"
        assert "limit_not_held" in house.alerts.raised
        assert house.device.values() == [10.0]


@turned
async def test_a_device_may_take_some_seconds_to_show_it():
    async with House() as house:
        house.device.deaf = True
        await house.limit("c-1", 10)
        await asyncio.sleep(3)
        house.device.shown["current_limit_setpoint"] = 10.0
        await asyncio.sleep(3)
        assert house.end("c-1") == "verified"
        assert house.device.values() == [10.0]


@turned
async def test_a_dead_device_ends_it_when_it_expires_and_it_is_not_written_later():
    async with House() as house:
        house.device.offline = True
        await house.limit("c-1", 10, expires_in_s=30)
        await asyncio.sleep(29.9)
        assert house.results.of("c-1") == ["accepted"]
        await asyncio.sleep(0.2)
        assert house.end("c-1") == "expired"
        house.device.offline = False
        await asyncio.sleep(7200)
        assert house.device.writes == []


@pytest.mark.parametrize("action", [Action.RESUME, Action.PAUSE])
@turned
async def test_an_expired_command_has_no_effect_ever(action):
    async with House(CHARX) as house:
        if action is Action.RESUME:
            await house.accept("pause", Action.PAUSE)
        else:
            await house.limit("limit", 10)
        await asyncio.sleep(1)
        before = dict(house.device.shown)
        house.device.offline = True
        await house.accept("late", action, expires_in_s=30)
        await asyncio.sleep(60)
        house.device.offline = False
        await asyncio.sleep(7200)
        assert house.end("late") == "expired"
        assert house.device.shown == before
        assert len(house.device.writes) == 1 if action is Action.RESUME else 2


@turned
async def test_a_command_that_expires_leaves_the_limit_that_held():
    async with House(fallback_current_a=32.0) as house:
        await house.limit("c-1", 10, purpose=Purpose.GRID)
        await asyncio.sleep(1)
        house.device.offline = True
        await house.limit("c-2", 8, purpose=Purpose.GRID, expires_in_s=30)
        await asyncio.sleep(60)
        house.device.offline = False
        await asyncio.sleep(600)
        assert house.end("c-2") == "expired"
        assert house.reconciler.target.current_a == 10.0
        assert house.device.values() == [10.0]


@turned
async def test_nothing_is_written_when_nothing_of_the_lease_is_left():
    async with House() as house:
        house.device.offline = True
        await house.limit("c-1", 10, lease_s=5, expires_in_s=600)
        await asyncio.sleep(6)
        house.device.offline = False
        await asyncio.sleep(600)
        assert house.end("c-1") == "expired"
        assert house.results.end("c-1").reason == "its lease ran out before the device could be reached"
        assert house.device.writes == []


@turned
async def test_a_turn_that_comes_too_late_writes_nothing():
    async with House() as house:
        house.device.slow_s = 10.0
        await house.limit("c-1", 10, expires_in_s=5)
        await asyncio.sleep(30)
        assert house.end("c-1") == "expired"
        assert house.device.writes == []


@turned
async def test_a_disk_that_takes_too_long_for_the_intent_leads_to_no_late_write():
    async with House() as house:
        await house.limit("c-1", 10, expires_in_s=5)
        house.store.disk = False
        await asyncio.sleep(6)
        house.store.disk = True
        house.store.write()
        await asyncio.sleep(30)
        assert house.end("c-1") == "expired"
        assert house.device.writes == []


@turned
async def test_the_intent_is_on_disk_before_the_write():
    async with House() as house:

        async def look(write):
            assert house.store.commands["c-1"].intent

        house.device.on_write = look
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        assert house.end("c-1") == "verified"


# Cut off.


@pytest.mark.parametrize("profile", [ABB, ALFEN, KEBA, CHARX])
@turned
async def test_a_write_whose_answer_was_lost_is_read_back_and_not_made_twice(profile):
    async with House(profile) as house:
        house.device.cuts = 1 if profile != CHARX else 0
        await house.limit("c-1", 10)
        await asyncio.sleep(20)
        assert house.end("c-1") == "verified"
        assert house.device.values() == [10.0]


@turned
async def test_a_write_that_did_not_arrive_is_read_back_and_fails():
    async with House() as house:
        house.device.shown["current_limit_setpoint"] = 32.0
        house.device.cuts, house.device.cut_before = 1, True
        await house.limit("c-1", 10)
        await asyncio.sleep(60)
        assert house.results.of("c-1") == ["accepted", "failed"]
        assert "its write was cut off; it is not made twice" in house.results.end("c-1").reason
        assert house.device.writes == []


@turned
async def test_a_pause_that_was_cut_and_cannot_be_read_back_fails():
    async with House(KEBA) as house:
        house.device.cuts = 1
        await house.accept("c-1", Action.PAUSE)
        await asyncio.sleep(60)
        assert house.end("c-1") == "failed"
        assert "nothing to read back" in house.results.end("c-1").reason


@pytest.mark.parametrize("arrived", [True, False])
@turned
async def test_after_a_crash_between_intent_and_result_it_is_read_back_only(arrived):
    async with House() as house:
        hanging = asyncio.get_running_loop().create_future()

        async def hang(write):
            if arrived:
                house.device.show(write.register, write.words)
            await hanging

        house.device.shown["current_limit_setpoint"] = 32.0
        house.device.on_write = hang
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        assert house.store.opened()[0].intent
        house.device.on_write = None
        await house.restart()
        await asyncio.sleep(60)
        assert house.end("c-1") == ("verified" if arrived else "failed")
        assert house.device.values() == [10.0]
        assert (house.reconciler.target is not None) is arrived


@turned
async def test_after_a_crash_before_the_intent_it_is_executed():
    async with House() as house:
        house.device.offline = True
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        await house.restart()
        house.device.offline = False
        await asyncio.sleep(20)
        assert house.results.of("c-1") == ["accepted", "written", "verified"]
        assert house.device.values() == [10.0]


@turned
async def test_after_a_crash_a_late_command_expires():
    async with House() as house:
        house.device.offline = True
        await house.limit("c-1", 10, expires_in_s=5)
        await house.crash()
        await asyncio.sleep(60)
        house.device.offline = False
        house.start()
        await asyncio.sleep(60)
        assert house.end("c-1") == "expired"
        assert house.device.writes == []


@turned
async def test_a_cut_command_on_a_device_that_stays_away_ends_at_last():
    async with House() as house:
        house.device.cuts = 1
        house.device.on_write = lambda _: settle()
        await house.limit("c-1", 10, expires_in_s=60)
        await asyncio.sleep(0.01)
        house.device.offline = True
        await asyncio.sleep(60 + PATIENCE_S - 5)
        assert house.results.of("c-1") == ["accepted"]
        await asyncio.sleep(60)
        assert house.end("c-1") == "failed"
        assert "the device does not answer" in house.results.end("c-1").reason


@turned
async def test_after_a_restart_a_cut_command_gets_its_time_although_it_expired():
    async with House() as house:
        house.device.cuts = 1
        await house.limit("c-1", 10, expires_in_s=5)
        await asyncio.sleep(0.01)
        await house.crash()
        house.device.offline = True
        await asyncio.sleep(3600)
        house.start()
        await asyncio.sleep(10)
        house.device.offline = False
        await asyncio.sleep(30)
        assert house.end("c-1") == "verified"
        assert house.device.values() == [10.0]


@turned
async def test_a_cut_command_is_read_back_by_what_it_asked_for_and_not_by_what_came_later():
    async with House() as house:
        house.device.cuts = 1
        await house.limit("c-1", 10)
        await asyncio.sleep(0.01)
        await house.limit("c-2", 8, purpose=Purpose.SITE)
        await asyncio.sleep(30)
        assert house.end("c-1") == house.end("c-2") == "verified"
        assert house.device.values() == [10.0, 8.0]


# Several.


@turned
async def test_a_newer_limit_of_the_same_purpose_supersedes_one_that_waits():
    async with House() as house:
        house.device.offline = True
        await house.limit("c-1", 10)
        await house.limit("c-2", 12)
        house.device.offline = False
        await asyncio.sleep(20)
        assert house.results.of("c-1") == ["accepted", "superseded"]
        assert house.results.end("c-1").reason == "set_current_limit c-2 came first"
        assert house.end("c-2") == "verified"
        assert house.device.values() == [12.0]


@turned
async def test_a_newer_limit_supersedes_one_that_waits_for_its_turn():
    async with House() as house:
        house.device.slow_s = 2.0
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        await house.limit("c-2", 12)
        await asyncio.sleep(20)
        assert house.results.of("c-1") == ["accepted", "superseded"]
        assert house.device.values() == [12.0]
        assert not any(change.intent for change in house.store.changes if change.id == "c-1")


@turned
async def test_a_newer_limit_supersedes_one_that_is_being_written():
    async with House() as house:

        async def slowly(write):
            await asyncio.sleep(2)

        house.device.on_write = slowly
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        await house.limit("c-2", 12)
        await asyncio.sleep(20)
        assert house.results.of("c-1") == ["accepted", "superseded"]
        assert house.end("c-2") == "verified"
        assert house.device.values() == [10.0, 12.0]
        assert house.reconciler.target.current_a == 12.0


@turned
async def test_a_newer_limit_supersedes_one_that_is_being_read_back():
    async with House() as house:
        house.device.deaf = True
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        house.device.deaf = False
        await house.limit("c-2", 12)
        await asyncio.sleep(20)
        assert house.results.of("c-1") == ["accepted", "written", "superseded"]
        assert house.end("c-2") == "verified"


@turned
async def test_another_purpose_is_not_superseded_and_both_are_one_write():
    async with House() as house:
        house.device.offline = True
        await house.limit("site", 10, purpose=Purpose.SITE)
        await house.limit("market", 16)
        house.device.offline = False
        await asyncio.sleep(20)
        assert house.end("site") == house.end("market") == "verified"
        assert house.results.end("market").reason == "site limit applies"
        assert house.results.end("market").details == {"current_a": 10.0, "granted_a": 10.0, "why": "site limit"}
        assert house.results.end("site").reason is None
        assert house.device.values() == [10.0]


@turned
async def test_a_higher_limit_of_another_purpose_needs_no_write():
    async with House() as house:
        await house.limit("site", 10, purpose=Purpose.SITE)
        await asyncio.sleep(1)
        await house.limit("market", 16)
        await asyncio.sleep(1)
        assert house.results.of("market") == ["accepted", "verified"]
        assert house.device.values() == [10.0]


@turned
async def test_above_the_maximum_the_result_says_what_was_granted():
    async with House(max_current_a=16.0) as house:
        await house.limit("c-1", 63)
        await asyncio.sleep(1)
        end = house.results.end("c-1")
        assert end.details["granted_a"] == 16.0
        assert end.reason == "16 A is the maximum here applies"


@turned
async def test_pause_and_resume():
    async with House(CHARX) as house:
        await house.limit("limit", 10)
        await asyncio.sleep(1)
        await house.accept("pause", Action.PAUSE)
        await asyncio.sleep(1)
        await house.limit("other", 12)
        await asyncio.sleep(1)
        assert house.device.shown["enable_set"] == 0
        assert house.device.values(SET) == [10.0]
        await house.accept("resume", Action.RESUME)
        await asyncio.sleep(1)
        assert [house.end(one) for one in ("limit", "pause", "other", "resume")] == ["verified"] * 4
        assert (house.device.shown["enable_set"], house.device.shown[SET]) == (1, 12.0)
        assert house.results.end("other").reason == "paused by command"


@turned
async def test_a_resume_supersedes_a_pause_that_waits():
    async with House() as house:
        house.device.offline = True
        await house.limit("limit", 10)
        await house.accept("pause", Action.PAUSE)
        await house.accept("resume", Action.RESUME)
        house.device.offline = False
        await asyncio.sleep(20)
        assert house.end("pause") == "superseded"
        assert house.end("limit") == house.end("resume") == "verified"
        assert house.device.values() == [10.0]


@turned
async def test_writes_keep_the_devices_pace():
    async with House(KEBA) as house:  # five seconds between writes
        for number in range(20):
            await house.limit(f"c-{number}", 6 + number)
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        times = [at for at, *_ in house.device.writes]
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 5
        assert house.device.values()[-1] == 25.0
        ends = [house.end(f"c-{number}") for number in range(20)]
        assert ends.count("verified") == len(times)
        assert set(ends) == {"verified", "superseded"}


# Leases.


@turned
async def test_a_lease_ends_in_the_fallback_and_is_told_after_the_end():
    async with House(fallback_current_a=20.0) as house:
        await house.limit("c-1", 10, lease_s=100)
        await asyncio.sleep(99)
        assert house.device.values() == [10.0]
        await asyncio.sleep(2)
        assert house.results.of("c-1") == ["accepted", "written", "verified", "lapsed"]
        assert not house.results.told[-1].final
        assert house.results.told[-1].reason == "the lease ran out; on_lapse is fallback: fallback_current_a"
        assert house.device.values() == [10.0, 20.0]


@turned
async def test_without_a_configured_fallback_the_limit_before_is_restored():
    async with House(before_a=25.0) as house:
        await house.limit("c-1", 10, lease_s=100)
        await asyncio.sleep(102)
        assert house.device.values() == [10.0, 25.0]


@pytest.mark.parametrize(("on_lapse", "values"), [(OnLapse.HOLD, [10.0]), (OnLapse.PAUSE, [10.0, 0])])
@turned
async def test_what_follows_a_lease_is_configured(on_lapse, values):
    async with House(on_lapse=on_lapse) as house:
        await house.limit("c-1", 10, lease_s=100)
        await asyncio.sleep(200)
        assert house.device.values() == values
        assert house.results.of("c-1")[-1] == "lapsed"


@turned
async def test_a_grid_limit_holds_when_its_lease_ends():
    async with House(fallback_current_a=32.0) as house:
        await house.limit("c-1", 10, lease_s=100, purpose=Purpose.GRID)
        await asyncio.sleep(200)
        assert house.device.values() == [10.0]


@turned
async def test_a_lease_that_ended_while_the_process_was_down_lapses_at_the_start():
    async with House(fallback_current_a=20.0) as house:
        await house.limit("c-1", 10, lease_s=100)
        await asyncio.sleep(1)
        await house.crash()
        await asyncio.sleep(500)
        house.start()
        await asyncio.sleep(2)
        assert house.results.of("c-1")[-1] == "lapsed"
        assert house.device.values() == [10.0, 20.0]


@turned
async def test_a_lease_lapses_although_the_device_is_away_and_the_fallback_follows_when_it_is_back():
    async with House(fallback_current_a=20.0) as house:
        await house.limit("c-1", 10, lease_s=100)
        await asyncio.sleep(50)
        house.device.offline = True
        await asyncio.sleep(100)
        assert house.results.of("c-1")[-1] == "lapsed"
        house.device.offline = False
        await asyncio.sleep(30)
        assert house.device.values() == [10.0, 20.0]


# Upkeep.


@turned
async def test_after_a_restart_a_limit_that_still_holds_is_not_written_again():
    async with House() as house:
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        await house.restart()
        await asyncio.sleep(600)
        assert house.device.values() == [10.0]


@turned
async def test_a_limit_that_the_device_lost_is_written_again():
    async with House() as house:
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        house.device.shown["current_limit_setpoint"] = 32.0  # it restarted
        await asyncio.sleep(60)
        assert house.device.values() == [10.0, 10.0]
        assert house.results.of("c-1") == ["accepted", "written", "verified"]  # upkeep is no news


@turned
async def test_a_device_that_does_not_hold_it_is_written_to_less_and_less():
    async with House() as house:
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        house.device.deaf = True
        house.device.shown["current_limit_setpoint"] = 32.0
        await asyncio.sleep(3600)
        assert "limit_not_held" in house.alerts.raised
        assert 10 < len(house.device.writes) < 30
        house.device.deaf = False
        await asyncio.sleep(400)
        assert house.alerts.raised == {}


@turned
async def test_a_device_that_wants_it_gets_its_setpoint_again_and_again():
    async with House(ALFEN) as house:  # every 25 seconds, or it falls back
        await house.limit("c-1", 10)
        await asyncio.sleep(251)
        assert house.device.values() == [10.0] * 11
        times = [at for at, *_ in house.device.writes]
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 26
        assert len(house.results.told) == 3
        await house.accept("pause", Action.PAUSE)
        await asyncio.sleep(100)
        assert set(house.device.values()[11:]) == {0}  # a refresh never ends a pause


@turned
async def test_a_device_that_shows_nothing_is_not_written_to_for_nothing():
    async with House(KEBA) as house:
        await house.accept("c-1", Action.PAUSE)
        await asyncio.sleep(3600)
        assert house.device.values() == [0]


@turned
async def test_an_older_device_without_its_optional_setpoint_is_judged_by_the_limit_in_force():
    async with House(ABB) as house:
        house.device.refuses.add("current_limit_setpoint")
        await house.limit("c-1", 10)
        await asyncio.sleep(1)
        assert house.end("c-1") == "verified"
        await house.accept("c-2", Action.PAUSE)
        await asyncio.sleep(1)
        assert house.results.end("c-2").state is Step.WRITTEN
        assert len([one for one in house.results.told if one.id == "c-2" and one.final]) == 1
        await asyncio.sleep(3600)
        assert house.device.values() == [10.0, 0]


@turned
async def test_what_a_command_waits_for_is_part_of_the_target():
    async with House() as house:
        house.device.offline = True
        await house.limit("c-1", 10)
        assert house.reconciler.target.current_a == 10.0
        assert house.reconciler.desired.limits[0].command_id == "c-1"
        assert house.store.desired["rp-01"] == Desired()


# Anything at all.


STEPS = st.one_of(
    st.tuples(st.just("limit"), st.integers(0, 40), st.sampled_from(Purpose), st.sampled_from([None, 3, 60, 500])),
    st.tuples(st.just("pause"), st.none() | st.integers(1, 100)),
    st.tuples(st.just("resume")),
    st.tuples(st.just("sleep"), st.sampled_from([0.01, 0.3, 2, 20, 200])),
    st.tuples(st.just("restart")),
    st.tuples(st.just("device"), st.sampled_from(["offline", "deaf", "cut", "cut before", "refuses", "slow", "well"])),
)


@given(st.sampled_from([ABB, ALFEN, KEBA, CHARX]), st.lists(STEPS, min_size=1, max_size=14))
@settings(max_examples=80, deadline=None)
@turned
async def test_whatever_happens_every_command_has_one_end_and_is_written_in_time_and_once(profile, steps):
    async with House(profile, fallback_current_a=16.0) as house:
        written = []

        async def note(write):
            now_ms = house.clock.wall_ms()
            open_ones = [one for one in house.store.opened() if one.intent]
            assert all(one.command.write_before_ms > now_ms for one in open_ones)
            written.extend(
                one.command.id
                for one in open_ones
                if write.register is house.profile.limit.register or profile == CHARX
            )

        house.device.on_write = note
        ids = []
        for number, (what, *rest) in enumerate(steps):
            if what == "sleep":
                await asyncio.sleep(rest[0])
            elif what == "restart":
                await house.restart()
            elif what == "device":
                break_device(house.device, rest[0])
            else:
                ids.append(f"c-{number}")
                if what == "limit":
                    await house.limit(ids[-1], float(rest[0]), purpose=rest[1], lease_s=rest[2])
                elif what == "pause":
                    await house.accept(ids[-1], Action.PAUSE, lease_s=rest[0])
                else:
                    await house.accept(ids[-1], Action.RESUME)
        break_device(house.device, "well")
        await asyncio.sleep(3600)
        assert house.store.opened() == []
        for command_id in ids:
            house.results.end(command_id)
        if profile != CHARX:  # whose sequences have two writes
            assert len(written) == len(set(written))
        target = house.reconciler.target
        if target is not None and target.current_a is not None:
            assert house.device.shown[SET] == house.profile.limit.round_down(target.current_a)


def break_device(device, how):
    device.offline = how == "offline"
    device.deaf = how == "deaf"
    device.cuts = 1 if how in {"cut", "cut before"} else 0
    device.cut_before = how == "cut before"
    device.refuses = {SET} if how == "refuses" else set()
    device.slow_s = 4.0 if how == "slow" else 0.0
