"""The topics that a gateway needs."""

from __future__ import annotations

from evedge.core.kafka_topics import CleanupPolicy, needed_topics
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
