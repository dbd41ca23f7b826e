"""`evedge journal stat` and `dead-letters`: what waits on disk, and what could not be delivered and why.

A running gateway is asked over its socket in `state_dir`: its files must not be opened by a second process. Without one
they are opened here, under the same lock that keeps a gateway from starting meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from evedge.cli.http_get import NobodyListensError, decode, get_socket
from evedge.cli.status import queue_table
from evedge.cli.tables import Cell, Column, Table, show
from evedge.config import Config, load
from evedge.core.errors import Refused
from evedge.core.lanes import WhenFull
from evedge.core.status import JournalStat, Letter, journal_of, letters_of, queues_of
from evedge.links.journal import Journal
from evedge.links.lock import StateLock
from evedge.web.control_names import DEAD_LETTERS_PATH, SOCKET_NAME, STAT_PATH

T = TypeVar("T")
JOURNAL_NAME = "journal.db"
SHOWN_CHARACTERS = 60
THEN = {"block": "publishers wait", "drop_oldest": "the oldest are dropped"}

_config = click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The gateway's."
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.group(name="journal", help="What waits on disk, and what could not be delivered and why.")
def command() -> None:
    pass


@command.command(help="What waits, by Kafka topic.")
@_config
@_json
def stat(path: Path, as_json: bool) -> None:
    config = load(path)

    async def look(journal: Journal) -> JournalStat:
        return JournalStat(
            running=False, journal=journal_of(journal, journal.database.trouble), queues=queues_of(journal.lanes())
        )

    found = _ask(config, STAT_PATH, JournalStat, look)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    journal = found.journal
    whose = "told by the running gateway" if found.running else "no gateway runs: read from its files"
    show(
        f"{config.gateway.state_dir}: {journal.bytes:,} of {journal.max_bytes:,} bytes, {journal.waiting:,} waiting; "
        f"at max_bytes {THEN.get(journal.when_full, journal.when_full)} ({whose})",
        *([f"the disk takes nothing: {journal.trouble}"] if journal.trouble else []),
        queue_table(found.queues),
    )


@command.command(help="What could not be delivered, oldest first, and why.")
@_config
@_json
def dead_letters(path: Path, as_json: bool) -> None:
    config = load(path)

    async def look(journal: Journal) -> list[Letter]:
        return letters_of(await journal.dead_letters())

    letters = _ask(config, DEAD_LETTERS_PATH, list[Letter], look)
    if as_json:
        click.echo(msgspec.json.encode(letters).decode())
        return
    show(_letters(letters) if letters else "no dead letters")


def _ask(config: Config, path: str, shape: type[T], look: Callable[[Journal], Awaitable[T]]) -> T:
    """The running gateway's answer, or what `look` finds in the files when none runs."""
    state_dir = config.gateway.state_dir
    place = state_dir / SOCKET_NAME
    try:
        return decode(get_socket(place, path), shape, str(place))
    except NobodyListensError:
        return asyncio.run(_look(config, look))


async def _look(config: Config, look: Callable[[Journal], Awaitable[T]]) -> T:
    state_dir = config.gateway.state_dir
    file = state_dir / JOURNAL_NAME
    try:
        file.stat()  # opening it would make it, and whoever asks should leave no trace
    except OSError as error:
        reason = "no gateway has run with this state_dir" if isinstance(error, FileNotFoundError) else error.strerror
        raise Refused(f"there is no journal to read at {file}: {reason}") from error
    with StateLock(state_dir):
        async with Journal(
            file, max_bytes=config.journal.max_bytes, when_full=WhenFull(config.journal.when_full)
        ) as journal:
            return await look(journal)


def _letters(letters: list[Letter]) -> Table:
    return Table(
        [
            Column("at"),
            Column("MQTT topic"),
            Column("Kafka topic"),
            Column("reason"),
            Column("error"),
            Column("key"),
            Column("value"),
        ],
        [
            [
                Cell(letter.at),
                Cell(letter.mqtt_topic),
                Cell(letter.kafka_topic),
                Cell(letter.reason),
                Cell(letter.error),
                Cell(_short(letter.key, letter.key_base64)),
                Cell(_short(letter.value, letter.value_base64)),
            ]
            for letter in letters
        ],
    )


def _short(text: str | None, base64: str | None) -> str:
    shown = text if text is not None else f"base64 {base64}"
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[: SHOWN_CHARACTERS - 1]}…"
