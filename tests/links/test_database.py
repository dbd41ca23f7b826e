"""One file behind one thread: what is promised when a future resolves, and what happens when the disk takes nothing."""

import asyncio
import contextlib
import os
import resource
import sqlite3
import threading

import pytest

from evedge.core.errors import EvedgeError, Outage
from evedge.links.database import Database, Statement, typed

SCHEMA = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, size INTEGER NOT NULL, content BLOB);"
INSERT = "INSERT INTO things (name, size, content) VALUES (?,?,?)"
NAMES = "SELECT name FROM things ORDER BY name"
COUNT = "SELECT count(*) FROM things"


def database(tmp_path, **changed):
    return Database(tmp_path / "things.db", **{"schema": SCHEMA, "version": 1, "retry_s": 0.02, **changed})


def thing(name, content=b""):
    return Statement(INSERT, [(name, len(content), content)])


def names_on_disk(tmp_path):
    with sqlite3.connect(tmp_path / "things.db") as connection:
        found = [name for (name,) in connection.execute(NAMES)]
    connection.close()
    return found


async def hold_thread(opened):
    """Makes the thread busy until the returned function is called, so that what follows waits for it together."""
    entered, release = threading.Event(), threading.Event()

    def held():
        entered.set()
        release.wait(10)
        return "held"

    class Held:
        def __conform__(self, protocol):  # SQLite asks this while it binds the value, on the thread
            return held()

    first = opened.write(Statement(INSERT, [(Held(), 0, b"")]))
    await asyncio.to_thread(entered.wait, 10)
    return first, release.set


async def test_a_resolved_write_is_on_disk(tmp_path):
    async with database(tmp_path) as opened:
        await opened.write(thing("one"))
        assert names_on_disk(tmp_path) == ["one"]


async def test_what_waits_goes_into_one_transaction(tmp_path):
    async with database(tmp_path) as opened:
        first, release = await hold_thread(opened)
        # Each transaction adds at least one page to the write-ahead log with its commit: count them there.
        writes = [opened.write(thing(f"{number:03}")) for number in range(100)]
        release()
        await asyncio.gather(first, *writes)
        assert commits(tmp_path) <= 4  # the schema, its version, the first write, and all hundred


def commits(tmp_path):
    """Commit frames in the write-ahead log: those whose header names the size of the database after it."""
    log = (tmp_path / "things.db-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    frames = range(32, len(log), 24 + page)
    return sum(int.from_bytes(log[start + 4 : start + 8], "big") > 0 for start in frames)


async def test_lone_writes_have_a_transaction_each(tmp_path):
    async with database(tmp_path) as opened:
        await opened.write(thing("zero"))
        before = commits(tmp_path)
        for number in range(5):
            await opened.write(thing(str(number)))
        assert commits(tmp_path) == before + 5


async def test_a_read_sees_the_writes_handed_over_before_it(tmp_path):
    async with database(tmp_path) as opened:
        opened.write(thing("one"))
        opened.write(thing("two"))
        assert await opened.read(NAMES) == [("one",), ("two",)]


async def test_writes_are_done_in_their_order_around_reads(tmp_path):
    async with database(tmp_path) as opened:
        opened.write(thing("one"))
        read = asyncio.ensure_future(opened.read(NAMES))
        await asyncio.sleep(0)
        gone = opened.write(Statement("DELETE FROM things WHERE name = ?", [("one",)]))
        assert await read == [("one",)]
        await gone
        assert await opened.read(NAMES) == []


async def test_more_than_a_batch_is_written_too(tmp_path):
    async with database(tmp_path) as opened:
        first, release = await hold_thread(opened)
        writes = [opened.write(thing(f"{number:05}")) for number in range(4500)]
        release()
        await asyncio.gather(first, *writes)
        assert typed(await opened.read(COUNT), tuple[int]) == [(4501,)]


@contextlib.contextmanager
def full_disk():
    """No file of this process may grow beyond a few pages: the nearest thing to a full disk that needs no root."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


async def until_trouble(opened):
    appeared = asyncio.Event()
    opened.on_trouble = lambda trouble: appeared.set()
    await appeared.wait()


async def test_a_full_disk_loses_nothing_and_recovers_by_itself(tmp_path):
    async with database(tmp_path) as opened:
        await opened.write(thing("before"))
        with full_disk():
            big = opened.write(thing("big", bytes(200_000)))
            await until_trouble(opened)
            small = opened.write(thing("small"))
            assert opened.trouble
            assert not big.done()
            assert "disk" in repr(opened)
        recovered = []
        opened.on_trouble = recovered.append
        await asyncio.gather(big, small)
        assert opened.trouble is None
        assert recovered == [None]
        assert await opened.read(NAMES) == [("before",), ("big",), ("small",)]
    assert names_on_disk(tmp_path) == ["before", "big", "small"]


async def test_closing_on_a_full_disk_fails_what_waits_with_an_outage(tmp_path):
    opened = database(tmp_path)
    async with opened:
        with full_disk():
            big = opened.write(thing("big", bytes(200_000)))
            await until_trouble(opened)
            behind = opened.write(thing("behind", bytes(200_000)))
            await opened.close()
        for write in (big, behind):
            with pytest.raises(Outage, match=r"things\.db: "):
                await write
    assert names_on_disk(tmp_path) == []


async def test_closing_writes_what_was_handed_over(tmp_path):
    async with database(tmp_path) as opened:
        writes = [opened.write(thing(f"{number:03}")) for number in range(50)]
    assert all(write.done() and write.exception() is None for write in writes)
    assert len(names_on_disk(tmp_path)) == 50


async def test_closing_twice_is_closing_once(tmp_path):
    async with database(tmp_path) as opened:
        await opened.close()
        await opened.close()
        with pytest.raises(Outage, match="is closed"):
            opened.write(thing("late"))
        with pytest.raises(Outage, match="is closed"):
            await opened.read(NAMES)


@pytest.mark.parametrize(
    "bad",
    [
        Statement("INSERT INTO nowhere VALUES (?)", [(1,)]),
        Statement(INSERT, [("lone surrogate \ud800", 0, b"")]),
        Statement(INSERT, [("too big", 1 << 63, b"")]),
        Statement(INSERT, [("not a value", object(), b"")]),
        Statement(INSERT, [("too few",)]),
        Statement(INSERT, [("null", None, b"")]),
    ],
    ids=lambda statement: str(statement.rows[0][0]).encode("ascii", "replace").decode(),
)
async def test_a_defect_fails_its_own_write_and_no_other(tmp_path, bad):
    async with database(tmp_path) as opened:
        first, release = await hold_thread(opened)
        before, wrong, after = opened.write(thing("before")), opened.write(bad), opened.write(thing("after"))
        release()
        await asyncio.gather(first, before, after)
        with pytest.raises(EvedgeError) as caught:
            await wrong
        assert not isinstance(caught.value, Outage)
        assert opened.trouble is None
    assert names_on_disk(tmp_path) == ["after", "before", "held"]


async def test_a_defect_leaves_nothing_of_its_write_behind(tmp_path):
    async with database(tmp_path) as opened:
        with pytest.raises(EvedgeError):
            await opened.write(thing("half"), Statement("INSERT INTO nowhere VALUES (?)", [(1,)]))
        assert await opened.read(NAMES) == []


async def test_a_read_that_cannot_be_done_fails_alone(tmp_path):
    async with database(tmp_path) as opened:
        with pytest.raises(EvedgeError, match="no such table"):
            await opened.read("SELECT * FROM nowhere")
        await opened.write(thing("one"))
        assert await opened.read(NAMES) == [("one",)]


async def test_who_stops_waiting_stops_nothing(tmp_path):
    async with database(tmp_path) as opened:
        first, release = await hold_thread(opened)
        write = opened.write(thing("one"))
        write.cancel()
        release()
        await first
        assert await opened.read(NAMES) == [("held",), ("one",)]


async def test_a_newer_format_is_refused_and_not_touched(tmp_path):
    async with database(tmp_path, version=2) as opened:
        await opened.write(thing("precious"))
    before = (tmp_path / "things.db").read_bytes()
    with pytest.raises(EvedgeError, match="has format 2, this evedge knows 1") as caught:
        await database(tmp_path, version=1).__aenter__()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "things.db").read_bytes() == before


async def test_opening_again_writes_nothing(tmp_path):
    async with database(tmp_path) as opened:
        await opened.write(thing("one"))
    async with database(tmp_path):
        log = tmp_path / "things.db-wal"
        assert not log.exists() or log.stat().st_size == 0


def a_directory(path):
    path.mkdir()


def no_database(path):
    path.write_bytes(b"this is a text, however long it may be, and no database at all" * 100)


@pytest.mark.parametrize("make", [a_directory, no_database])
async def test_what_cannot_be_opened_gives_one_line(tmp_path, make):
    path = tmp_path / "things.db"
    make(path)
    with pytest.raises(Outage) as caught:
        await database(tmp_path).__aenter__()
    assert str(caught.value).startswith(f"cannot open {path}: ")
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)


async def test_a_missing_directory_gives_one_line(tmp_path):
    with pytest.raises(Outage, match=r"nowhere/things.db: No such file or directory$"):
        await database(tmp_path / "nowhere").__aenter__()


async def test_a_file_that_could_not_be_opened_is_closed_for_writes(tmp_path):
    a_directory(tmp_path / "things.db")
    unopened = database(tmp_path)
    with pytest.raises(Outage, match="cannot open"):
        await unopened.__aenter__()
    with pytest.raises(Outage, match="is closed"):
        unopened.write(thing("late"))
    await unopened.close()


async def test_an_opening_that_is_cancelled_leaves_no_thread(tmp_path):
    opening = asyncio.create_task(database(tmp_path).__aenter__())
    await asyncio.sleep(0)
    threads = [thread for thread in threading.enumerate() if thread.name == "database[things.db]"]
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


async def test_no_file_can_be_read_by_others(tmp_path):
    (tmp_path / "things.db").touch(mode=0o644)
    before = os.umask(0)
    try:
        async with database(tmp_path) as opened:
            await opened.write(thing("secret"))
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"things.db": 0o600, "things.db-wal": 0o600, "things.db-shm": 0o600}
