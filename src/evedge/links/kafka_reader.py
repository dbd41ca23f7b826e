"""Reads topics without a group: everything from the beginning or from now on, leaving no trace. For the command line.

Inside `async with` it stands at its start: whatever is written from then on is read. Topics that do not exist yet, and
partitions that are added, are read from their beginning once they are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import Outage
from evedge.links.kafka_calls import answered
from evedge.links.kafka_close import close_consumer
from evedge.links.kafka_log import tame
from evedge.links.kafka_records import consumed
from evedge.links.kafka_settings import KafkaSettings

LOOK_AGAIN_S = 5.0
MAX_RECORDS = 1000
_MARGIN_S = 5.0


class KafkaReader:
    """See the module. Raises Outage when Kafka does not answer; then make another one, with `positions` of this."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Iterable[str],
        *,
        from_beginning: bool = False,
        positions: dict[TopicPartition, int] | None = None,
        request_timeout_s: float = 10.0,
    ) -> None:
        self.positions: dict[TopicPartition, int] = dict(positions or {})
        """The next offset of each partition; a partition that is not in here was not there yet."""
        self._settings = settings
        self._topics = tuple(topics)
        self._from_beginning = from_beginning
        self._request_timeout_s = request_timeout_s
        self._failure = f"Kafka at {settings.address}"
        self._consumer: AIOKafkaConsumer = None
        self._looked_s = 0.0

    @property
    def missing(self) -> list[str]:
        """Topics that do not exist, as of the last look."""
        there = {place.topic for place in self.positions}
        return [topic for topic in self._topics if topic not in there]

    async def __aenter__(self) -> Self:
        tamed = tame()
        tamed.forget_connect_error()
        self._consumer = AIOKafkaConsumer(
            **self._settings.client_arguments(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=int(self._request_timeout_s * 1000),
        )
        patience_s = self._request_timeout_s * (len(self._settings.bootstrap_servers) + 1)
        try:
            await answered(self._consumer.start(), patience_s, self._failure)
            await self._look(from_end=not self._from_beginning and not self.positions)
        except BaseException as error:
            await close_consumer(self._consumer)
            if isinstance(error, Outage) and tamed.connect_error:
                raise Outage(f"{self._failure} cannot be reached: {tamed.connect_error}") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await close_consumer(self._consumer)

    async def read(self, timeout_s: float) -> Sequence[ConsumedRecord]:
        """The next records, in the order of time over all partitions; none when none came in time."""
        if asyncio.get_running_loop().time() > self._looked_s + LOOK_AGAIN_S:
            await self._look(from_end=False)
        if not self.positions:
            await asyncio.sleep(timeout_s)
            return []
        found = await answered(
            self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=MAX_RECORDS),
            timeout_s + _MARGIN_S,
            self._failure,
        )
        records = [consumed(each) for batch in found.values() for each in batch]
        for record in records:
            self.positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        return sorted(records, key=lambda record: record.timestamp_ms)

    async def _look(self, *, from_end: bool) -> None:
        """Looks for partitions that are new; takes them from their beginning, or from now on."""
        client = self._consumer._client  # noqa: SLF001 -- the consumer's own methods know only what it reads already
        cluster = await answered(client.fetch_all_metadata(), self._request_timeout_s, self._failure)
        places = [
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in cluster.partitions_for_topic(topic) or ()
        ]
        new = [place for place in places if place not in self.positions]
        if new:
            offsets = self._consumer.end_offsets(new) if from_end else self._consumer.beginning_offsets(new)
            self.positions |= await answered(offsets, self._request_timeout_s, self._failure)
        if set(places) != self._consumer.assignment():
            self._consumer.assign(places)
            for place in places:
                self._consumer.seek(place, self.positions[place])
        self._looked_s = asyncio.get_running_loop().time()
