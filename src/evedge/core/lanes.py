"""What a journal's lanes are counted in, and what becomes of records that cannot be delivered.

A lane is the way of one Kafka topic's records: each lane is sent in order and holds up no other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from evedge.core.model import Record


class WhenFull(StrEnum):
    """What happens to durable records when the journal is full."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"


class DropReason(StrEnum):
    """Why a record was dropped; the `reason` of `evedge_messages_dropped_total`."""

    DEAD_LETTER = "dead_letter"
    JOURNAL_FULL = "journal_full"
    DISK = "disk"


@dataclass(slots=True)
class LaneCounts:
    """How many records of a lane met which end since the process started. Waiting is what is left."""

    accepted: int = 0
    confirmed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def waiting(self) -> int:
        return self.accepted - self.confirmed - self.dropped.total()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be delivered, as the journal keeps it for people to look at."""

    at_ms: int
    kafka_topic: str
    mqtt_topic: str
    reason: str
    error: str
    record: Record
