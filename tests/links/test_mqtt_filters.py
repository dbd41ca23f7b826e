"""Found by level is what asking every filter would find."""

from __future__ import annotations

import random

import pytest

from evedge.core.topics import matches
from evedge.links.mqtt_filters import FilterTree


@pytest.mark.parametrize("seed", range(20))
def test_what_matches_is_what_each_filter_alone_would_say(seed):
    choose = random.Random(seed)
    names = ["a", "b", "", "$x"]

    def some(*more):
        return "/".join(choose.choice([*names, *more]) for _ in range(choose.randint(1, 4)))

    tree, filters = FilterTree(), set()
    for _ in range(300):
        topic_filter = choose.choice([some("+", "+"), some("+") + "/#", "#", "+"])
        if choose.random() < 0.6:
            tree.add(topic_filter)
            filters.add(topic_filter)
        else:
            tree.discard(topic_filter)
            filters.discard(topic_filter)
        topic = some()
        assert sorted(tree.matching(topic)) == sorted(each for each in filters if matches(each, topic)), topic
    for topic_filter in filters:
        tree.discard(topic_filter)
    assert not tree


def test_a_thousand_filters_of_one_client_cost_a_new_topic_no_walk_over_them():
    tree = FilterTree()
    for number in range(1000):
        tree.add(f"x/{number}/+")
    visited = []

    class Counting(dict):
        def get(self, name, default=None):
            visited.append(name)
            return super().get(name, default)

    tree._root.following["x"].following = Counting(tree._root.following["x"].following)
    assert tree.matching("x/7/y") == ["x/7/+"]
    assert len(visited) < 10
