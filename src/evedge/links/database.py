"""One SQLite file behind one writer thread, with group commit.

The loop hands over work and gets futures back; the thread does what waits in one transaction and syncs once for all of
it. Idle, a write is committed at once; what arrives while a commit runs goes into the next one; under load a few
milliseconds are gathered. A future resolves only after the sync: who waits for it may promise.

Invariants:
- One connection, used by the thread only (two connections can meet SQLite's WAL-reset defect before 3.51.3).
- Work is done in the order it was handed over; a read sees every write handed over before it.
- Trouble with the disk (full, read-only, damaged, I/O error) loses nothing: the transaction is tried again until it
  succeeds or the file is closed; meanwhile `trouble` says what is wrong.
- Anything else is a defect. It fails the future of the write it is in, and of no other.

Knows nothing of what the tables mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

import msgspec
import structlog

from evedge.core.errors import EvedgeError, Outage

log = structlog.get_logger()

Row: TypeAlias = tuple[object, ...]
T = TypeVar("T")
GATHER_S = 0.002
RETRY_S = 1.0
MAX_BATCH = 2000
CLOSE_S = 5.0
DEFECTS = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)
"""SQLite's codes for what is wrong with a statement or its values. All others are trouble with the disk."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement and the rows it runs for."""

    sql: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class _Write:
    statements: Sequence[Statement]
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Read:
    sql: str
    parameters: Row
    done: asyncio.Future[list[Row]]


class Database:
    """An async context manager: inside, the file is open and its thread runs; after, everything handed over is on disk.

    schema: SQL that makes the tables where they are missing. version: stored in the file; a file with a newer one is
    refused, never touched.
    """

    def __init__(self, path: Path, *, schema: str, version: int, retry_s: float = RETRY_S) -> None:
        self.path = path
        self.trouble: str | None = None
        self.on_trouble: Callable[[str | None], None] | None = None
        """Called on the loop when `trouble` appears (its text) and when it is over (None)."""
        self._schema = schema
        self._version = version
        self._retry_s = retry_s
        self._work: queue.SimpleQueue[_Write | _Read | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Database {self.path.name}, {self._work.qsize()} waiting{', ' + self.trouble if self.trouble else ''}>"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name=f"database[{self.path.name}]")
        self._thread.start()
        try:
            await opened
        except BaseException:
            # Cancelled, or it cannot be opened: no thread is left behind that waits for work.
            self._thread = None
            self._closing.set()
            self._work.put(None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what was handed over, or give up after CLOSE_S where the disk is in trouble. May be called twice."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._closing.set()
        self._work.put(None)
        await asyncio.to_thread(thread.join, CLOSE_S)

    def write(self, *statements: Statement) -> asyncio.Future[None]:
        """Run the statements in one transaction. The future resolves when it is on disk."""
        done: asyncio.Future[None] = self._running_loop().create_future()
        self._work.put(_Write(statements, done))
        return done

    async def read(self, sql: str, parameters: Row = ()) -> list[Row]:
        """All rows of a query, which sees every write handed over before it."""
        done: asyncio.Future[list[Row]] = self._running_loop().create_future()
        self._work.put(_Read(sql, parameters, done))
        return await done

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._thread is None:
            raise Outage(f"{self.path} is closed")
        return self._loop

    # What follows runs on the thread.

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            connection = self._open()
        except (sqlite3.Error, OSError, EvedgeError) as error:
            self._tell(_fail_opening, opened, self._cannot_open(error))
            return
        self._tell(_resolve_opening, opened)
        try:
            self._serve(connection)
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _cannot_open(self, error: Exception) -> EvedgeError:
        if isinstance(error, EvedgeError):
            return error
        return Outage(f"cannot open {self.path}: {error.strerror if isinstance(error, OSError) else error}")

    def _open(self) -> sqlite3.Connection:
        # The file must never be readable by others, not even between its creation and a chmod.
        opened = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(opened).st_mode & 0o077:
                os.fchmod(opened, 0o600)
        finally:
            os.close(opened)
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > self._version:
                raise EvedgeError(
                    f"{self.path} has format {found}, this evedge knows {self._version}: "
                    "it was written by a newer version; run that one, or move the file away"
                )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 1000")
            connection.execute("PRAGMA journal_size_limit = 16777216")
            connection.executescript(self._schema)
            if found != self._version:  # a start on a full disk writes nothing
                connection.execute(f"PRAGMA user_version = {self._version}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _serve(self, connection: sqlite3.Connection) -> None:
        busy = False
        while True:
            first = self._work.get()
            if busy and not self._closing.is_set():
                self._closing.wait(GATHER_S)
            writes, read, last = self._gather(first)
            busy = len(writes) > 1
            if writes:
                self._commit(connection, writes)
            if read is not None:
                self._answer(connection, read)
            if last:
                return

    def _gather(self, first: _Write | _Read | None) -> tuple[list[_Write], _Read | None, bool]:
        """What waits, up to the next read (which must see the writes before it) or the end."""
        writes: list[_Write] = []
        item = first
        while True:
            if item is None:
                return writes, None, True
            if isinstance(item, _Read):
                return writes, item, False
            writes.append(item)
            if len(writes) >= MAX_BATCH:
                return writes, None, False
            try:
                item = self._work.get_nowait()
            except queue.Empty:
                return writes, None, False

    def _commit(self, connection: sqlite3.Connection, writes: Sequence[_Write]) -> None:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                for write in writes:
                    for statement in write.statements:
                        connection.executemany(statement.sql, statement.rows)
                connection.execute("COMMIT")
            except Exception as error:  # noqa: BLE001 -- values that SQLite cannot take raise any kind; the thread must live
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                if _is_defect(error):
                    self._fail_guilty(connection, writes, error)
                    return
                self._report(str(error))
                if self._closing.wait(self._retry_s):
                    self._tell(_fail, writes, Outage(f"{self.path}: {error}"))
                    return
            else:
                self._report(None)
                self._tell(_resolve, writes)
                return

    def _fail_guilty(self, connection: sqlite3.Connection, writes: Sequence[_Write], error: Exception) -> None:
        """Something in one of these writes is a defect: the others must not suffer from sharing its transaction."""
        if len(writes) == 1:
            log.error("write_failed", file=str(self.path), error=str(error))
            self._tell(_fail, writes, EvedgeError(f"{self.path}: {error}"))
            return
        for write in writes:
            self._commit(connection, [write])

    def _answer(self, connection: sqlite3.Connection, read: _Read) -> None:
        try:
            rows = connection.execute(read.sql, read.parameters).fetchall()
        except Exception as error:  # noqa: BLE001 -- as above
            kind = EvedgeError if _is_defect(error) else Outage
            self._tell(_fail, [read], kind(f"{self.path}: {error}"))
        else:
            self._tell(_deliver, read, rows)

    def _report(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is None:
            log.info("disk_recovered", file=str(self.path))
        else:
            log.error("disk_failed", file=str(self.path), error=trouble, retry_in_s=self._retry_s)
        if self.on_trouble is not None:
            self._tell(self.on_trouble, trouble)

    def _tell(self, call: Callable[..., object], *args: object) -> None:
        assert self._loop is not None  # noqa: S101 -- set before the thread starts
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *args)


def _is_defect(error: Exception) -> bool:
    if not isinstance(error, sqlite3.Error):
        return not isinstance(error, MemoryError)
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF in DEFECTS


def _resolve_opening(opened: asyncio.Future[None]) -> None:
    if not opened.done():
        opened.set_result(None)


def _fail_opening(opened: asyncio.Future[None], reason: EvedgeError) -> None:
    if not opened.done():
        opened.set_exception(reason)


def _resolve(writes: Sequence[_Write]) -> None:
    for write in writes:
        if not write.done.done():
            write.done.set_result(None)


def _deliver(read: _Read, rows: list[Row]) -> None:
    if not read.done.done():
        read.done.set_result(rows)


def _fail(works: Sequence[_Write | _Read], reason: EvedgeError) -> None:
    for work in works:
        if not work.done.done():
            work.done.set_exception(reason)
            work.done.exception()  # nobody may be waiting: volatile records are written without a promise


def typed(rows: Sequence[Row], shape: type[T]) -> list[T]:
    """The rows of a query as tuples of known types."""
    return msgspec.convert(rows, list[shape])  # type: ignore[valid-type]
