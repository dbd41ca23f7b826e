"""`evedge tail`: records as they arrive on Kafka, from all topics of a configuration or from one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from evedge.config import Config, load
from evedge.config_kafka import kafka_settings, kafka_topics
from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import Outage, UsageError
from evedge.core.model import Stream
from evedge.core.record_text import as_json, as_line
from evedge.links.kafka_reader import KafkaReader
from evedge.links.kafka_settings import KafkaSettings

READ_TIMEOUT_S = 1.0
RETRY_S = 2.0


@click.command(name="tail", help="The cloud side: print records as they arrive on Kafka.")
@click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The configuration."
)
@click.option("--topic", metavar="NAME", help="Only this one: telemetry, alerts, … or a Kafka topic's name.")
@click.option("--from-beginning", is_flag=True, help="First what is there already.")
@click.option("--json", "as_lines", is_flag=True, help="One JSON object a line.")
def command(path: Path, topic: str | None, from_beginning: bool, as_lines: bool) -> None:
    config = load(path)
    settings = kafka_settings(config)
    if settings is None:
        raise UsageError(f"{path} has no [kafka]: there is nothing to follow")
    show = _show_json if as_lines else _show_line
    try:
        asyncio.run(follow(settings, _topics(config, topic), show, from_beginning=from_beginning))
    except KeyboardInterrupt:  # the way this command ends
        return


def _topics(config: Config, wanted: str | None) -> Sequence[str]:
    if wanted is None:
        return [spec.name for spec in kafka_topics(config)]
    if config.kafka is not None and wanted in set(Stream):
        return [config.kafka.topics.resolved(config.gateway.id)[Stream(wanted)]]
    return [wanted]


async def follow(
    settings: KafkaSettings, topics: Sequence[str], show: Callable[[ConsumedRecord], None], *, from_beginning: bool
) -> NoReturn:
    """Shows records until cancelled. Kafka may come and go; nothing is shown twice and nothing is left out."""
    told = ""
    reader = KafkaReader(settings, topics, from_beginning=from_beginning)
    while True:
        try:
            async with reader:
                told = _tell(told, _waits_for(reader.missing))
                while True:
                    for record in await reader.read(READ_TIMEOUT_S):
                        show(record)
        except Outage as outage:
            told = _tell(told, f"{outage}; waiting for it")
            await asyncio.sleep(RETRY_S)
            reader = KafkaReader(settings, topics, from_beginning=from_beginning, positions=reader.positions)


def _waits_for(missing: Sequence[str]) -> str:
    return f"not there yet: {', '.join(missing)}" if missing else ""


def _tell(told: str, news: str) -> str:
    """Says what changed, on standard error."""
    if news and news != told:
        click.echo(news, err=True)
    return news


def _show_line(record: ConsumedRecord) -> None:
    click.echo(as_line(record))


def _show_json(record: ConsumedRecord) -> None:
    click.echo(msgspec.json.encode(as_json(record)))
