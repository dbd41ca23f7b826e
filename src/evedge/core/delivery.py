"""What becomes of records that are given to Kafka, and what comes back from it.

A send settles each record (confirmed or refused) or leaves it open; what is left open is told by a `SendOutage`, which
carries what was settled before. The caller keeps every record until it is settled and sends the open ones again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from evedge.core.errors import Outage
from evedge.core.model import Record


class RefusalReason(StrEnum):
    """Why Kafka will never take a record: the `reason` of a dead letter."""

    RECORD_TOO_LARGE = "record_too_large"
    INVALID_RECORD = "invalid_record"


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that Kafka refuses for its own fault, and Kafka's words."""

    record: Record
    reason: RefusalReason
    error: str


@dataclass(frozen=True, slots=True)
class SendResult:
    """What is settled. Every record of a send is in `confirmed` or in `refused`, never in both.

    restamped: those of `confirmed` whose timestamp Kafka refused; they are there with another one, `ce_time` unchanged.
    """

    confirmed: tuple[Record, ...] = ()
    refused: tuple[RefusedRecord, ...] = ()
    restamped: tuple[Record, ...] = ()


class SendOutage(Outage):
    """Kafka is away: records that are not in `settled` are open and must be sent again, in their order."""

    def __init__(self, message: str, settled: SendResult | None = None) -> None:
        super().__init__(message)
        self.settled = settled if settled is not None else SendResult()


class TopicUnavailable(SendOutage):
    """Only this topic is held up: it is missing, forbidden, or has no leader. Other topics go on."""


@dataclass(frozen=True, slots=True)
class ConsumedRecord:
    """A record as it was read. `key` and `value` are None where Kafka holds null."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int
