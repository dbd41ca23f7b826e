"""Records that cannot be delivered, as records for the dead-letter topic."""

from __future__ import annotations

from evedge.core.codec import STREAM_TYPES
from evedge.core.lanes import DeadLetter
from evedge.core.model import Record, Stream

_REPLACED = ("ce_type", "ce_id", "ce_time")


def letter_for(dead: DeadLetter, lane: str, original_id: str | None) -> Record:
    """The dead letter: the record's key, value and headers, and why it is here. `original_id`: its `ce_id`, if any."""
    given = dict(dead.record.headers)
    # A record read from Kafka may bring an id and a time of its own, where ours are about to stand.
    kept = tuple((name, value) for name, value in dead.record.headers if name not in _REPLACED)
    original = {f"original_{name}": given[name] for name in _REPLACED if name in given}
    if original_id is not None:
        original["original_ce_id"] = original_id.encode()
    reasons = {"reason": dead.reason, "kafka_topic": dead.kafka_topic, "error": dead.error}
    return Record(
        lane=lane,
        key=dead.record.key,
        value=dead.record.value,
        headers=(
            *kept,
            ("ce_type", STREAM_TYPES[Stream.DEAD_LETTERS].encode()),
            *original.items(),
            *((name, text.encode(errors="backslashreplace")) for name, text in reasons.items()),
        ),
        timestamp_ms=dead.at_ms,
        durable=True,
    )


def mqtt_topic_of(record: Record) -> str:
    """The MQTT topic a record came from; empty where it came from none."""
    return next((value.decode(errors="replace") for name, value in record.headers if name == "mqtt_topic"), "")
