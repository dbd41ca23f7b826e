from __future__ import annotations

from evedge.links.mqtt_flow import MANY, PER_CONNECTION, PER_CONNECTION_WHEN_MANY, PER_USER, Flow


class Held:
    def __init__(self):
        self.resumed = 0

    def resume(self):
        self.resumed += 1


def test_a_connection_has_a_bound_that_shrinks_when_all_together_have_much():
    flow = Flow()
    assert not flow.is_full("a", PER_CONNECTION - 1)
    assert flow.is_full("a", PER_CONNECTION)
    for user in range(MANY // PER_USER + 1):
        flow.add(f"user {user}", PER_USER - 1)
    assert flow.is_full("a", PER_CONNECTION_WHEN_MANY)
    assert not flow.is_full("a", PER_CONNECTION_WHEN_MANY - 1)


def test_a_full_user_waits_until_half_is_done_and_others_do_not():
    flow, held = Flow(), Held()
    flow.add("a", PER_USER)
    assert flow.is_full("a", 0)
    assert not flow.is_full("b", 0)
    flow.hold("a", held)
    assert flow.is_held("a", held)
    flow.done("a", 1)
    assert held.resumed == 0
    flow.done("a", PER_USER // 2)
    assert held.resumed == 1
    assert not flow.is_held("a", held)


def test_who_has_gone_is_not_called():
    flow, held = Flow(), Held()
    flow.add(None, PER_USER)
    flow.hold(None, held)
    flow.let_go(None, held)
    flow.done(None, PER_USER)
    assert held.resumed == 0
    assert flow.in_flight == 0


async def test_empty_returns_at_once_when_nothing_is_in_flight():
    await Flow().empty()
