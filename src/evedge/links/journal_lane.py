"""One lane of the journal: a queue whose front is in memory and whose rest is on disk. See `journal`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from evedge.core.lanes import LaneCounts
from evedge.core.model import Record


class Lane:
    """One lane's queue. `behind_from` is the first number that is on disk only; None: nothing is.

    spilled: the numbers of volatile records in memory that have a row.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = LaneCounts()
        self.head: deque[Record] = deque()
        self.head_bytes = 0
        self.taken: dict[int, Record] = {}
        self.behind_from: int | None = None
        self.behind_last = 0
        self.spilled: set[int] = set()
        self.bytes = 0
        self.filled = asyncio.Event()
        self.filling = asyncio.Lock()

    def push(self, record: Record) -> None:
        self.head.append(record)
        self.head_bytes += record.size
        self.filled.set()

    def pop(self) -> Record:
        record = self.head.popleft()
        self.head_bytes -= record.size
        if not self.head and self.behind_from is None:
            self.filled.clear()
        return record

    def put_back(self, records: Sequence[Record]) -> None:
        """`records` are in the order of their numbers; what is in the head already may be older than some of them."""
        if self.head and records and records[-1].number > self.head[0].number:
            self.head = deque(sorted((*records, *self.head), key=number_of))
        else:
            self.head.extendleft(reversed(records))
        self.head_bytes += sum(record.size for record in records)
        if self.head:
            self.filled.set()

    def has_row(self, record: Record) -> bool:
        return record.durable or record.number in self.spilled


def number_of(record: Record) -> int:
    """The order of records."""
    return record.number
