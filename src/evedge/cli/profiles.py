"""`evedge profiles`, `profiles show NAME`, `profiles check FILE`: which register maps there are, and what they say."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from evedge.core.plan import Block, make_plan
from evedge.core.profile import Group, Limit, Profile, ProfileError, Register, Scope
from evedge.profiles import load_profile, names

_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.group(name="profiles", invoke_without_command=True, help="List, explain and validate register maps.")
@_JSON
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    if ctx.invoked_subcommand is not None:
        return
    profiles = [load_profile(name) for name in names()]
    if as_json:
        click.echo(json.dumps([_summary(profile) for profile in profiles], ensure_ascii=False))
    elif sys.stdout.isatty():
        _table("Profiles", ("name", "vendor", "model", "polled every"), [_row(profile) for profile in profiles])
    else:
        for profile in profiles:
            click.echo("\t".join(_row(profile)))


@command.command(help="Explain a profile: a built-in name, or the path of a TOML file.")
@click.argument("name")
@_JSON
def show(name: str, as_json: bool) -> None:
    profile = load_profile(name)
    if as_json:
        click.echo(json.dumps(_document(profile), ensure_ascii=False))
        return
    for line in _about(profile):
        click.echo(line)
    rows = [_register_row(register) for register in profile.registers.values()]
    if sys.stdout.isatty():
        _table("Registers", ("name", "where", "type", "unit", "access", "read", "meaning"), rows)
    else:
        for row in rows:
            click.echo("\t".join(row))


@command.command(help="Validate a profile and print every mistake in it.")
@click.argument("file")
@_JSON
@click.pass_context
def check(ctx: click.Context, file: str, as_json: bool) -> None:
    mistakes: Sequence[str] = ()
    try:
        profile = load_profile(file if file in names() else str(Path(file).absolute()))
    except ProfileError as error:
        mistakes = error.mistakes
        for mistake in mistakes:
            click.echo(f"{file}: {mistake}", err=True)
    if as_json:
        click.echo(json.dumps({"ok": not mistakes, "mistakes": list(mistakes)}, ensure_ascii=False))
    elif not mistakes:
        click.echo(f"{file}: no mistakes, {len(profile.registers)} registers")
    ctx.exit(2 if mistakes else 0)


def _row(profile: Profile) -> tuple[str, ...]:
    return profile.name, profile.vendor, profile.model, f"{profile.connection.poll_interval_s:g} s"


def _summary(profile: Profile) -> dict[str, Any]:
    connection = profile.connection
    return {
        "name": profile.name,
        "vendor": profile.vendor,
        "model": profile.model,
        "aliases": list(profile.aliases),
        "tested": profile.tested,
        "port": connection.port,
        "unit_id": connection.unit_id,
        "connectors": connection.connector_count,
        "poll_interval_s": connection.poll_interval_s,
        "measurands": list(profile.measurands),
        "limits": profile.limit is not None,
    }


def _document(profile: Profile) -> dict[str, Any]:
    plan = make_plan(profile)
    return _summary(profile) | {
        "description": profile.description,
        "setup": profile.setup,
        "sources": list(profile.sources),
        "requests": {
            group: [_block(block) for block in getattr(plan, group)] for group in ("poll", "identity", "config")
        },
        "limit": _limit(profile.limit) if profile.limit else None,
        "failsafe": {
            "kind": str(profile.failsafe.kind),
            "timeout_s": profile.failsafe.timeout_s,
            "timeout": profile.failsafe.timeout.name if profile.failsafe.timeout else None,
            "fallback_current": profile.failsafe.fallback_current.name if profile.failsafe.fallback_current else None,
            "description": profile.failsafe.description,
        },
        "registers": [_register(register) for register in profile.registers.values()],
    }


def _limit(limit: Limit) -> dict[str, Any]:
    return {
        "register": limit.register.name,
        "min_current_a": limit.min_current_a,
        "max_current_a": limit.max_current_a,
        "step_a": limit.step_a,
        "readback": limit.readback.name if limit.readback else None,
        "in_force": limit.in_force.name if limit.in_force else None,
        "pause": [{"register": write.register.name, "value": write.value} for write in limit.pause_writes()],
        "min_write_interval_s": limit.min_write_interval_s,
        "min_pause_interval_s": limit.min_pause_interval_s,
    }


def _block(block: Block) -> dict[str, Any]:
    return {
        "unit_id": block.unit_id,
        "table": str(block.table),
        "address": block.address,
        "count": block.count,
        "registers": list(block.registers),
    }


def _register(register: Register) -> dict[str, Any]:
    measurand = register.name if register.measurand else None
    document: dict[str, Any] = {
        "name": register.name,
        "table": str(register.table),
        "address": register.address,
        "words": register.words,
        "type": register.type,
        "scale": register.scale,
        "unit": register.unit,
        "readable": register.readable,
        "writable": register.writable,
        "optional": register.optional,
        "measurand": measurand,
        "group": str(register.group),
        "scope": str(register.scope),
        "confidence": register.confidence,
        "source": register.source,
        "meaning": register.meaning,
    }
    if register.enum or register.bits:
        document["values"] = {str(key): text for key, text in (register.enum or register.bits).items()}
    if register.writable:
        document |= {"write_fc": register.write_fc, "allowed": register.allowed, "readback": register.readback}
        document |= {"min": register.minimum, "max": register.maximum, "also": list(register.also)}
    return document


def _about(profile: Profile) -> list[str]:
    connection, limit, failsafe = profile.connection, profile.limit, profile.failsafe
    plan = make_plan(profile)
    lines = [f"{profile.name}: {profile.vendor} {profile.model}"]
    lines += [profile.description] if profile.description else []
    lines += [f"set up: {profile.setup}"] if profile.setup else []
    lines.append(f"port {connection.port}, unit id {connection.unit_id}, " + _connectors(profile))
    lines.append(f"{len(plan.poll)} requests every {connection.poll_interval_s:g} s: " + ", ".join(map(str, plan.poll)))
    lines.append("offers " + ", ".join(profile.measurands))
    if limit is None:
        lines.append("its limit cannot be set")
    else:
        pause = ", ".join(f"{write.register.name} = {write.value:g}" for write in limit.pause_writes())
        lines.append(
            f"limit {limit.min_current_a:g} to {limit.max_current_a:g} A in steps of {limit.step_a:g} A; "
            f"pause: {pause}; read back: {limit.readback.name if limit.readback else 'not possible'}"
        )
    lines.append(f"fails safe: {failsafe.kind}" + (f", {failsafe.description}" if failsafe.description else ""))
    lines += [f"source: {source}" for source in profile.sources]
    return [*lines, ""]


def _connectors(profile: Profile) -> str:
    connection = profile.connection
    by = connection.connectors_by
    return f"up to {connection.connector_count} connectors by {by}" if by else "one connector"


def _register_row(register: Register) -> tuple[str, ...]:
    access = ("r" if register.readable else "") + ("w" if register.writable else "")
    where = f"{register.table} {register.address}" + (" (station)" if register.scope is Scope.STATION else "")
    said = register.meaning or ", ".join(f"{key} {text}" for key, text in (register.enum or register.bits).items())
    if register.writable:
        said = f"writable: {register.allowed}" + (f"; {register.meaning}" if register.meaning else "")
    read = "" if register.group is Group.WRITE else str(register.group) + (", optional" if register.optional else "")
    scale = "" if register.scale == 1 else f" x {register.scale:g}"
    return register.name, where, register.type + scale, register.unit or "", access, read, said


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 -- only people on a terminal wait for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, min_width=max(len(row[0]) for row in rows) if index == 0 else None)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a cell is never markup
    Console().print(table)
