"""`evedge probe HOST[:PORT] --profile NAME`: reads a device once and prints what it says. Never writes."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

from evedge.core.errors import Outage, UsageError
from evedge.core.measurands import MEASURANDS
from evedge.core.model import Value
from evedge.core.plan import Block, Plan, Reading, RegisterReading, Results, make_plan
from evedge.core.profile import Profile
from evedge.core.reading import ModbusException, quality, understand
from evedge.links.modbus import ModbusEndpoint
from evedge.profiles import load_profile

GIVE_UP_AFTER = 2
"""Requests without an answer, when nothing was answered before: it is not there, or it is not this profile's device."""

_ADDRESS = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>\d{1,5}))?")


@click.command(name="probe", help="Read a device once and print a table. HOST[:PORT] is its address on the network.")
@click.argument("address", metavar="HOST[:PORT]")
@click.option("--profile", "profile_name", required=True, metavar="NAME", help="A built-in profile, or a TOML file.")
@click.option("--unit-id", type=click.IntRange(0, 255), metavar="U", help="Default: the profile's.")
@click.option(
    "--connector", type=click.IntRange(min=1), default=1, show_default=True, metavar="C", help="Which outlet."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True, max=300),
    metavar="S",
    help="Seconds for an answer; default: the profile's.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    address: str,
    profile_name: str,
    unit_id: int | None,
    connector: int,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    profile = load_profile(profile_name)
    host, given_port = parse_address(address)
    problem = profile.connection.connector_problem(connector)
    if problem is not None:
        raise UsageError(f"--connector {connector}: {profile.name} {problem}")
    port, unit_id = profile.connection.endpoint(connector, port=given_port, unit_id=unit_id)
    plan = make_plan(profile, connector=connector, unit_id=unit_id)
    try:
        probed = asyncio.run(_probe(host, port, plan, timeout_s))
    except Outage as error:
        raise Outage(f"{host}:{port}: {error}") from error
    if as_json:
        click.echo(json.dumps(_document(profile, probed), ensure_ascii=False))
    else:
        head = f"{host}:{port}, unit id {unit_id}" + (f", connector {connector}" if connector > 1 else "")
        _print(f"{head}: {profile.name}, quality {quality(probed.reading)}", probed)
    ctx.exit(0 if probed.reading.values else 1)


def parse_address(text: str) -> tuple[str, int | None]:
    """HOST, HOST:PORT, [IPv6] or [IPv6]:PORT. Raises UsageError."""
    if text.count(":") > 1 and "[" not in text:
        return text, None  # an IPv6 address alone
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"]) if match is not None and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= 65_535):
        raise UsageError(f"{text!r} is no address: HOST or HOST:PORT with a port from 1 to 65535")
    return match["bracketed"] or match["host"], port


@dataclass(frozen=True, slots=True)
class _Probed:
    """All that was read."""

    reading: Reading
    registers: Sequence[RegisterReading]
    identity: dict[str, str]


async def _probe(host: str, port: int, plan: Plan, timeout_s: float | None) -> _Probed:
    connection = plan.profile.connection
    endpoint = ModbusEndpoint(
        host,
        port,
        connect_timeout_s=timeout_s or connection.connect_timeout_s,
        timeout_s=timeout_s or connection.response_timeout_s,
        pause_between_requests_s=connection.pause_between_requests_s,
        pause_after_connect_s=connection.pause_after_connect_s,
    )
    async with endpoint:
        plan, results = await _read_all(endpoint, plan)
    registers = plan.decode_registers(results)
    known = {name: register.value for name, register in registers.items() if register.value is not None}
    return _Probed(
        understand(plan, {block: results[block] for block in plan.poll}, known),
        tuple(registers.values()),
        plan.decode_identity({block: results[block] for block in plan.identity}),
    )


async def _read_all(endpoint: ModbusEndpoint, plan: Plan) -> tuple[Plan, Results]:
    """Each block's answer, and the plan that is left when the device lacks optional registers. Raises Outage."""
    results: dict[Block, Sequence[int] | str] = {}
    unanswered = 0
    while True:
        blocks = (*plan.identity, *plan.config, *plan.poll)
        block = next((one for one in blocks if one not in results), None)
        if block is None:
            return plan, {one: results[one] for one in blocks}
        try:
            if not endpoint.connected:
                await endpoint.connect()
            results[block] = await endpoint.read(block)
            unanswered = -len(blocks)  # it is there: whatever follows, go on
        except ModbusException as error:
            unanswered = -len(blocks)
            smaller = plan.after_refusal(block) if error.lacking and block.optional else None
            if smaller is None:
                results[block] = str(error)
            else:
                plan = smaller
        except Outage as error:
            results[block] = str(error)
            unanswered += 1
            if unanswered >= GIVE_UP_AFTER:
                raise


def _document(profile: Profile, probed: _Probed) -> dict[str, object]:
    return {
        "profile": profile.name,
        "quality": quality(probed.reading),
        "values": probed.reading.values,
        "errors": probed.reading.errors,
        "derived": probed.reading.derived,
        "identity": probed.identity,
        "registers": {
            one.name: {"error": one.error} if one.error else {"value": one.value, "unit": one.unit, "text": one.label}
            for one in probed.registers
        },
    }


def _print(head: str, probed: _Probed) -> None:
    reading = probed.reading
    names = [name for name in MEASURANDS if name in reading.values or name in reading.errors]
    tables: list[tuple[str, Iterable[tuple[str, str, str]]]] = [
        ("identity", [(name, text, "") for name, text in probed.identity.items()]),
        ("measurands", [_measurand(reading, name) for name in names]),
        ("registers", [(one.name, *_register(one)) for one in probed.registers]),
    ]
    click.echo(head)
    for title, rows in tables:
        if sys.stdout.isatty():
            _table(title, rows)
        else:
            for row in rows:
                click.echo("\t".join((title.removesuffix("s"), *row)).rstrip("\t"))


def _measurand(reading: Reading, name: str) -> tuple[str, str, str]:
    if name in reading.errors:
        return name, f"error: {reading.errors[name]}", ""
    note = " (computed)" if name in reading.derived else ""
    return name, _shown(reading.values[name]) + note, MEASURANDS[name].unit or ""


def _register(one: RegisterReading) -> tuple[str, str]:
    if one.error:
        return f"error: {one.error}", ""
    if one.value is None:
        return "not available", ""
    value = _shown(one.value)
    return value if one.label == value else f"{value} ({one.label})", one.unit or ""


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _table(title: str, rows: Iterable[tuple[str, str, str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 -- only people on a terminal wait for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title, "value", "unit", header_style="bold")
    for name, value, unit in rows:
        style = "red" if value.startswith("error: ") else ""
        table.add_row(Text(name), Text(value, style=style), Text(unit))  # Text: a cell is never markup
    Console().print(table)
