"""`evedge journal` as a program: it asks the running gateway, and opens the files only when none runs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from evedge.core.lanes import DeadLetter
from evedge.core.model import Record
from evedge.core.status import JournalStat, Letter, journal_of, letters_of, queues_of
from evedge.links.journal import Journal
from evedge.links.lock import StateLock
from evedge.web.control import ControlServer

CONFIG = """
[gateway]
id = "site-042"
state_dir = "state"
[mqtt]
bind = "127.0.0.1:0"
[kafka]
[web]
bind = ""
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "evedge.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def state_dir(config: Path) -> Path:
    path = config.parent / "state"
    path.mkdir()
    return path


async def journal_command(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "evedge",
        "journal",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode(), err.decode()


async def fill(journal: Journal) -> None:
    """Two records wait, and one could not be delivered."""
    record = Record("factory.energy", b"k", b"1", (), 0, durable=True)
    kept = journal.accept([record, record])
    assert kept is not None
    await kept
    dead = DeadLetter(1_000, "evedge.telemetry", "evedge/site-042/rp/rp-07/telemetry", "not_json", "trailing", record)
    journal.refuse(dead, None)


class Running:
    """What a running gateway's socket tells."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def journal_stat(self) -> JournalStat:
        return JournalStat(
            running=True, journal=journal_of(self._journal, None), queues=queues_of(self._journal.lanes())
        )

    async def dead_letters(self) -> list[Letter]:
        return letters_of(await self._journal.dead_letters())


async def test_the_running_gateway_is_asked(config: Path, state_dir: Path) -> None:
    with StateLock(state_dir):
        async with (
            Journal(state_dir / "journal.db", max_bytes=1_048_576) as journal,
            ControlServer(state_dir, Running(journal)),
        ):
            await fill(journal)
            code, out, err = await journal_command("stat", "--config", str(config), "--json")
            assert (code, err) == (0, "")
            told = json.loads(out)
            assert (told["running"], told["journal"]["waiting"]) == (True, 2)
            code, out, err = await journal_command("dead-letters", "--config", str(config), "--json")
    assert (code, err) == (0, "")
    (letter,) = json.loads(out)
    assert (
        letter.items()
        >= {
            "at": "1970-01-01T00:00:01.000Z",
            "mqtt_topic": "evedge/site-042/rp/rp-07/telemetry",
            "kafka_topic": "evedge.telemetry",
            "reason": "not_json",
            "key": "k",
            "value": "1",
        }.items()
    )


async def test_without_a_gateway_the_files_are_read(config: Path, state_dir: Path) -> None:
    async with Journal(state_dir / "journal.db", max_bytes=1_048_576) as journal:
        await fill(journal)
    code, out, err = await journal_command("stat", "--config", str(config))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        f"{state_dir}: 4 of 1,073,741,824 bytes, 2 waiting; "
        "at max_bytes publishers wait (no gateway runs: read from its files)"
    )
    assert out.splitlines()[-1].split() == ["factory.energy", "2", "0", "2", "0"]
    code, out, err = await journal_command("dead-letters", "--config", str(config))
    assert (code, err) == (0, "")
    assert "not_json" in out
    async with Journal(state_dir / "journal.db", max_bytes=1_048_576) as journal:
        assert sum(counts.waiting for counts in journal.lanes().values()) == 2, "looking takes nothing"


async def test_a_gateway_that_does_not_answer_keeps_its_files(config: Path, state_dir: Path) -> None:
    (state_dir / "journal.db").touch()
    with StateLock(state_dir):
        code, out, err = await journal_command("stat", "--config", str(config))
    assert (code, out) == (1, "")
    assert "is used by another evedge (pid " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("what", ["stat", "dead-letters"])
async def test_where_no_gateway_has_run_there_is_nothing_to_read(config: Path, what: str) -> None:
    code, out, err = await journal_command(what, "--config", str(config))
    assert (code, out) == (1, "")
    assert err == (
        f"evedge: there is no journal to read at {config.parent}/state/journal.db: "
        "no gateway has run with this state_dir\n"
    )
    assert not (config.parent / "state").exists(), "looking leaves no trace"


async def test_a_wrong_configuration_is_wrong_usage(config: Path) -> None:
    config.write_text("[gateway]\nid = 7\n")
    code, out, err = await journal_command("stat", "--config", str(config))
    assert (code, out) == (2, "")
    assert "gateway.id" in err
