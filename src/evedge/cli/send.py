"""`evedge send`: the cloud side. Puts a command on Kafka and follows its results."""

from __future__ import annotations

import asyncio
import getpass
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from evedge.config import Config, load
from evedge.config_kafka import kafka_settings
from evedge.core.codec import JSON, key
from evedge.core.commands import GATEWAY_ACTIONS, CommandResult, Purpose, Step
from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import EvedgeError, UsageError
from evedge.core.model import Record, Stream
from evedge.core.times import to_rfc3339
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.kafka_reader import KafkaReader
from evedge.links.kafka_settings import KafkaSettings

GOOD_ENDS = frozenset({Step.WRITTEN, Step.VERIFIED, Step.EFFECTIVE})
READ_TIMEOUT_S = 0.25


class _Sent(msgspec.Struct, omit_defaults=True):
    """The command's value."""

    id: str
    gateway: str
    action: str
    arguments: dict[str, Any]
    issued_at: str
    expires_at: str
    issuer: str
    purpose: str
    recharge_point: str | None = None
    lease_s: float | None = None


@click.command(name="send", help="The cloud side: put a command on Kafka and follow its results.")
@click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The configuration."
)
@click.argument("recharge_point", metavar="RP")
@click.argument("action")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), metavar="S", help="Follow the results until the end.")
@click.option("--id", "command_id", metavar="ID", help="Default: a new UUID.")
@click.option(
    "--purpose", type=click.Choice([each.value for each in Purpose]), default=Purpose.MARKET.value, show_default=True
)
@click.option("--lease", "lease_s", type=float, metavar="S", help="How long it holds; 0: until replaced.")
@click.option("--expires-in", "expires_s", type=float, default=60.0, show_default=True, metavar="S")
@click.option("--issuer", metavar="NAME", help="Default: the user of this shell.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as it is on Kafka.")
def command(
    path: Path,
    recharge_point: str,
    action: str,
    arguments: Sequence[str],
    wait_s: float | None,
    command_id: str | None,
    purpose: str,
    lease_s: float | None,
    expires_s: float,
    issuer: str | None,
    as_json: bool,
) -> None:
    """RP is a recharge point's id; for what concerns the gateway (ping), `-` or the gateway's id."""
    config = load(path)
    settings = kafka_settings(config)
    if settings is None:
        raise UsageError(f"{path} has no [kafka]: commands travel on it")
    now_ms = time.time_ns() // 1_000_000
    sent = _Sent(
        id=command_id or str(uuid.uuid4()),
        gateway=config.gateway.id,
        recharge_point=_recharge_point(config, recharge_point, action),
        action=action,
        arguments=dict(_argument(text) for text in arguments),
        issued_at=to_rfc3339(now_ms),
        expires_at=to_rfc3339(now_ms + round(expires_s * 1000)),
        issuer=issuer or getpass.getuser(),
        purpose=purpose,
        lease_s=lease_s,
    )
    end = asyncio.run(_send(config, settings, sent, wait_s, as_json=as_json))
    if wait_s is None:
        click.echo(sent.id)
        return
    if end is None:
        raise EvedgeError(f"no end within {wait_s:g} s; it may still come: evedge tail --topic command_results")
    if end.state not in GOOD_ENDS:
        raise click.exceptions.Exit(1)


def _recharge_point(config: Config, name: str, action: str) -> str | None:
    if action in GATEWAY_ACTIONS or name == "-":
        if name not in {"-", config.gateway.id}:
            raise UsageError(f"{action} is for the gateway: write - instead of {name}")
        return None
    return name


def _argument(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise UsageError(f"{text}: an argument is NAME=VALUE, such as current_a=10")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


async def _send(
    config: Config, settings: KafkaSettings, sent: _Sent, wait_s: float | None, *, as_json: bool
) -> CommandResult | None:
    topics = config.kafka.topics.resolved(config.gateway.id) if config.kafka is not None else {}
    record = Record(
        lane=topics[Stream.COMMANDS],
        key=key(sent.gateway, sent.recharge_point),
        value=msgspec.json.encode(sent),
        headers=(("content-type", JSON.encode()),),
        timestamp_ms=time.time_ns() // 1_000_000,
        durable=False,
    )
    if wait_s is None:
        await _produce(settings, record)
        return None
    async with KafkaReader(settings, [topics[Stream.COMMAND_RESULTS]]) as reader:  # before: no result is missed
        await _produce(settings, record)
        ends_s = time.monotonic() + wait_s
        while time.monotonic() < ends_s:
            for found in await reader.read(READ_TIMEOUT_S):
                result = _result(found, sent.id)
                if result is None:
                    continue
                _show(result, found, as_json=as_json)
                if result.final or result.state is Step.DUPLICATE:
                    return result
    return None


async def _produce(settings: KafkaSettings, record: Record) -> None:
    async with KafkaProducer(settings) as producer:
        result = await producer.send(record.lane, [record])
    for refused in result.refused:
        raise EvedgeError(f"Kafka refuses the command: {refused.error}")


def _result(record: ConsumedRecord, command_id: str) -> CommandResult | None:
    try:
        result = msgspec.json.decode(record.value or b"", type=CommandResult)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return result if result.id == command_id else None


def _show(result: CommandResult, record: ConsumedRecord, *, as_json: bool) -> None:
    if as_json:
        click.echo(record.value)
        return
    details = " ".join(f"{name}={value}" for name, value in result.details.items())
    line = "  ".join(part for part in (result.at, str(result.state), result.reason or "", details) if part)
    colour = None if not result.final else "green" if result.state in GOOD_ENDS else "red"
    click.echo(click.style(line, fg=colour, bold=result.final))
