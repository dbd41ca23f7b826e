"""The disposable Kafka producer: records in, and for each the word whether Kafka confirmed or refused it.

It connects when it is first needed, throws a producer away that failed or did not answer in time, and builds another at
the next send. It holds no records: the caller keeps them until they are settled and sends open ones again, with the
same `ce_id`. It knows no journal, no lanes beyond a topic's name, and does not wait between attempts.

Invariants:
- One batch in flight per partition, in the order given: per key nothing is overtaken.
- Nothing is waited for without a deadline: `send`, `connect` and `close` end, whatever Kafka does.
- A refusal is found down to its record; whatever is not known to be a record's fault is an outage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import structlog
from aiokafka.errors import KafkaError

from evedge.core.delivery import RefusedRecord, SendOutage, SendResult, TopicUnavailable
from evedge.core.errors import Outage
from evedge.core.model import Record
from evedge.links.kafka_errors import Fault, LoginRefused, fault, refusal_reason
from evedge.links.kafka_partitions import by_partition
from evedge.links.kafka_session import Batch, Session
from evedge.links.kafka_settings import KafkaSettings
from evedge.links.kafka_timestamps import Timestamps
from evedge.links.kafka_words import plain_words

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 15.0
MAX_BATCH_BYTES = 262_144
TOPIC_PATIENCE_S = 1.0
"""How long a topic may take to appear; a cluster that makes topics by itself makes them within that."""


LOGIN_PAUSE_S = 5.0
"""How long a refused login is not tried again, whoever sends: a dozen lanes that retry would look like an attack."""


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _look_at(task: asyncio.Task[Session]) -> None:
    """Nobody may be waiting any more; the loop complains of exceptions that nobody looked at."""
    if not task.cancelled():
        task.exception()


@dataclass(slots=True)
class _Tally:
    """What is settled so far, over the partitions of one send."""

    confirmed: list[Record] = field(default_factory=list)
    refused: list[RefusedRecord] = field(default_factory=list)
    restamped: list[Record] = field(default_factory=list)

    def result(self) -> SendResult:
        return SendResult(tuple(self.confirmed), tuple(self.refused), tuple(self.restamped))


class KafkaProducer:
    """See the module. `request_timeout_s` is how long one answer may take; a send fails after 1.25 times that."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        now_ms: Callable[[], int] = _wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._request_timeout_s = request_timeout_s
        self._max_batch_bytes = max_batch_bytes
        self._now_ms = now_ms
        self._session: Session | None = None
        self._opening: asyncio.Task[Session] | None = None
        self._discarding: set[asyncio.Task[None]] = set()
        self._closed = False
        self._no_login_until_s = float("-inf")
        self._up: bool | None = None
        self.last_error: str | None = None
        """Why Kafka was lost the last time."""

    @property
    def up(self) -> bool:
        """Whether Kafka answered the last time it was asked."""
        return self._up is True

    def __repr__(self) -> str:
        state = "up" if self.up else f"down: {self.last_error}" if self.last_error else "not connected"
        return f"<KafkaProducer {self._settings.address}, {state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connects unless that is done. Raises SendOutage, at once where the connection is refused."""
        await self._ready_session()

    async def send(self, topic: str, records: Sequence[Record]) -> SendResult:
        """Sends records to their partitions and waits until each is settled.

        Raises SendOutage for what must be sent again, TopicUnavailable when only this topic is concerned; both carry
        what is settled. Calls for one topic at the same time are allowed; order is kept within each.
        """
        if not records:
            return SendResult()
        session = await self._ready_session()
        tally = _Tally()
        try:
            partitions = await session.partition_count(topic, TOPIC_PATIENCE_S)
        except KafkaError as error:
            raise TopicUnavailable(f"Kafka topic {topic}: {plain_words(error)}") from error
        except Outage as error:
            self._discard(session)
            raise SendOutage(str(error)) from error
        groups = by_partition(records, partitions)
        outages = await self._send_groups(session, topic, groups, tally)
        if outages:
            worst = next((each for each in outages if not isinstance(each, TopicUnavailable)), outages[0])
            worst.settled = tally.result()
            raise worst
        return tally.result()

    async def _send_groups(
        self, session: Session, topic: str, groups: dict[int, list[Record]], tally: _Tally
    ) -> list[SendOutage]:
        if len(groups) == 1:  # the common case needs no task
            ((partition, records),) = groups.items()
            outages = [await self._send_partition(session, topic, partition, records, tally)]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        self._send_partition(session, topic, partition, records, tally),
                        name=f"kafka-send[{topic}/{partition}]",
                    )
                    for partition, records in groups.items()
                ]
            outages = [task.result() for task in tasks]
        return [outage for outage in outages if outage is not None]

    async def _send_partition(
        self, session: Session, topic: str, partition: int, records: list[Record], tally: _Tally
    ) -> SendOutage | None:
        """One batch after the other; a refused one in halves, down to the record. Returns what stopped it."""
        timestamps = Timestamps(self._now_ms)
        async with session.lock(topic, partition):
            ranges = [(0, len(records))]  # still to send; the next one is the last
            while ranges:
                start, end = ranges.pop()
                batch = session.fill(records, start, end, timestamps)
                if batch.end < end:
                    ranges.append((batch.end, end))
                try:
                    await session.ensure_leader(topic, partition)
                    await session.deliver(topic, partition, batch)
                except KafkaError as error:
                    whose = fault(error)
                    if whose is Fault.TOPIC:
                        return TopicUnavailable(f"Kafka topic {topic}: {plain_words(error)}")
                    if whose is Fault.PRODUCER:
                        session.lose(plain_words(error))
                        return self._discard(session)
                    ranges += self._after_refusal(records, batch, error, timestamps, tally)
                except Outage:
                    return self._discard(session)
                else:
                    tally.confirmed += records[batch.start : batch.end]
                    tally.restamped += batch.restamped
        return None

    def _after_refusal(
        self, records: list[Record], batch: Batch, error: KafkaError, timestamps: Timestamps, tally: _Tally
    ) -> list[tuple[int, int]]:
        """What of a refused batch is to be tried again, the first part last."""
        if batch.end - batch.start > 1:
            middle = (batch.start + batch.end) // 2
            return [(middle, batch.end), (batch.start, middle)]
        record = records[batch.start]
        if fault(error) is Fault.TIMESTAMP and timestamps.refuse(record, restamped=bool(batch.restamped)):
            return [(batch.start, batch.end)]
        tally.refused.append(RefusedRecord(record, refusal_reason(error), plain_words(error)))
        return []

    async def _ready_session(self) -> Session:
        if self._closed:
            raise SendOutage("the Kafka producer is closed")
        if self._session is not None:
            return self._session
        if self._opening is None and asyncio.get_running_loop().time() < self._no_login_until_s:
            raise SendOutage(str(self.last_error))
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="kafka-connect")
            self._opening.add_done_callback(_look_at)
        opening = self._opening
        await asyncio.wait({opening})  # shared: whoever waits may be cancelled without spoiling it for the others
        if opening.cancelled():
            raise SendOutage("the Kafka producer is closed")
        error = opening.exception()
        if isinstance(error, Outage):
            raise SendOutage(str(error)) from error
        return opening.result()

    async def _open(self) -> Session:
        try:
            session = await Session.open(
                self._settings, request_timeout_s=self._request_timeout_s, max_batch_bytes=self._max_batch_bytes
            )
        except Outage as error:
            self._note_down(str(error))
            if isinstance(error, LoginRefused):
                self._no_login_until_s = asyncio.get_running_loop().time() + LOGIN_PAUSE_S
            raise
        finally:
            self._opening = None
        self._session = session
        if self._up is not True:
            log.info("kafka_found", servers=self._settings.address)
        self._up = True
        return session

    def _discard(self, session: Session) -> SendOutage:
        """Throws a lost session away, once; the next send builds another."""
        reason = session.lost.result()
        if session is self._session:
            self._session = None
            self._note_down(reason)
            task = asyncio.create_task(session.close(), name="kafka-discard")
            self._discarding.add(task)
            task.add_done_callback(self._discarding.discard)
        return SendOutage(f"Kafka at {self._settings.address}: {reason}")

    def _note_down(self, reason: str) -> None:
        if self._up is not False:
            log.warning("kafka_lost", servers=self._settings.address, error=reason)
        self._up = False
        self.last_error = reason

    async def close(self, grace_s: float = 5.0) -> None:
        """Gives up what is not confirmed (sends under way raise SendOutage). Returns within about `grace_s`."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            self._discarding.add(self._opening)  # type: ignore[arg-type]  # only waited for
        if self._session is not None:
            session, self._session = self._session, None
            session.lose("the Kafka producer is closed")
            self._discarding.add(asyncio.create_task(session.close(), name="kafka-discard"))
        if self._discarding:
            _, left = await asyncio.wait(set(self._discarding), timeout=grace_s)
            for task in left:
                task.cancel()
            self._discarding.clear()
        self._up = False
