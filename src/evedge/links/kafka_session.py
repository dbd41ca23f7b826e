"""One started aiokafka producer and what must be known about it until it is thrown away.

A session delivers batches, one in flight per partition, and says for each what became of it. It never retries and never
judges: `kafka_producer` does. Once it is lost, every delivery under way ends with that, and it is of no more use.

Invariants:
- A partition's lock is held from the making of a batch until its outcome is known, so no batch overtakes another.
- After a batch that Kafka refused the producer's sequence number stands where it stood before: aiokafka counts a batch
  when it takes it out of its queue, the broker when it stores it, and a gap between the two would make the broker
  refuse everything that follows on that partition (OutOfOrderSequenceNumber, aiokafka issue 1017).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    KafkaError,
    LeaderNotAvailableError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import TopicPartition

from evedge.core.cloudevents import record_headers
from evedge.core.errors import Outage
from evedge.core.model import Record
from evedge.links.kafka_close import close_producer
from evedge.links.kafka_errors import connect_failure
from evedge.links.kafka_log import tame
from evedge.links.kafka_settings import Compression, KafkaSettings
from evedge.links.kafka_timestamps import Timestamps
from evedge.links.kafka_words import plain_words

_METADATA_RETRY_S = 0.1
_LAST_SEQUENCE = 2_000_000_000
"""Well before 2^31, where aiokafka wraps to a negative number and Kafka to 0."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Batch:
    """`records[start:end]` of a send, encoded. `restamped`: those that do not go with their own timestamp."""

    builder: Any  # aiokafka's BatchBuilder
    start: int
    end: int
    restamped: tuple[Record, ...]


class Session:
    """See the module. `lost` is done when the session is of no more use; its result is the reason."""

    def __init__(self, producer: AIOKafkaProducer, deadline_s: float) -> None:
        self._producer = producer
        self._deadline_s = deadline_s
        self._locks: defaultdict[TopicPartition, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, settings: KafkaSettings, *, request_timeout_s: float, max_batch_bytes: int) -> Session:
        """Connects and gets a producer id. Raises Outage, at once where a connection or the login is refused."""
        log = tame()
        log.forget_connect_error()
        producer = AIOKafkaProducer(
            **settings.arguments_now(),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,  # batches are gathered by the caller
            max_batch_size=max_batch_bytes,
            request_timeout_ms=int(request_timeout_s * 1000),
            compression_type=None if settings.compression is Compression.NONE else str(settings.compression),
        )
        # aiokafka tries the servers in turn, each with its own time limit; this one is for all else.
        patience_s = request_timeout_s * (len(settings.bootstrap_servers) + 1)
        try:
            async with asyncio.timeout(patience_s):
                await producer.start()
        except BaseException as error:
            await close_producer(producer)
            if not isinstance(error, KafkaError | OSError | TimeoutError):
                raise
            reason = log.connect_error or plain_words(error)
            answers = isinstance(error, BrokerResponseError)
            words = f"Kafka at {settings.address}{'' if answers else ' cannot be reached'}: {reason}"
            raise connect_failure(log.connect_cause or error, words) from error
        return cls(producer, request_timeout_s * 1.25)

    async def close(self) -> None:
        self.lose("closed")
        await close_producer(self._producer)

    def lose(self, reason: str) -> None:
        """Ends every delivery under way. May be called twice; the first reason counts."""
        if not self.lost.done():
            self.lost.set_result(reason)

    def lock(self, topic: str, partition: int) -> asyncio.Lock:
        """Held by whoever makes and delivers batches of this partition."""
        return self._locks[TopicPartition(topic, partition)]

    async def partition_count(self, topic: str, patience_s: float) -> int:
        """How many partitions a topic has.

        Raises KafkaError for a topic that is not there after `patience_s` (some clusters make topics when they are
        asked for) or is forbidden; Outage when Kafka does not answer.
        """
        client = self._producer.client
        partitions: set[int] | None = client.cluster.partitions_for_topic(topic)
        if partitions is not None:
            return len(partitions)
        client.add_topic(topic)
        until = asyncio.get_running_loop().time() + patience_s
        while True:
            await self._refresh_metadata()
            partitions = client.cluster.partitions_for_topic(topic)
            if partitions is not None:
                return len(partitions)
            forbidden = topic in client.cluster.unauthorized_topics
            if forbidden or asyncio.get_running_loop().time() > until:
                client._topics.discard(topic)  # not asked for with every refresh from now on  # noqa: SLF001
                raise TopicAuthorizationFailedError if forbidden else UnknownTopicOrPartitionError
            await asyncio.sleep(_METADATA_RETRY_S)

    async def ensure_leader(self, topic: str, partition: int) -> None:
        """Raises KafkaError when nobody leads the partition: aiokafka would ask for a leader without a pause."""
        if not self._has_leader(topic, partition):
            await self._refresh_metadata()
            if not self._has_leader(topic, partition):
                raise LeaderNotAvailableError

    def _has_leader(self, topic: str, partition: int) -> bool:
        leader = self._producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        return leader is not None and leader != -1

    async def _refresh_metadata(self) -> None:
        if not await self._outcome(self._producer.client.force_metadata_update()):
            self.lose("no broker answers")
            raise Outage(self.lost.result())

    def fill(self, records: Sequence[Record], start: int, end: int, timestamps: Timestamps) -> Batch:
        """A batch of as many of `records[start:end]` as fit, at least one."""
        builder = self._producer.create_batch()
        restamped = []
        position = start
        while position < end:
            record = records[position]
            timestamp_ms = timestamps.of(record)
            taken = builder.append(
                timestamp=timestamp_ms, key=record.key, value=record.value, headers=record_headers(record)
            )
            if taken is None:
                break
            if timestamp_ms != record.timestamp_ms:
                restamped.append(record)
            position += 1
        builder.close()
        return Batch(builder, start, position, tuple(restamped))

    async def deliver(self, topic: str, partition: int, batch: Batch) -> None:
        """Returns when Kafka confirmed the batch; the partition's lock is held.

        Raises KafkaError when Kafka refused it (nothing of it was stored), Outage when the session is lost, also
        because no answer came in time. Cancelled, the batch may still be stored.
        """
        if self.lost.done():
            raise Outage(self.lost.result())
        place = TopicPartition(topic, partition)
        numbers = self._producer._txn_manager  # noqa: SLF001
        before = numbers.sequence_number(place)
        if before > _LAST_SEQUENCE:
            self.lose("the producer's sequence numbers are used up")
            raise Outage(self.lost.result())
        try:
            # Queued without waiting: the topic's metadata is there, and the queue of this partition is ours.
            await self._outcome(await self._producer.send_batch(batch.builder, topic, partition=partition))
        except KafkaError:
            numbers._sequence_numbers[place] = before  # noqa: SLF001
            raise

    async def _outcome(self, future: asyncio.Future[_T]) -> _T:
        """What a future of aiokafka's gives, unless the session is lost first or the deadline passes."""
        try:
            waited: set[asyncio.Future[Any]] = {future, self.lost}
            await asyncio.wait(waited, timeout=self._deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if future.done() and not future.cancelled():
                return future.result()
            if not self.lost.done():
                self.lose(f"no answer within {self._deadline_s:g} s")
            raise Outage(self.lost.result())
        finally:
            future.cancel()  # nobody looks at it any more
