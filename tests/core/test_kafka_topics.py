"""The topics that a gateway needs."""

from __future__ import annotations

from evedge.core.kafka_topics import CleanupPolicy, TopicSpec, differences, needed_topics
from evedge.core.model import Stream

OWN = {stream: f"evedge.{stream}" for stream in Stream}


def test_status_topics_compact_and_the_others_delete_by_time() -> None:
    specs = needed_topics(OWN, ["factory.energy"])
    compacted = {spec.name for spec in specs if spec.cleanup_policy is CleanupPolicy.COMPACT}
    assert compacted == {"evedge.status", "evedge.gateway_status"}
    assert {spec.name for spec in specs if "retention.ms" not in spec.topic_configs} == compacted
    assert len(specs) == len(Stream) + 1


def test_a_name_that_comes_again_counts_once() -> None:
    specs = needed_topics(OWN, ["factory.energy", "factory.energy", "evedge.telemetry"])
    assert [spec.name for spec in specs] == [*OWN.values(), "factory.energy"]


DAY_MS = 86_400_000
BY_TIME = TopicSpec("t", "", CleanupPolicy.DELETE, 7 * DAY_MS, 6)
COMPACTED = TopicSpec("t", "", CleanupPolicy.COMPACT, None, 3)


def test_a_topic_that_is_as_it_would_be_made_differs_in_nothing() -> None:
    assert differences(BY_TIME, 6, BY_TIME.topic_configs) == ()
    assert differences(COMPACTED, 3, {"cleanup.policy": "compact", "retention.ms": "1"}) == ()
    assert differences(BY_TIME, 6, {}) == ()  # nothing is known


def test_what_differs_is_named_with_what_it_should_be() -> None:
    found = differences(BY_TIME, 1, {"cleanup.policy": "compact,delete", "retention.ms": str(DAY_MS)})
    assert [str(each) for each in found] == [
        "partitions 1 instead of 6",
        "cleanup.policy compact,delete instead of delete",
        "retention 1 day instead of 7 days",
    ]
    (policy,) = differences(COMPACTED, 3, {"cleanup.policy": "delete"})
    assert str(policy) == "cleanup.policy delete instead of compact"
    for retention, words in (("-1", "for ever"), ("5", "5 ms")):
        (kept,) = differences(BY_TIME, 6, {"retention.ms": retention})
        assert kept.found == words
