"""`evedge topics`: the Kafka topics a configuration needs, whether they exist, and making those that do not.

A topic that is there is never changed: more partitions would part the records of a key, another policy or retention
would remove what somebody meant to keep. What differs is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from evedge.config import load
from evedge.config_kafka import kafka_settings, kafka_topics
from evedge.core.errors import UsageError
from evedge.core.kafka_topics import Difference, TopicSpec, differences, duration
from evedge.links.kafka_admin import KafkaAdmin
from evedge.links.kafka_settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class _Topic:
    """One that the configuration needs. `differs` None: its settings cannot be seen."""

    spec: TopicSpec
    exists: bool
    created: bool
    differs: tuple[Difference, ...] | None


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
    topics = asyncio.run(_look(settings, kafka_topics(config), create=create))
    if as_json:
        click.echo(msgspec.json.encode([_report(topic) for topic in topics]))
    else:
        _print_table(topics)
    _print_notes(topics, create=create)


async def _look(settings: KafkaSettings, specs: Sequence[TopicSpec], *, create: bool) -> list[_Topic]:
    """Each topic as it is in the end."""
    async with KafkaAdmin(settings) as admin:
        existing = await admin.existing_topics()
        configs = await admin.settings(spec.name for spec in specs if spec.name in existing)
        created = await admin.create([spec for spec in specs if spec.name not in existing]) if create else []
    return [_topic(spec, existing, configs, created=spec.name in created) for spec in specs]


def _topic(
    spec: TopicSpec, existing: Mapping[str, int], configs: Mapping[str, Mapping[str, str]], *, created: bool
) -> _Topic:
    differs: tuple[Difference, ...] | None = ()
    if spec.name in existing:
        seen = configs.get(spec.name)
        differs = differences(spec, existing[spec.name], seen or {})
        if seen is None and not differs:
            differs = None
    return _Topic(spec, spec.name in existing or created, created, differs)


def _report(topic: _Topic) -> dict[str, object]:
    return {
        "name": topic.spec.name,
        "purpose": topic.spec.purpose,
        "cleanup_policy": str(topic.spec.cleanup_policy),
        "retention_ms": topic.spec.retention_ms,
        "partitions": topic.spec.partitions,
        "exists": topic.exists,
        "created": topic.created,
        "differs": topic.differs,
    }


def _print_table(topics: Sequence[_Topic]) -> None:
    rows = [(topic.spec.name, topic.spec.purpose, _policy(topic.spec), _state(topic)) for topic in topics]
    titles = ("topic", "purpose", "policy", "exists")
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for *texts, state in (titles, *rows):
        cells = "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=False))
        odd = state == "missing" or state.startswith("yes, with")
        click.echo(f"{cells}  {click.style(state, fg='yellow') if odd else state}")


def _print_notes(topics: Sequence[_Topic], *, create: bool) -> None:
    missing = sum(not topic.exists for topic in topics)
    if missing and not create:
        click.echo(f"{missing} of {len(topics)} topics are missing: --create makes them", err=True)
    different = sum(bool(topic.differs) for topic in topics)
    if different:
        click.echo(
            f"{different} of {len(topics)} topics differ from what --create makes; they are left as they are", err=True
        )
    unseen = sum(topic.differs is None for topic in topics)
    if unseen:
        click.echo(f"the settings of {unseen} topics cannot be seen by this user (right DescribeConfigs)", err=True)


def _policy(spec: TopicSpec) -> str:
    keep = "" if spec.retention_ms is None else f" after {duration(spec.retention_ms)}"
    return f"{spec.cleanup_policy}{keep}, {spec.partitions} partitions"


def _state(topic: _Topic) -> str:
    if topic.created:
        return "created"
    if not topic.exists:
        return "missing"
    return f"yes, with {', '.join(map(str, topic.differs))}" if topic.differs else "yes"
