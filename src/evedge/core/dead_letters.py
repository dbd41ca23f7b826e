"""Records that cannot be delivered, as records for the dead-letter topic."""

from __future__ import annotations

from evedge.core.codec import STREAM_TYPES
from evedge.core.lanes import DeadLetter
from evedge.core.model import Record, Stream


def letter_for(dead: DeadLetter, lane: str, original_id: str | None) -> Record:
    """The dead letter: the record's key, value and headers, and why it is here. `original_id`: its `ce_id`, if any."""
    kept = tuple((name, value) for name, value in dead.record.headers if name != "ce_type")
    original_type = next((value for name, value in dead.record.headers if name == "ce_type"), b"")
    return Record(
        lane=lane,
        key=dead.record.key,
        value=dead.record.value,
        headers=(
            *kept,
            ("ce_type", STREAM_TYPES[Stream.DEAD_LETTERS].encode()),
            ("original_ce_type", original_type),
            *((("original_ce_id", original_id.encode()),) if original_id else ()),
            ("reason", dead.reason.encode()),
            ("kafka_topic", dead.kafka_topic.encode()),
            ("error", dead.error.encode()),
        ),
        timestamp_ms=dead.at_ms,
        durable=True,
    )


def mqtt_topic_of(record: Record) -> str:
    """The MQTT topic a record came from; empty where it came from none."""
    return next((value.decode() for name, value in record.headers if name == "mqtt_topic"), "")
