"""aiokafka's records as the house's own."""

from __future__ import annotations

from aiokafka import ConsumerRecord

from evedge.core.delivery import ConsumedRecord


def consumed(record: ConsumerRecord) -> ConsumedRecord:
    """A header that Kafka holds without a value has an empty one here."""
    return ConsumedRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=tuple((name, value if value is not None else b"") for name, value in record.headers),
        timestamp_ms=record.timestamp,
    )
