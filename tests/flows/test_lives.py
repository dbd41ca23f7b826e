"""Every step of every life: on disk first, then told, and told again when nobody can be sure."""

import asyncio

import msgspec
import pytest

from evedge.core.commands import Action, Command, CommandResult, Purpose, Step
from evedge.core.desired import Desired
from evedge.core.errors import Outage
from evedge.core.life import CommandChange
from evedge.flows.lives import Lives, Told
from fakes import Clock, Results, Store, settle


def told(step, *, command_id="c-1", action="set_current_limit", **keys):
    return Told(step, command_id, action, "rp-01", forget_at_ms=99, **keys)


def house(*, disk=True, kept=True):
    store, results, clock = Store(disk=disk), Results(kept=kept), Clock()
    return Lives(store, results, gateway="site-042", clock=clock), store, results


async def test_a_step_is_on_disk_before_it_is_told():
    lives, store, results = house(disk=False)
    telling = asyncio.create_task(lives.tell([told(Step.ACCEPTED)], [("rp-01", Desired(touched=True))]))
    await settle()
    assert results.told == []
    store.write()
    await telling
    assert [(one.id, one.state, one.final) for one in results.told] == [("c-1", Step.ACCEPTED, False)]
    assert store.desired == {"rp-01": Desired(touched=True)}


async def test_a_result_says_what_the_contract_says():
    lives, _, results = house()
    await lives.tell([told(Step.REJECTED, reason="no", details={"limit_a": 5})])
    assert msgspec.to_builtins(results.told[0]) == {
        "id": "c-1",
        "gateway": "site-042",
        "recharge_point": "rp-01",
        "action": "set_current_limit",
        "state": "rejected",
        "final": True,
        "at": "2026-09-21T14:13:20.000Z",
        "reason": "no",
        "details": {"limit_a": 5},
    }


@pytest.mark.parametrize("step", Step)
async def test_which_steps_end_a_life_by_themselves(step):
    lives, store, results = house()
    await lives.tell([told(step)])
    ends = step in {"effective", "not_effective", "rejected", "expired", "superseded", "failed"}
    assert results.told[0].final is ends
    outside = step in {Step.DUPLICATE, Step.LAPSED}
    assert [(change.step, change.final) for change in store.changes] == ([] if outside else [(step, ends)])


async def test_written_and_verified_end_a_life_when_nothing_more_can_be_found_out():
    lives, store, results = house()
    await lives.tell([told(Step.VERIFIED, final=True)])
    assert results.told[0].final
    assert store.changes[0].final


async def test_a_result_is_struck_off_when_the_journal_keeps_it():
    lives, store, results = house(kept=False)
    await lives.tell([told(Step.ACCEPTED)])
    assert len(await store.pending_results()) == 1
    results.keep()
    await settle()
    assert await store.pending_results() == []


async def test_a_result_that_the_journal_did_not_keep_is_told_again_after_the_start():
    lives, store, results = house(kept=False)
    await lives.tell([told(Step.ACCEPTED), told(Step.VERIFIED, final=True)])
    results.keep(Outage("closing"))
    await settle()
    assert len(await store.pending_results()) == 2
    again = Results()
    await Lives(store, again, gateway="site-042", clock=Clock()).publish_pending()
    await settle()
    assert again.told == results.told
    assert await store.pending_results() == []


async def test_a_step_and_an_end_of_the_same_name_are_two_results():
    lives, store, _ = house(kept=False)
    await lives.tell([told(Step.WRITTEN)])
    await lives.tell([told(Step.WRITTEN, final=True)])
    assert [msgspec.json.decode(one.result, type=CommandResult).final for one in await store.pending_results()] == [
        False,
        True,
    ]


async def test_without_a_journal_results_are_struck_off_at_once():
    lives, store, results = house()
    results.local = True
    await lives.tell([told(Step.ACCEPTED)])
    assert await store.pending_results() == []


async def test_a_store_that_closed_meanwhile_is_no_defect():
    lives, store, results = house(kept=False)
    await lives.tell([told(Step.ACCEPTED)])
    store.closed = True
    results.keep()
    await settle()
    assert len(await store.pending_results()) == 1


async def test_who_stops_telling_leaves_the_result_pending():
    lives, store, results = house(disk=False)
    telling = asyncio.create_task(lives.tell([told(Step.ACCEPTED)]))
    await settle()
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    store.write()
    assert results.told == []
    assert len(await store.pending_results()) == 1


async def test_an_intent_is_nobodys_news():
    lives, store, results = house()
    await lives.save([CommandChange("c-1", 99, "rp-01", Step.ACCEPTED, final=False, intent=True)])
    assert store.changes[0].intent
    assert results.told == []
    assert lives.counts == {}


async def test_a_command_is_kept_with_its_step():
    lives, store, _ = house()
    command = Command(
        id="c-1", gateway="site-042", recharge_point="rp-01", action=Action.PAUSE, issued_at_ms=None, expires_at_ms=5,
        lease_s=None, issuer=None, purpose=Purpose.USER,
    )  # fmt: skip
    await lives.tell([told(Step.ACCEPTED, command=command)])
    assert store.changes[0].command == command


async def test_counts_are_bounded_whatever_others_call_their_actions():
    lives, _, _ = house()
    for number in range(1500):
        await lives.tell([told(Step.REJECTED, action=f"invented-{number}")])
    assert len(lives.counts) <= 1001
    assert sum(lives.counts.values()) == 1500
