"""What must survive a restart besides the records: the epoch, sequence numbers, commands and desired states.

A file of its own, so that losing the journal loses none of it, and the other way round.

Invariants:
- An epoch is on disk before it is used, and none comes twice.
- `seq` goes on without a gap over a clean stop; after a crash it goes on behind the block that was reserved.
- A command's state and the desired state that it changed are written in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from evedge.core.commands import Command, Step
from evedge.core.desired import Desired
from evedge.core.life import CommandChange, OpenCommand, PendingResult
from evedge.links.database import Database, Row, Statement, typed

FORMAT = 1
SEQ_BLOCK = 10_000
"""Nearly three hours at one poll a second: the disk may be away that long before numbers run ahead of it."""
EPOCH_BEGAN_MS = 1_735_689_600_000  # 2025-01-01: minutes since then are the least an epoch can be
MINUTE_MS = 60_000
LATEST_EPOCH_BY_CLOCK = 1 << 25
"""Minutes of sixty years: a clock that is centuries ahead must not use up the numbers there are."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seq (
    recharge_point TEXT PRIMARY KEY, first INTEGER NOT NULL, next INTEGER NOT NULL, clean INTEGER NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commands (
    id TEXT PRIMARY KEY, forget_at_ms INTEGER NOT NULL, recharge_point TEXT, step TEXT NOT NULL,
    final INTEGER NOT NULL, intent INTEGER NOT NULL, command BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS commands_open ON commands (final) WHERE final = 0;
CREATE INDEX IF NOT EXISTS commands_old ON commands (forget_at_ms);
CREATE TABLE IF NOT EXISTS desired (recharge_point TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (number INTEGER PRIMARY KEY AUTOINCREMENT, mark TEXT UNIQUE, result BLOB NOT NULL);
"""
_META = "INSERT OR REPLACE INTO meta (name, value) VALUES (?,?)"
_SEQ = "INSERT OR REPLACE INTO seq (recharge_point, first, next, clean) VALUES (?,?,?,?)"
_COMMAND = (
    "INSERT OR REPLACE INTO commands (id, forget_at_ms, recharge_point, step, final, intent, command)"
    " VALUES (?,?,?,?,?,?,?)"
)
_DESIRED = "INSERT OR REPLACE INTO desired (recharge_point, state) VALUES (?,?)"
_RESULT = "INSERT OR REPLACE INTO results (mark, result) VALUES (?,?)"
_RESULT_KEPT = "DELETE FROM results WHERE mark = ?"
_FORGET = "DELETE FROM commands WHERE final = 1 AND forget_at_ms < ?"


@dataclass(frozen=True, slots=True)
class Missing:
    """Sequence numbers that a crash may have taken: of first…last some were perhaps lost, and others never used."""

    recharge_point: str
    first: int
    last: int


@dataclass(slots=True)
class _Seq:
    """first: from where on a crash may take numbers. It lags behind by half a block or more, so that a crash just after
    a block was reserved does not hide what was on its way then.
    """

    first: int
    next: int
    reserved: int
    renewed: int


class State:
    """An async context manager: inside, the file is open and the sequence numbers are known."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path, schema=_SCHEMA, version=FORMAT)
        self.missing: tuple[Missing, ...] = ()
        """What the last run's crash may have taken; empty after a clean stop."""
        self._seqs: dict[str, _Seq] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        try:
            rows = await self.database.read("SELECT recharge_point, first, next, clean FROM seq ORDER BY 1")
            missing = []
            for recharge_point, first, following, clean in typed(rows, tuple[str, int, int, int]):
                self._seqs[recharge_point] = _Seq(following, following, following, following)
                if not clean:
                    missing.append(Missing(recharge_point, first, following - 1))
            self.missing = tuple(missing)
        except BaseException:
            await self.database.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Write where the sequence numbers stand, so that they go on without a gap. May be called twice."""
        if not self._closed:
            self._closed = True
            rows: list[Row] = [(name, seq.next, seq.next, 1) for name, seq in self._seqs.items()]
            if rows:
                self.database.write(Statement(_SEQ, rows))
        await self.database.close()

    async def begin_epoch(self, last_epoch: int, now_ms: int) -> int:
        """A new epoch, beyond the last one this file and the caller know; on disk when this returns.

        It is at least the minutes since 2025, so that losing this file repeats none while the clock is right.
        """
        rows = await self.database.read("SELECT value FROM meta WHERE name = 'epoch'")
        known = max((value for (value,) in typed(rows, tuple[int])), default=0)
        by_clock = min((now_ms - EPOCH_BEGAN_MS) // MINUTE_MS, LATEST_EPOCH_BY_CLOCK)
        epoch = max(known + 1, last_epoch + 1, by_clock)
        await self.database.write(Statement(_META, [("epoch", epoch)]))
        return epoch

    # Sequence numbers.

    async def reserve(self, recharge_points: Sequence[str]) -> None:
        """Reserve a block for each, on disk when this returns: call once before the first `next_seq`."""
        rows: list[Row] = []
        for name in recharge_points:
            seq = self._seqs.setdefault(name, _Seq(1, 1, 1, 1))
            rows.append(self._renew(name, seq))
        if rows:
            await self.database.write(Statement(_SEQ, rows))

    def next_seq(self, recharge_point: str) -> int:
        """The next number of this recharge point, from 1. The next block is reserved when half of one is used."""
        seq = self._seqs[recharge_point]
        number = seq.next
        seq.next += 1
        if seq.reserved - seq.next < SEQ_BLOCK // 2:
            self.database.write(Statement(_SEQ, [self._renew(recharge_point, seq)]))
        return number

    @staticmethod
    def _renew(name: str, seq: _Seq) -> Row:
        seq.first, seq.renewed = seq.renewed, seq.next
        seq.reserved = seq.next + SEQ_BLOCK
        return (name, seq.first, seq.reserved, 0)

    # Commands.

    async def known(self, command_id: str) -> bool:
        """Whether a command with this id was seen and is not forgotten yet."""
        return bool(await self.database.read("SELECT 1 FROM commands WHERE id = ?", (command_id,)))

    async def open_commands(self) -> list[OpenCommand]:
        """The commands that have not ended, in no order."""
        rows = await self.database.read("SELECT command, step, intent FROM commands WHERE final = 0")
        return [
            OpenCommand(msgspec.msgpack.decode(command, type=Command), Step(step), bool(intent))
            for command, step, intent in typed(rows, tuple[bytes, str, int])
        ]

    async def ended_commands(self) -> list[str]:
        """The ids of the commands that have ended and are not forgotten, the first to be forgotten first."""
        rows = await self.database.read("SELECT id FROM commands WHERE final = 1 ORDER BY forget_at_ms")
        return [command_id for (command_id,) in typed(rows, tuple[str])]

    async def desired(self) -> dict[str, Desired]:
        """The desired state of each recharge point that has one."""
        rows = await self.database.read("SELECT recharge_point, state FROM desired")
        return {name: msgspec.msgpack.decode(state, type=Desired) for name, state in typed(rows, tuple[str, bytes])}

    async def pending_results(self) -> list[PendingResult]:
        """Results that the journal may not have kept yet, oldest first."""
        rows = await self.database.read("SELECT mark, result FROM results ORDER BY number")
        return [PendingResult(mark, result) for mark, result in typed(rows, tuple[str, bytes])]

    def record(
        self,
        changes: Sequence[CommandChange],
        results: Sequence[PendingResult],
        desired: Sequence[tuple[str, Desired]] = (),
    ) -> asyncio.Future[None]:
        """Write all of it in one transaction; the future resolves when it is on disk."""
        encode = msgspec.msgpack.encode
        statements = [
            Statement(
                _COMMAND,
                [
                    (
                        change.id,
                        change.forget_at_ms,
                        change.recharge_point,
                        change.step,
                        change.final,
                        change.intent,
                        None if change.command is None else encode(change.command),
                    )
                    for change in changes
                ],
            ),
            Statement(_RESULT, [(result.mark, result.result) for result in results]),
            Statement(_DESIRED, [(name, encode(state)) for name, state in desired]),
        ]
        return self.database.write(*(statement for statement in statements if statement.rows))

    def results_kept(self, marks: Sequence[str]) -> None:
        """The journal keeps these results: they need not be sent again."""
        self.database.write(Statement(_RESULT_KEPT, [(mark,) for mark in marks]))

    def forget_commands(self, now_ms: int) -> None:
        """Forget ended commands whose `expires_at` is past: their ids cannot be taken again."""
        self.database.write(Statement(_FORGET, [(now_ms,)]))
