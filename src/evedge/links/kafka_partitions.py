"""Which partition a key belongs to: Kafka's default, so that every producer in the world agrees with this one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from aiokafka.partitioner import murmur2

from evedge.core.model import Record


@lru_cache(maxsize=65_536)  # the same few keys for ever; the hash is 10 µs of Python
def _hash(key: bytes) -> int:
    hashed: int = murmur2(key)
    return hashed & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """`toPositive(murmur2(key)) % partitions`, as org.apache.kafka.clients.producer does it."""
    return _hash(key) % partitions


def by_partition(records: Sequence[Record], partitions: int) -> dict[int, list[Record]]:
    """The records of each partition, in their order."""
    if partitions == 1:
        return {0: list(records)}
    grouped: dict[int, list[Record]] = {}
    for record in records:
        grouped.setdefault(partition_of(record.key, partitions), []).append(record)
    return grouped
