"""The journal: every accepted record until Kafka confirmed it or it was dropped with a reason.

Each Kafka topic is a lane, sent in the order of acceptance. A lane is a queue whose front is in memory and whose rest,
when it does not fit there, is on disk:

    taken (given to the forwarder) | head (memory, oldest first) | behind (on disk only) | the next one

Durable records have a row on disk from the moment their promise is made, wherever in the lane they stand. Volatile ones
have a row only when they are spilled: behind a full head, while Kafka is away, or at a clean stop.

Invariants:
- accepted = confirmed + waiting + dropped, per lane, at every moment.
- Numbers only grow, over restarts too; a lane gives its records in the order of their numbers.
- A row goes only after Kafka confirmed its record or it was dropped.
- What waits is at most `max_bytes` (keys, headers, values): beyond it durable accepts wait or the oldest are dropped,
  as `when_full` says, and volatile records are dropped. One accept that is larger than all of `max_bytes` is let into
  an empty journal, or it would wait for ever and everything behind it.

Does not know Kafka, MQTT or what a record means.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from evedge.core.cloudevents import COUNTER_BITS
from evedge.core.errors import EvedgeError, Outage
from evedge.core.lanes import DeadLetter, DropReason, LaneCounts, WhenFull
from evedge.core.model import Record
from evedge.links.database import Database, Row, Statement, typed
from evedge.links.journal_lane import Lane, number_of
from evedge.links.journal_rows import (
    DEAD_LETTERS,
    DELETE,
    DELETE_RECEIVED,
    DELETE_SESSION,
    FORMAT,
    INSERT,
    INSERT_DEAD,
    INSERT_RECEIVED,
    LOAD,
    LOAD_FLOOR,
    LOAD_RECEIVED,
    MAX_DEAD_LETTER_BYTES,
    MAX_DEAD_LETTERS,
    PAGE,
    SCHEMA,
    SET_FLOOR,
    TRIM_DEAD,
    dead_letter_of,
    dead_letter_row,
    record_of,
    record_row,
)

log = structlog.get_logger()

HEAD_BYTES = 4 * 1024 * 1024
HEAD_RECORDS = 8192
MAX_UNWRITTEN_BYTES = 16 * 1024 * 1024


class Journal:
    """An async context manager: inside, the file is open and what an earlier run left is known and waiting.

    head_records and head_bytes: how much of each lane is in memory before the rest goes to disk only.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        when_full: WhenFull = WhenFull.BLOCK,
        head_records: int = HEAD_RECORDS,
        head_bytes: int = HEAD_BYTES,
    ) -> None:
        self.max_bytes = max_bytes
        self.when_full = when_full
        self.bytes = 0
        self.database = Database(path, schema=SCHEMA, version=FORMAT)
        self._head_records = head_records
        self._head_bytes = head_bytes
        self._lanes: dict[str, Lane] = {}
        self._number = 0
        self._received: dict[str, set[int]] = {}
        self._held: deque[tuple[Sequence[Record], Sequence[tuple[str, int]], asyncio.Future[None]]] = deque()
        self._unwritten_bytes = 0
        self._unwritten: dict[asyncio.Future[None], Sequence[Record]] = {}  # volatile ones on their way to disk
        self._fills: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        waiting = sum(lane.counts.waiting for lane in self._lanes.values())
        return f"<Journal {self.bytes / 1e6:.1f} MB, {waiting} waiting, {len(self._held)} held>"

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        try:
            await self._load()
        except BaseException:
            await self.database.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Put every record that waits on disk and close the file. May be called twice.

        What was held back for lack of room fails with Outage: nobody may promise it.
        """
        if self._closed:
            await self.database.close()
            return
        self._closed = True
        for _, _, done in self._held:
            if not done.done():
                done.set_exception(Outage("the journal closes before it had room"))
                done.exception()  # its publisher may be gone
        self._held.clear()
        await asyncio.gather(*self._fills, return_exceptions=True)
        self._spill()
        await self.database.close()
        for done, records in self._unwritten.items():
            if not done.done() or done.cancelled() or done.exception() is not None:
                for record in records:
                    self._lane(record.lane).counts.dropped[DropReason.DISK] += 1
                log.error("records_lost", count=len(records), reason="the disk did not take them before the stop")
        self._unwritten.clear()

    async def _load(self) -> None:
        lanes = await self.database.read(LOAD)
        for name, count, size, first, last in typed(lanes, tuple[str, int, int, int, int]):
            lane = self._lane(name)
            lane.counts.accepted = count
            lane.bytes = size
            lane.behind_from, lane.behind_last = first, last
            lane.filled.set()
            self.bytes += size
            self._number = max(self._number, last)
        for (floor,) in typed(await self.database.read(LOAD_FLOOR), tuple[int]):
            self._number = max(self._number, floor)
        received = await self.database.read(LOAD_RECEIVED)
        for client_id, packet_id in typed(received, tuple[str, int]):
            self._received.setdefault(client_id, set()).add(packet_id)

    @property
    def last_number(self) -> int:
        """The highest number given so far, or found in the file."""
        return self._number

    def start_epoch(self, epoch: int) -> None:
        """Numbers go on from this epoch's first. Raises ValueError for one that is not beyond all that was given.

        The epoch is kept here too, so that none comes twice while either of the two files is there.
        """
        if epoch << COUNTER_BITS <= self._number:
            raise ValueError(f"epoch {epoch} is not beyond number {self._number}")
        self._number = epoch << COUNTER_BITS
        self.database.write(Statement(SET_FLOOR, [(self._number,)]))

    # Accepting.

    def accept(
        self, records: Sequence[Record], received: Sequence[tuple[str, int]] = ()
    ) -> asyncio.Future[None] | None:
        """Keep the records, and the QoS 2 ids (client id, packet id) that came with them.

        None: there is nothing to wait for. A future: it resolves when every durable one is on disk, or raises Outage
        when the journal closes first.
        """
        durable = bool(received) or any(record.durable for record in records)
        if self._closed or self._held or not self._make_room(sum(record.size for record in records)):
            if durable:
                return self._hold(records, received)
            for record in records:
                lane = self._lane(record.lane)
                lane.counts.accepted += 1
                lane.counts.dropped[DropReason.JOURNAL_FULL] += 1
            return None
        return self._keep(records, received)

    def _hold(self, records: Sequence[Record], received: Sequence[tuple[str, int]]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(Outage("the journal is closed"))
            done.exception()  # as above
        else:
            self._held.append((records, received, done))
        return done

    def _make_room(self, size: int) -> bool:
        """Whether `size` more bytes may come in; the oldest records may go for it."""
        too_much = self.bytes + size - self.max_bytes
        if too_much <= 0 or not self.bytes:
            return True
        if self.when_full is WhenFull.BLOCK:
            return False
        going: defaultdict[str, list[Record]] = defaultdict(list)
        lanes = sorted(self._lanes.values(), key=lambda lane: lane.bytes, reverse=True)
        for lane in lanes:
            while too_much > 0 and lane.head:
                record = lane.pop()
                going[lane.name].append(record)
                too_much -= record.size
            if too_much > 0 and lane.behind_from is not None:
                # The oldest are on disk only. They can go as soon as they are read.
                self._start_fill(lane)
                break
        for name, records in going.items():
            self._remove(self._lane(name), records, DropReason.JOURNAL_FULL)
        return self.bytes + size <= self.max_bytes or not self.bytes

    def _start_fill(self, lane: Lane) -> None:
        if not lane.filling.locked():
            filling = asyncio.create_task(self._fill(lane), name=f"journal[{lane.name}]")
            self._fills.add(filling)
            filling.add_done_callback(self._filled)

    def _filled(self, filling: asyncio.Task[None]) -> None:
        self._fills.discard(filling)
        if not filling.cancelled() and filling.exception() is not None:
            log.error("journal_unreadable", error=str(filling.exception()))

    def _keep(self, records: Sequence[Record], received: Sequence[tuple[str, int]]) -> asyncio.Future[None] | None:
        placed = self._place(records)
        durable = bool(received) or any(record.durable for record in placed)
        statements = [Statement(INSERT, [record_row(record) for record in placed])] if placed else []
        if received:
            statements.append(Statement(INSERT_RECEIVED, list(received)))
            for client_id, packet_id in received:
                self._received.setdefault(client_id, set()).add(packet_id)
        if not statements:
            return None
        done = self._write(placed, *statements)
        return done if durable else None

    def _place(self, records: Sequence[Record]) -> list[Record]:
        """Number the records and put each at the end of its lane. Returns those that are to be written."""
        to_write: list[Record] = []
        for unnumbered in records:
            self._number += 1
            record = replace(unnumbered, number=self._number)
            lane = self._lane(record.lane)
            lane.counts.accepted += 1
            full = lane.head_bytes >= self._head_bytes or len(lane.head) >= self._head_records
            behind = lane.behind_from is not None or full
            if behind and not record.durable and (self.database.trouble or self._unwritten_bytes > MAX_UNWRITTEN_BYTES):
                lane.counts.dropped[DropReason.DISK] += 1
                continue
            lane.bytes += record.size
            self.bytes += record.size
            if behind:
                if lane.behind_from is None:
                    lane.behind_from = record.number
                lane.behind_last = record.number
            else:
                lane.push(record)
            if behind or record.durable:
                to_write.append(record)
        return to_write

    def _write(self, records: Sequence[Record], *statements: Statement) -> asyncio.Future[None]:
        size = sum(record.size for record in records)
        volatile = [record for record in records if not record.durable]
        self._unwritten_bytes += size
        done = self.database.write(*statements)
        if volatile:
            self._unwritten[done] = volatile

        def written(done: asyncio.Future[None]) -> None:
            self._unwritten_bytes -= size
            if volatile and not self._closed:
                self._unwritten.pop(done, None)

        done.add_done_callback(written)
        return done

    def _admit(self) -> None:
        """Let in what was held back, in order, as far as there is room."""
        while self._held:
            records, received, done = self._held[0]
            if done.cancelled():
                self._held.popleft()
                continue
            if not self._make_room(sum(record.size for record in records)):
                return
            self._held.popleft()
            kept = self._keep(records, received)
            if kept is None:
                done.set_result(None)
            else:
                kept.add_done_callback(partial(_pass_on, done))

    def release(self, client_id: str, packet_ids: Sequence[int]) -> asyncio.Future[None] | None:
        """Forget QoS 2 ids. None: none of them was kept. A future: it resolves when that is on disk."""
        kept = self._received.get(client_id, set())
        ids = [packet_id for packet_id in packet_ids if packet_id in kept]
        if not ids:
            return None
        kept.difference_update(ids)
        if not kept:
            del self._received[client_id]
        return self.database.write(Statement(DELETE_RECEIVED, [(client_id, packet_id) for packet_id in ids]))

    def received_ids(self, client_id: str) -> frozenset[int]:
        """The QoS 2 ids of this client that were accepted and not released."""
        return frozenset(self._received.get(client_id, ()))

    def forget_session(self, client_id: str) -> None:
        """The client's session ended: its QoS 2 ids mean nothing any more."""
        if self._received.pop(client_id, None) is not None:
            self.database.write(Statement(DELETE_SESSION, [(client_id,)]))

    # Sending.

    async def wait(self, lane: str) -> None:
        """Until the lane has a record that was not taken yet."""
        await self._lane(lane).filled.wait()

    async def take(self, lane: str, max_records: int, max_bytes: int) -> list[Record]:
        """The next records of the lane, oldest first, at least one where there is one.

        Each must be confirmed, given back or dropped.
        """
        queue = self._lane(lane)
        if not queue.head and queue.behind_from is not None:
            await self._fill(queue)
        records: list[Record] = []
        size = 0
        while queue.head and len(records) < max_records:
            size += queue.head[0].size
            if records and size > max_bytes:
                break
            record = queue.pop()
            queue.taken[record.number] = record
            records.append(record)
        return records

    async def _fill(self, lane: Lane) -> None:
        async with lane.filling:
            if not lane.head and lane.behind_from is not None:
                await self._read_behind(lane, lane.behind_from)
        self._admit()

    async def _read_behind(self, lane: Lane, first: int) -> None:
        asked_until = lane.behind_last
        rows = await self.database.read(PAGE, (lane.name, first, self._head_records))
        behind_from = asked_until + 1  # what comes while the disk is read has a higher number
        for row in typed(rows, tuple[int, int, int, bytes, bytes, bytes]):
            record = record_of(lane.name, row)
            if lane.head_bytes >= self._head_bytes:
                behind_from = record.number
                break
            if not record.durable:
                lane.spilled.add(record.number)
            lane.push(record)
        else:
            if len(rows) == self._head_records:
                behind_from = lane.head[-1].number + 1
        lane.behind_from = behind_from if behind_from <= lane.behind_last else None
        if not lane.head and lane.behind_from is None:
            lane.filled.clear()

    def confirm(self, lane: str, records: Iterable[Record]) -> None:
        """Kafka acknowledged these: they are forgotten."""
        self._forget(self._lane(lane), records, None)

    def drop(self, lane: str, records: Iterable[Record], reason: DropReason) -> None:
        """These will never be sent: they are forgotten, and counted with the reason."""
        self._forget(self._lane(lane), records, reason)

    def give_back(self, lane: str, records: Iterable[Record]) -> None:
        """These were taken and not confirmed: they are the lane's next ones again."""
        queue = self._lane(lane)
        known = [record for record in records if queue.taken.pop(record.number, None) is not None]
        queue.put_back(sorted(known, key=number_of))

    def refuse(self, dead: DeadLetter, letter: Record | None) -> asyncio.Future[None] | None:
        """`dead.record` cannot be delivered: `letter` goes to its own lane, and people can look at it.

        A record without a number was never in its lane: it counts as accepted and dropped at once. Returns what
        accepting the letter returns.
        """
        record = dead.record
        kept_bytes = min(MAX_DEAD_LETTER_BYTES, self.max_bytes // 4)
        shown = (
            Statement(INSERT_DEAD, [dead_letter_row(dead)]),
            Statement(TRIM_DEAD, [(MAX_DEAD_LETTERS, kept_bytes)]),
        )
        if not record.number:
            lane = self._lane(record.lane)
            lane.counts.accepted += 1
            lane.counts.dropped[DropReason.DEAD_LETTER] += 1
            kept = None if letter is None else self.accept([letter])
            if not self._closed:
                self.database.write(*shown)
            return kept
        # The letter takes the record's place, in one transaction and whether there is room or not.
        placed = self._place([letter] if letter is not None else [])
        rows = self._settle(self._lane(record.lane), [record], DropReason.DEAD_LETTER)
        done = self._write(
            placed,
            *([Statement(INSERT, [record_row(one) for one in placed])] if placed else []),
            *shown,
            *([Statement(DELETE, rows)] if rows else []),
        )
        self._admit()
        return done

    def _forget(self, lane: Lane, records: Iterable[Record], reason: DropReason | None) -> None:
        self._remove(lane, records, reason)
        self._admit()

    def _remove(self, lane: Lane, records: Iterable[Record], reason: DropReason | None) -> None:
        rows = self._settle(lane, records, reason)
        if rows:
            self.database.write(Statement(DELETE, rows))

    def _settle(self, lane: Lane, records: Iterable[Record], reason: DropReason | None) -> list[Row]:
        """Count the records as confirmed (no reason) or dropped. Returns the keys of the rows that may go."""
        rows: list[Row] = []
        for record in records:
            lane.taken.pop(record.number, None)
            lane.bytes -= record.size
            self.bytes -= record.size
            if reason is None:
                lane.counts.confirmed += 1
            else:
                lane.counts.dropped[reason] += 1
            if lane.has_row(record):
                rows.append((record.number,))
                lane.spilled.discard(record.number)
        return rows

    def spill(self) -> None:
        """Write every volatile record that is in memory only to disk, oldest first."""
        if not self.database.trouble:
            self._spill()

    def _spill(self) -> None:
        for lane in self._lanes.values():
            records = [record for record in (*lane.taken.values(), *lane.head) if not lane.has_row(record)]
            if records:
                lane.spilled.update(map(number_of, records))
                self._write(records, Statement(INSERT, [record_row(record) for record in records]))

    # Looking.

    def lanes(self) -> Mapping[str, LaneCounts]:
        """Each lane's counts."""
        return {name: lane.counts for name, lane in self._lanes.items()}

    async def dead_letters(self) -> list[DeadLetter]:
        """The last MAX_DEAD_LETTERS records that could not be delivered, oldest first."""
        rows = await self.database.read(DEAD_LETTERS)
        return [dead_letter_of(row) for row in typed(rows, tuple[int, int, str, str, str, str, bytes, bytes, bytes])]

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name)
        return lane


def _pass_on(done: asyncio.Future[None], kept: asyncio.Future[None]) -> None:
    if done.done():
        return
    if kept.cancelled():
        done.cancel()
        return
    error = kept.exception()
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error if isinstance(error, EvedgeError) else EvedgeError(str(error)))
        done.exception()  # its publisher may be gone
