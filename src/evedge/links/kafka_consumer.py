"""The consumer of commands: one static member of a group, offsets committed by hand, thrown away when Kafka fails it.

It connects at the first read, and again at the first read after an outage; it then goes on after the last commit. What
was read and not committed comes again, so whoever reads must know what was seen. A static member that crashed takes its
partitions again as soon as it is back: the broker does not wait for the old session to end.

Invariants: every call ends within its deadline; after an Outage nothing of the old connection is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import Outage, Refused
from evedge.links.kafka_calls import answered
from evedge.links.kafka_close import close_consumer
from evedge.links.kafka_log import tame
from evedge.links.kafka_membership import Membership, ReplacedError
from evedge.links.kafka_records import consumed
from evedge.links.kafka_settings import KafkaSettings

log = structlog.get_logger()
_T = TypeVar("_T")

REQUEST_TIMEOUT_S = 15.0
SESSION_TIMEOUT_S = 10.0
MAX_RECORDS = 500
PROOF_S = 5.0
"""How long the first read after joining may wait for Kafka to let this member fetch at all."""
_METADATA_MAX_AGE_MS = 60_000  # partitions that are added to the topic are noticed within a minute
_MARGIN_S = 5.0  # what aiokafka may take beyond a time-out that it was given


@dataclass(slots=True)
class _Member:
    """A started consumer, and the eye on its place in the group. `fetches`: Kafka was seen to let it read."""

    consumer: AIOKafkaConsumer
    membership: Membership
    fetches: bool = False

    def look(self) -> bool:
        """Whether a fetch of each partition was answered; an answer tells the partition's end."""
        places = self.consumer.assignment()
        self.fetches = bool(places) and all(self.consumer.highwater(place) is not None for place in places)
        return self.fetches


class KafkaConsumer:
    """See the module. `instance` names this member: a second one with the same name replaces the first."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        group: str,
        instance: str,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        session_timeout_s: float = SESSION_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._group = group
        self._instance = instance
        self._request_timeout_s = request_timeout_s
        self._session_timeout_s = session_timeout_s
        self._member: _Member | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self._member is not None else "not connected"
        return f"<KafkaConsumer {self._topic} as {self._group}/{self._instance}, {state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def read(self, timeout_s: float) -> Sequence[ConsumedRecord]:
        """The next records, in order within each partition; none when none came in time.

        The first read after joining may take longer: an empty answer says that records would come if there were any.
        Raises Outage, also when the topic does not exist yet; Refused when another member took this one's place.
        """
        if self._closed:
            raise Outage("the Kafka consumer is closed")
        if self._member is None:
            self._member = await self._join()
        if self._member.membership.silent_s > 2 * self._session_timeout_s:
            await self._discard()
            raise Outage(f"{self._failure}: no answer for {2 * self._session_timeout_s:.0f} s")
        found = await self._fetch(self._member, timeout_s)
        if not self._member.fetches:
            now_s = asyncio.get_running_loop().time
            until_s = now_s() + PROOF_S
            while not found and not self._member.look() and now_s() < until_s:
                found = await self._fetch(self._member, 0.1)
            self._member.fetches = True
            log.info("command_topic_found", kafka_topic=self._topic, group=self._group, instance=self._instance)
        return [consumed(each) for records in found.values() for each in records]

    async def _fetch(self, member: _Member, timeout_s: float) -> dict[TopicPartition, list[ConsumerRecord]]:
        call = member.consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=MAX_RECORDS)
        return await self._ask(call, timeout_s + _MARGIN_S)

    async def commit(self, records: Sequence[ConsumedRecord]) -> None:
        """Records up to these are done with. Raises Outage (they come again) and Refused as `read` does."""
        if self._member is None:
            raise Outage(f"{self._failure}: nothing is read that could be committed")
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            place = TopicPartition(record.topic, record.partition)
            offsets[place] = max(offsets.get(place, 0), record.offset + 1)
        await self._ask(self._member.consumer.commit(offsets), self._request_timeout_s)

    async def close(self) -> None:
        """Stays a member until the session ends, so that a quick restart moves nothing. May be called twice."""
        self._closed = True
        await self._discard()

    @property
    def _failure(self) -> str:
        return f"Kafka topic {self._topic} at {self._settings.address}"

    async def _join(self) -> _Member:
        tamed = tame()
        tamed.forget_connect_error()
        consumer = AIOKafkaConsumer(
            **self._settings.arguments_now(),
            group_id=self._group,
            group_instance_id=self._instance,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            request_timeout_ms=int(self._request_timeout_s * 1000),
            session_timeout_ms=int(self._session_timeout_s * 1000),
            heartbeat_interval_ms=int(self._session_timeout_s * 300),
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        )
        patience_s = self._request_timeout_s * (len(self._settings.bootstrap_servers) + 1)
        try:
            await answered(consumer.start(), patience_s, self._failure)
            # Only now the topic: aiokafka would wait for one that is not there, and its answers are to be looked at.
            if self._topic not in await answered(consumer.topics(), self._request_timeout_s, self._failure):
                words = "it does not exist (evedge topics --create), or is hidden from this user (right Read)"
                raise Outage(f"{self._failure}: {words}")
            member = _Member(consumer, Membership(consumer, self._session_timeout_s))
            consumer.subscribe([self._topic])
        except BaseException as error:
            await close_consumer(consumer)
            if isinstance(error, Outage) and tamed.connect_error is not None:
                raise Outage(f"Kafka at {self._settings.address} cannot be reached: {tamed.connect_error}") from error
            raise
        return member

    async def _ask(self, call: Coroutine[Any, Any, _T], deadline_s: float) -> _T:
        """A call to the member; when it fails, the member is thrown away."""
        member = self._member
        try:
            return await answered(call, deadline_s, self._failure)
        except (ReplacedError, Outage):
            await self._discard()
            if member is None or not member.membership.replaced:
                raise
            self._closed = True  # joining again would throw the other one out
            raise Refused(
                f"another consumer {self._instance!r} took over {self._topic}: two gateways with the same id are "
                "running; stop one, or change its [gateway] id"
            ) from None

    async def _discard(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            # In a task of its own: whoever cancels the caller must not leave the connections half closed.
            await asyncio.shield(asyncio.create_task(close_consumer(member.consumer), name="kafka-discard"))
