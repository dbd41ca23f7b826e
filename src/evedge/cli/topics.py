"""`evedge topics`: the Kafka topics a configuration needs, whether they exist, and making those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import click
import msgspec

from evedge.config import load
from evedge.config_kafka import kafka_settings, kafka_topics
from evedge.core.errors import UsageError
from evedge.core.kafka_topics import TopicSpec
from evedge.links.kafka_admin import KafkaAdmin
from evedge.links.kafka_settings import KafkaSettings

_DAY_MS = 86_400_000


@click.command(name="topics", help="List the Kafka topics the configuration needs; create the missing ones.")
@click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The configuration."
)
@click.option("--create", is_flag=True, help="Create the topics that are missing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def command(path: Path, create: bool, as_json: bool) -> None:
    config = load(path)
    settings = kafka_settings(config)
    if settings is None:
        raise UsageError(f"{path} has no [kafka]: there are no topics to list")
    specs = kafka_topics(config)
    existing, created = asyncio.run(_look(settings, specs, create=create))
    if as_json:
        click.echo(msgspec.json.encode([_report(spec, existing, created) for spec in specs]))
    else:
        _print_table(specs, existing, created, create=create)


async def _look(
    settings: KafkaSettings, specs: Sequence[TopicSpec], *, create: bool
) -> tuple[Collection[str], Collection[str]]:
    """The topics that are there in the end, and those of them that were made now."""
    async with KafkaAdmin(settings) as admin:
        existing = set(await admin.existing_topics())
        created = await admin.create([spec for spec in specs if spec.name not in existing]) if create else []
    return existing.union(created), created


def _report(spec: TopicSpec, existing: Collection[str], created: Collection[str]) -> dict[str, object]:
    return {
        "name": spec.name,
        "purpose": spec.purpose,
        "cleanup_policy": str(spec.cleanup_policy),
        "retention_ms": spec.retention_ms,
        "partitions": spec.partitions,
        "exists": spec.name in existing,
        "created": spec.name in created,
    }


def _print_table(
    specs: Sequence[TopicSpec], existing: Collection[str], created: Collection[str], *, create: bool
) -> None:
    rows = [(spec.name, spec.purpose, _policy(spec), _state(spec.name, existing, created)) for spec in specs]
    titles = ("topic", "purpose", "policy", "exists")
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for *texts, state in (titles, *rows):
        cells = "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=False))
        click.echo(f"{cells}  {click.style(state, fg='yellow') if state == 'missing' else state}")
    missing = sum(spec.name not in existing for spec in specs)
    if missing and not create:
        click.echo(f"{missing} of {len(specs)} topics are missing: --create makes them", err=True)


def _policy(spec: TopicSpec) -> str:
    keep = "" if spec.retention_ms is None else f" after {spec.retention_ms // _DAY_MS} days"
    return f"{spec.cleanup_policy}{keep}, {spec.partitions} partitions"


def _state(name: str, existing: Collection[str], created: Collection[str]) -> str:
    if name in created:
        return "created"
    return "yes" if name in existing else "missing"
