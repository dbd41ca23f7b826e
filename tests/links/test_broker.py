"""The router, and every name of amqtt's that it uses: this fails loudly when the pinned version changes."""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version

import pytest
from amqtt.broker import Broker, RetainedApplicationMessage
from amqtt.session import Session
from structlog.testing import capture_logs

from evedge.core.counters import MqttCounters
from evedge.links.broker import FILTER_OVERHEAD, REFUSED, RETAINED_OVERHEAD, Router, _at_once


class Outbox:
    def __init__(self):
        self.got = []

    def deliver(self, topic, payload, qos, retain):
        self.got.append((topic, payload, qos, retain))

    def take(self):
        got, self.got = self.got, []
        return got


def open_session(router, name):
    outbox = Outbox()
    router.open(name, outbox)
    return outbox


@pytest.fixture
async def router():
    async with Router(max_retained_bytes=2 * (RETAINED_OVERHEAD + 100)) as router:
        yield router


async def test_a_message_is_delivered_before_publish_returns_with_the_lower_qos(router):
    outbox = open_session(router, "a")
    assert router.subscribe("a", "x/+", 1) == 1
    for qos in (0, 1, 2):
        router.publish("x/1", b"m", qos, retain=False)
    assert outbox.take() == [("x/1", b"m", qos, False) for qos in (0, 1, 1)]


async def test_overlapping_filters_deliver_once_with_the_highest_qos(router):
    outbox = open_session(router, "a")
    for topic_filter, qos in (("x/1", 0), ("x/+", 2), ("#", 1)):
        router.subscribe("a", topic_filter, qos)
    router.publish("x/1", b"", 2, retain=False)
    assert [qos for _, _, qos, _ in outbox.take()] == [2]


async def test_what_was_matched_is_forgotten_when_a_subscription_changes(router):
    a, b = open_session(router, "a"), open_session(router, "b")
    for change, expected in (
        (lambda: None, (0, 0)),
        (lambda: router.subscribe("a", "t", 1), (1, 0)),
        (lambda: router.subscribe("b", "#", 1), (1, 1)),
        (lambda: router.unsubscribe("a", "t"), (0, 1)),
        (lambda: router.subscribe("a", "+", 1), (1, 1)),
        (lambda: router.close("b"), (1, 0)),
        (lambda: router.close("a"), (0, 0)),
    ):
        change()
        router.publish("t", b"", 0, retain=False)
        assert (len(a.take()), len(b.take())) == expected
    assert not router._subscriptions
    assert not router._wildcards


async def test_subscribing_again_replaces_the_qos(router):
    outbox = open_session(router, "a")
    for qos in (2, 0, 1):
        assert router.subscribe("a", "t", qos) == qos
        router.publish("t", b"", 2, retain=False)
    assert [qos for _, _, qos, _ in outbox.take()] == [2, 0, 1]


async def test_an_invalid_filter_is_refused(router):
    open_session(router, "a")
    assert router.subscribe("a", "x/#/y", 0) == REFUSED


async def test_wildcards_do_not_match_dollar_topics(router):
    outbox = open_session(router, "a")
    for topic_filter in ("#", "+/x", "$own/#"):
        router.subscribe("a", topic_filter, 0)
    router.publish("$SYS/x", b"", 0, retain=False)
    router.publish("$own/x", b"", 0, retain=False)
    assert [topic for topic, *_ in outbox.take()] == ["$own/x"]


async def test_retained_messages_are_replaced_sent_to_the_one_who_asks_and_deleted_by_an_empty_one(router):
    a, b = open_session(router, "a"), open_session(router, "b")
    router.publish("r/1", b"old", 1, retain=True)
    router.publish("r/1", b"new", 2, retain=True)
    router.publish("r/2", b"x", 0, retain=True)
    router.send_retained("a", "r/+", 1)
    assert a.take() == [("r/1", b"new", 1, True), ("r/2", b"x", 0, True)]
    router.send_retained("a", "r/1", 0)
    assert a.take() == [("r/1", b"new", 0, True)]
    assert b.take() == []
    router.publish("r/1", b"", 0, retain=True)
    router.publish("r/2", b"", 0, retain=True)
    router.send_retained("a", "#", 1)
    assert a.take() == []
    assert (router.counters.retained, router.counters.retained_bytes) == (0, 0)


async def test_retained_messages_beyond_the_bound_are_refused_counted_and_named(router):
    outbox = open_session(router, "a")
    router.subscribe("a", "#", 0)
    for name in ("1", "2"):
        router.publish(name, b"x" * 99, 0, retain=True)
    with capture_logs() as logs:
        router.publish("3", b"x" * 99, 0, retain=True)
        router.publish("2", b"x" * 999, 0, retain=True)
    assert [entry["topic"] for entry in logs if entry["event"] == "retained_message_refused"] == ["3", "2"]
    assert router.counters.retained_refused == 2
    assert [topic for topic, _, _ in router.retained_topics()] == ["1"]  # 2 was replaced by what was not kept
    assert router.counters.retained_bytes == RETAINED_OVERHEAD + 100
    assert len(outbox.take()) == 4  # delivered all the same


async def test_topics_that_clients_invent_do_not_fill_the_memory(router, monkeypatch):
    monkeypatch.setattr("evedge.links.broker._KNOWN_TOPICS", 10)
    for number in range(25):
        router.publish(f"t/{number}", b"", 0, retain=False)
    router.publish("t" * 1000, b"", 0, retain=False)
    assert len(router._matched) <= 10


async def test_what_comes_by_amqtts_own_broadcast_goes_the_same_way(router):
    outbox = open_session(router, "a")
    router.subscribe("a", "x", 1)
    await router.internal_message_broadcast("x", b"m", 2)
    async with asyncio.timeout(5):
        while not outbox.got:
            await asyncio.sleep(0)
    assert outbox.take() == [("x", b"m", 1, False)]


async def test_closing_twice_is_closing():
    router = Router(counters=MqttCounters())
    async with router:
        open_session(router, "a")
        router.close("a")
        router.close("a")
    await router.__aexit__(None, None, None)


# What is relied on in amqtt.


def test_the_version_of_amqtt_is_the_one_this_was_written_for():
    assert version("amqtt") == "0.12.1"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (Broker.add_subscription, ["self", "subscription", "session"]),
        (Broker._del_subscription, ["self", "a_filter", "session"]),
        (Broker._matches, ["self", "topic", "a_filter"]),
        (Broker.retain_message, ["self", "source_session", "topic_name", "data", "qos"]),
        (Broker._run_broadcast, ["self", "running_tasks"]),
        (Broker.internal_message_broadcast, ["self", "topic", "data", "qos"]),
        (RetainedApplicationMessage.__init__, ["self", "source_session", "topic", "data", "qos"]),
    ],
)
def test_the_functions_of_amqtt_that_are_used_have_their_shape(function, parameters):
    assert list(inspect.signature(function).parameters) == parameters


async def test_the_tables_of_amqtt_that_are_used_have_their_shape(router):
    open_session(router, "a")
    router.subscribe("a", "x", 1)
    router.publish("r", b"kept", 1, retain=True)
    session, door = router.sessions["a"]
    assert router._sessions is router.sessions
    assert isinstance(session, Session)
    assert session.transitions.state == "connected"
    assert router._get_handler(session) is door
    assert router._subscriptions == {"x": [(session, 1)]}
    kept = router._retained_messages["r"]
    assert (kept.topic, kept.data, kept.qos) == ("r", b"kept", 1)
    assert router.transitions.state == "started"
    assert router._broadcast_queue.empty()


async def test_a_coroutine_of_amqtt_that_begins_to_wait_is_noticed():
    async def waits():
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits"):
        _at_once(waits())


async def test_filters_of_all_sessions_together_have_a_bound(router, monkeypatch):
    monkeypatch.setattr("evedge.links.broker.MAX_FILTER_BYTES", 2 * (FILTER_OVERHEAD + 3))
    open_session(router, "a")
    open_session(router, "b")
    assert router.subscribe("a", "x/+", 0) == 0
    assert router.subscribe("b", "x/+", 0) == 0
    assert router.subscribe("b", "y/+", 0) == REFUSED
    assert router.subscribe("b", "x/+", 1) == 1  # replacing one takes no more
    router.close("a")
    assert router.subscribe("b", "y/+", 0) == 0
