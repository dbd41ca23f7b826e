"""`evedge demo` as a user runs it: telemetry within seconds, a limit from a second terminal, nothing left behind."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from system.harness import DEADLINE_S, INHERITED, evedge

TELEMETRY = re.compile(r"\d\d:\d\d:\d\d  (rp-\d\d)  #(\d+) ")


@asynccontextmanager
async def demo(folder: Path, *arguments: str) -> AsyncIterator[Process]:
    """The demo; its temporary files go to `folder`."""
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "evedge",
        "demo",
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env={**INHERITED, "TMPDIR": str(folder)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def told(process: Process, wanted: re.Pattern[str]) -> re.Match[str]:
    """The next line of its standard output that matches."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        while line := (await process.stdout.readline()).decode():
            if match := wanted.search(line):
                return match
    raise AssertionError("it ended")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_demo_shows_telemetry_takes_a_limit_and_leaves_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    async with demo(folder, "--recharge-points", "2") as process:
        file = Path((await told(process, re.compile(r"--config (\S+)")))[1])
        assert file.is_relative_to(folder)
        seen: set[str] = set()
        while len(seen) < 2:
            seen.add((await told(process, TELEMETRY))[1])
        assert seen == {"rp-01", "rp-02"}
        sent = await evedge("send", "--config", str(file), "rp-01", "set_current_limit", "current_a=10", "--wait", "25")
        assert sent.status == 0, sent
        assert "verified" in sent.stdout
        await told(process, re.compile(r"  rp-01  .*limit 10 A"))
        process.send_signal(number)
        async with asyncio.timeout(DEADLINE_S):
            stdout, stderr = await process.communicate()
        assert process.returncode == 0
    assert stdout.decode().splitlines()[-1] == "evedge: stopped; nothing was left behind"
    assert stderr.decode() == ""
    assert not list(folder.iterdir())


async def test_a_kafka_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    async with demo(tmp_path / "tmp", "--kafka", "127.0.0.1:1") as process:
        async with asyncio.timeout(DEADLINE_S):
            _, stderr = await process.communicate()
        assert process.returncode == 1
    (line,) = stderr.decode().splitlines()
    assert line.startswith("evedge: ")
    assert "127.0.0.1:1" in line
    assert not list((tmp_path / "tmp").iterdir())
