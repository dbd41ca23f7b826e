"""Filters, names and routes: the standard's own examples, and rules that hold for all small filters."""

from __future__ import annotations

import itertools

import pytest

from evedge.core.topics import (
    MAX_TOPIC_BYTES,
    Leaf,
    OwnTopics,
    Route,
    captures,
    covers,
    filter_problem,
    key_problem,
    matches,
    routes_for,
    topic_problem,
)

LEVELS = ("a", "b", "")
TOPICS = [
    "/".join(levels)
    for count in (1, 2, 3)
    for levels in itertools.product((*LEVELS, "$s"), repeat=count)
    if "/".join(levels)
]
FILTERS = [
    text
    for count in (1, 2, 3)
    for levels in itertools.product((*LEVELS, "+", "#", "$s"), repeat=count)
    if (text := "/".join(levels)) and filter_problem(text) is None
]


@pytest.mark.parametrize(
    ("topic_filter", "topic", "found"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", ("",)),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", ("score/wimbledon",)),
        ("sport/#", "sport", ("",)),
        ("sport/tennis/+", "sport/tennis/player1", ("player1",)),
        ("sport/tennis/+", "sport/tennis/player1/ranking", None),
        ("sport/+", "sport", None),
        ("sport/+", "sport/", ("",)),
        ("+/+", "/finance", ("", "finance")),
        ("/+", "/finance", ("finance",)),
        ("+", "/finance", None),
        ("#", "$SYS/monitor/clients", None),
        ("+/monitor/clients", "$SYS/monitor/clients", None),
        ("$SYS/#", "$SYS/monitor/clients", ("monitor/clients",)),
        ("$SYS/monitor/+", "$SYS/monitor/clients", ("clients",)),
        ("ACCOUNTS", "Accounts", None),
        ("a/+/c/#", "a/b/c/d/e", ("b", "d/e")),
    ],
)
def test_filters_match_as_the_standard_says(topic_filter, topic, found):
    assert captures(topic_filter, topic) == found
    assert matches(topic_filter, topic) is (found is not None)


def test_a_filter_covers_another_only_if_it_matches_all_the_other_matches():
    for allowed, asked in itertools.product(FILTERS, FILTERS):
        if covers(allowed, asked):
            missed = [topic for topic in TOPICS if matches(asked, topic) and not matches(allowed, topic)]
            assert not missed, (allowed, asked)


def test_a_filter_covers_itself_and_every_topic_that_it_matches():
    for topic_filter in FILTERS:
        assert covers(topic_filter, topic_filter)
        for topic in TOPICS:
            assert covers(topic_filter, topic) is matches(topic_filter, topic), (topic_filter, topic)


@pytest.mark.parametrize("bad", ["", "a/+", "#", "a\0b", "x" * (MAX_TOPIC_BYTES + 1), "é" * 40_000])
def test_what_is_no_topic_is_said_so(bad):
    assert topic_problem(bad)


@pytest.mark.parametrize("bad", ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0b"])
def test_what_is_no_filter_is_said_so(bad):
    assert filter_problem(bad)


@pytest.mark.parametrize("good", ["a", "/", "a/+/b", "+", "#", "a/#", "+/#", "$SYS/#", "a b/ü"])
def test_what_is_a_filter_is_taken(good):
    assert filter_problem(good) is None


def test_own_topics_are_found_again():
    own = OwnTopics("evedge", "site-042")
    for leaf in Leaf:
        assert own.parse(own.recharge_point("rp-07", leaf)) == ("rp-07", leaf)
    assert own.recharge_point("rp-07", Leaf.RESULT) == "evedge/site-042/rp/rp-07/command/result"
    for other in (own.status, own.agent_status("plc-1"), "evedge/site-042/rp/rp-07", "evedge/other/rp/x/status"):
        assert own.parse(other) is None


def test_a_route_names_its_key_by_what_the_wildcards_matched():
    route = Route("factory/+/energy/#", "factory.energy", "{gateway}/{1}/{2}")
    assert route.key_for("factory/hall-3/energy/l1/w", "g") == "g/hall-3/l1/w"
    assert route.key_for("factory/hall-3/water", "g") is None
    assert Route("a/#", "k").key_for("a/b", "g") == "a/b"


def test_what_a_topic_holds_is_not_taken_for_a_placeholder():
    assert Route("a/+/+", "k", "{1}-{2}").key_for("a/{2}/{topic}", "g") == "{2}-{topic}"


def test_every_route_that_matches_takes_the_message():
    routes = (Route("a/#", "one"), Route("a/b", "two", "{gateway}"), Route("c", "three"))
    assert [(route.kafka_topic, key) for route, key in routes_for("a/b", "g", routes)] == [("one", "a/b"), ("two", "g")]


@pytest.mark.parametrize(
    ("key", "good"), [("{topic}", True), ("{1}/{2}", True), ("{3}", False), ("{0}", False), ("{x}", False)]
)
def test_a_key_may_name_only_what_there_is(key, good):
    assert (key_problem(key, "a/+/#") is None) is good
