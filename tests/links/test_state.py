"""What survives a restart besides the records: epochs, sequence numbers, commands and desired states."""

import contextlib
import shutil
import sqlite3

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from evedge.core.cloudevents import COUNTER_BITS
from evedge.core.commands import Action, Command, Purpose, Step
from evedge.core.desired import Desired, Hold
from evedge.core.errors import EvedgeError, Outage
from evedge.core.life import CommandChange, OpenCommand, PendingResult
from evedge.links.state import SEQ_BLOCK, Missing, State
from fakes import EPOCH_MS


def open_state(directory):
    return State(directory / "state.db")


def crash(source, target):
    """What a crash leaves: the files as they are now."""
    target.mkdir()
    for path in source.glob("state.db*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, target)
    return target


def command(command_id="c-1", recharge_point="rp-01"):
    return Command(
        id=command_id,
        gateway="site-042",
        recharge_point=recharge_point,
        action=Action.SET_CURRENT_LIMIT,
        issued_at_ms=None,
        expires_at_ms=EPOCH_MS,
        lease_s=900.0,
        issuer="dr-service",
        purpose=Purpose.GRID,
        current_a=10.0,
        accepted_at_ms=EPOCH_MS - 1000,
    )


def change(command_id="c-1", step=Step.ACCEPTED, *, final=False, intent=False, forget_at_ms=EPOCH_MS):
    return CommandChange(command_id, forget_at_ms, "rp-01", step, final, intent, command(command_id))


# Epochs.


async def test_an_epoch_is_beyond_every_other(tmp_path):
    epochs = []
    for now_ms in (EPOCH_MS, EPOCH_MS, 0, -(10**12), EPOCH_MS):
        async with open_state(tmp_path) as state:
            epochs.append(await state.begin_epoch(0, now_ms))
    assert epochs == sorted(set(epochs))


async def test_an_epoch_is_on_disk_before_it_is_used(tmp_path):
    async with open_state(tmp_path) as state:
        first = await state.begin_epoch(0, EPOCH_MS)
        left = crash(tmp_path, tmp_path / "crashed")
    async with open_state(left) as state:
        assert await state.begin_epoch(0, 0) == first + 1


async def test_losing_the_file_repeats_no_epoch_while_the_clock_goes_on(tmp_path):
    async with open_state(tmp_path) as state:
        first = await state.begin_epoch(0, EPOCH_MS)
    (tmp_path / "state.db").unlink()
    async with open_state(tmp_path) as state:
        assert await state.begin_epoch(0, EPOCH_MS + 60_000) > first


async def test_losing_the_file_repeats_no_epoch_that_the_journal_knows(tmp_path):
    async with open_state(tmp_path) as state:
        assert await state.begin_epoch(10**7, 0) == 10**7 + 1


async def test_a_clock_that_is_centuries_ahead_leaves_numbers_to_give(tmp_path):
    async with open_state(tmp_path) as state:
        epoch = await state.begin_epoch(0, 253_402_300_799_999)
        assert (epoch + 1_000_000) << COUNTER_BITS < 1 << 63


# Sequence numbers.


async def test_seq_counts_from_1_and_goes_on_over_a_clean_stop(tmp_path):
    for start in (1, 4, 7):
        async with open_state(tmp_path) as state:
            assert state.missing == ()
            await state.reserve(["rp-01"])
            assert [state.next_seq("rp-01") for _ in range(3)] == [start, start + 1, start + 2]


async def test_after_a_crash_seq_jumps_and_the_range_is_named(tmp_path):
    async with open_state(tmp_path) as state:
        await state.reserve(["rp-01", "rp-02"])
        for _ in range(5):
            state.next_seq("rp-01")
        left = crash(tmp_path, tmp_path / "crashed")
    async with open_state(left) as state:
        assert state.missing == (Missing("rp-01", 1, SEQ_BLOCK), Missing("rp-02", 1, SEQ_BLOCK))
        await state.reserve(["rp-01"])
        assert state.next_seq("rp-01") == SEQ_BLOCK + 1
        again = crash(left, tmp_path / "again")
    async with open_state(again) as state:
        assert Missing("rp-01", SEQ_BLOCK + 1, 2 * SEQ_BLOCK) in state.missing
    async with open_state(again) as state:
        assert state.missing == ()  # told once, and the stop was clean


async def test_a_block_is_renewed_long_before_it_is_used_up(tmp_path):
    async with open_state(tmp_path) as state:
        await state.reserve(["rp-01"])
        used = [state.next_seq("rp-01") for _ in range(3 * SEQ_BLOCK)]
        await state.known("x")  # what was handed to the disk is there now
        left = crash(tmp_path, tmp_path / "crashed")
    assert used == list(range(1, 3 * SEQ_BLOCK + 1))
    async with open_state(left) as state:
        (missing,) = state.missing
        assert missing.last >= used[-1] + SEQ_BLOCK // 2
        assert missing.first <= used[-1] - SEQ_BLOCK // 2  # the last polls before a renewal may be lost as well
        await state.reserve(["rp-01"])
        assert state.next_seq("rp-01") == missing.last + 1


@given(st.lists(st.tuples(st.integers(0, 12_000), st.booleans()), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_seq_comes_twice_and_every_gap_is_named(tmp_path_factory, runs):
    directory = tmp_path_factory.mktemp("state")
    used, gaps = [], set()
    for number, (count, clean) in enumerate(runs):
        async with open_state(directory) as state:
            for missing in state.missing:
                gaps.update(range(missing.first, missing.last + 1))
            await state.reserve(["rp-01"])
            used += [state.next_seq("rp-01") for _ in range(count)]
            await state.known("x")
            if not clean:
                left = crash(directory, directory / f"crash-{number}")
        if not clean:
            directory = left
    assert used == sorted(set(used))
    if used:
        assert set(range(1, used[-1] + 1)) <= set(used) | gaps


# Commands.


async def test_a_command_its_result_and_the_desired_state_are_kept_together(tmp_path):
    hold = Hold(command_id="c-1", purpose=Purpose.GRID, current_a=10.0, ends_at_ms=EPOCH_MS)
    desired = Desired(limits=(hold,), touched=True)
    async with open_state(tmp_path) as state:
        await state.record([change()], [PendingResult("c-1/accepted", b"{}")], [("rp-01", desired)])
        left = crash(tmp_path, tmp_path / "crashed")
    async with open_state(left) as state:
        assert await state.open_commands() == [OpenCommand(command(), Step.ACCEPTED, intent=False)]
        assert await state.desired() == {"rp-01": desired}
        assert await state.pending_results() == [PendingResult("c-1/accepted", b"{}")]
        assert await state.known("c-1")
        assert not await state.known("c-2")


async def test_a_command_is_open_until_it_ends(tmp_path):
    async with open_state(tmp_path) as state:
        await state.record([change()], [])
        await state.record([change(intent=True)], [])
        (found,) = await state.open_commands()
        assert found.intent
        await state.record([change(step=Step.VERIFIED, final=True)], [])
        assert await state.open_commands() == []
        assert await state.known("c-1")


async def test_ended_commands_are_known_until_they_are_forgotten(tmp_path):
    async with open_state(tmp_path) as state:
        await state.record([change()], [])
        assert await state.ended_commands() == []
        await state.record([change(step=Step.VERIFIED, final=True)], [])
        assert await state.ended_commands() == ["c-1"]


async def test_results_are_pending_until_they_are_struck_off_oldest_first(tmp_path):
    results = [PendingResult(f"c-{number}/accepted", b"%d" % number) for number in range(5)]
    async with open_state(tmp_path) as state:
        await state.record([], results)
        state.results_kept(["c-1/accepted", "c-3/accepted", "unknown"])
        assert await state.pending_results() == [results[0], results[2], results[4]]


async def test_ids_are_forgotten_when_they_cannot_be_taken_again(tmp_path):
    async with open_state(tmp_path) as state:
        await state.record(
            [
                change("old", Step.REJECTED, final=True, forget_at_ms=EPOCH_MS - 1),
                change("young", Step.REJECTED, final=True, forget_at_ms=EPOCH_MS),
                change("open", forget_at_ms=EPOCH_MS - 1),
            ],
            [],
        )
        state.forget_commands(EPOCH_MS)
        assert [await state.known(one) for one in ("old", "young", "open")] == [False, True, True]


async def test_a_rejected_value_that_is_no_command_is_kept_as_seen(tmp_path):
    async with open_state(tmp_path) as state:
        await state.record([CommandChange("c-1", EPOCH_MS, None, Step.REJECTED, final=True)], [])
        assert await state.known("c-1")


async def test_closing_twice_is_closing_once(tmp_path):
    async with open_state(tmp_path) as state:
        await state.reserve(["rp-01"])
        await state.close()
        await state.close()
        with pytest.raises(Outage, match="is closed"):
            state.results_kept(["x"])


async def test_a_file_of_a_newer_evedge_is_refused(tmp_path):
    async with open_state(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(EvedgeError, match="newer version"):
        await open_state(tmp_path).__aenter__()
