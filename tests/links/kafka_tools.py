"""What the Kafka tests share: settings, records, topics, and a reader that is not ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from evedge.core.model import Record
from evedge.links.kafka_settings import KafkaSettings

NOW_MS = 1_795_424_400_123
EPOCH = 17 << 36


def settings(bootstrap: str, **more: object) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=(bootstrap,), **more)


def record(number: int, key: str = "site/rp-01", value: bytes | None = None, timestamp_ms: int = NOW_MS) -> Record:
    return Record(
        lane="",
        key=key.encode(),
        value=f"value {number}".encode() if value is None else value,
        headers=(("ce_specversion", b"1.0"), ("ce_type", b"evedge.telemetry.v1")),
        timestamp_ms=timestamp_ms,
        durable=True,
        number=EPOCH + number,
    )


def create_topic(bootstrap: str, name: str, partitions: int = 1, **configs: str) -> None:
    """Settings of the topic with _ for the dots."""
    config = {key.replace("_", "."): value for key, value in configs.items()}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1, config=config)]).values():
        future.result(10)


@dataclass(frozen=True)
class Seen:
    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: tuple[int, int]


def read_all(bootstrap: str, topic: str, count: int, timeout_s: float = 10.0) -> Sequence[Seen]:
    """The first `count` records of a topic as librdkafka reads them, and none more; in order within a partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.partition.eof": True})
    try:
        partitions = list(consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        seen, ended = [], set()
        while len(ended) < len(partitions):
            message = consumer.poll(timeout_s)
            assert message is not None, f"{len(seen)} of {count} records came"
            if message.error():
                ended.add(message.partition())
            else:
                ended.discard(message.partition())
                seen.append(
                    Seen(message.partition(), message.key(), message.value(), message.headers(), message.timestamp())
                )
    finally:
        consumer.close()
    assert len(seen) == count
    return seen


def values(seen: Sequence[Seen]) -> list[bytes]:
    return [each.value for each in seen]


def read_distinct(bootstrap: str, topic: str) -> list[Seen]:
    """As a consumer reads that drops what carries a `ce_id` it has seen."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=10)[1] for each in partitions]
    finally:
        consumer.close()
    distinct: dict[bytes, Seen] = {}
    for each in read_all(bootstrap, topic, sum(ends)):
        distinct.setdefault(dict(each.headers)["ce_id"], each)
    return list(distinct.values())
