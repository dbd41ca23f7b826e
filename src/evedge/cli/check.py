"""`evedge check`: every mistake of a configuration, or what it will do; with --connect also what can be reached."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evedge.config import Config, ConfigError, Mistake, load
from evedge.config.notes import notes
from evedge.config_kafka import kafka_settings, kafka_topics
from evedge.config_pace import forecast_endpoints, pace_notes, too_fast
from evedge.config_profiles import profile_rule, resolve_profiles
from evedge.core.profile import Profile

if TYPE_CHECKING:
    from evedge.reach import Trial

_ROLES = {
    "gateway": "gateway: forwards to Kafka and takes commands from there",
    "agent": "agent: polls for the gateway of the same id, through a broker elsewhere",
    "local": "local broker and poller: no [kafka], so nothing leaves the site",
}


@click.command(name="check", help="Validate the configuration and every profile it names.")
@click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The configuration."
)
@click.option("--connect", is_flag=True, help="Also try each recharge point, the broker's address, and Kafka.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def command(ctx: click.Context, path: Path, connect: bool, as_json: bool) -> None:
    try:
        config = load(path, rules=[profile_rule])
        profiles = resolve_profiles(config)
        kafka_settings(config)
    except ConfigError as error:
        click.echo(str(error), err=True)
        if as_json:
            click.echo(json.dumps({"ok": False, "mistakes": [mistake_report(mistake) for mistake in error.mistakes]}))
        ctx.exit(2)
    trials = _try(config, profiles) if connect else []
    ok = all(trial.ok for trial in trials)
    if as_json:
        click.echo(json.dumps(_report(config, profiles, trials if connect else None, ok=ok)))
    else:
        _print(path, config, profiles, trials)
    ctx.exit(0 if ok else 1)


def _try(config: Config, profiles: Mapping[str, Profile]) -> list[Trial]:
    from evedge.reach import try_everything  # noqa: PLC0415 -- brings every client along: only where one is used

    return asyncio.run(try_everything(config, profiles))


def _print(path: Path, config: Config, profiles: Mapping[str, Profile], trials: Sequence[Trial]) -> None:
    click.echo(f"{path}: no mistakes")
    for name, text in summary(config, profiles):
        click.echo(f"  {name:<16} {text}")
    for note in _notes(config, profiles):
        click.echo(f"note: {note}")
    for trial in trials:
        mark = click.style("ok", fg="green") if trial.ok else click.style("FAILED", fg="red", bold=True)
        click.echo(f"{mark}: {trial}")


def summary(config: Config, profiles: Mapping[str, Profile]) -> Iterator[tuple[str, str]]:
    """What the configuration will do: the name of a part, and a few words."""
    yield "gateway", config.gateway.id
    yield "role", _ROLES[config.role]
    yield "broker", _broker(config)
    yield "recharge points", _recharge_points(config, profiles)
    if config.kafka is not None:
        kafka = config.kafka
        login = f", {kafka.sasl_mechanism} as {kafka.sasl_username}" if kafka.sasl_username else ""
        yield "Kafka", f"{', '.join(kafka.bootstrap_servers)} ({kafka.security_protocol}{login}, {kafka.compression})"
        yield "Kafka topics", ", ".join(spec.name for spec in kafka_topics(config))
    for entry in config.routes:
        yield "route", f"{entry.mqtt_topic} to {entry.kafka_topic}, key {entry.key}"
    full = "publishers wait" if config.journal.when_full == "block" else "the oldest is dropped"
    yield "journal", f"{config.gateway.state_dir}, up to {config.journal.max_bytes:,} bytes, then {full}"
    yield "web", f"http://{config.web.bind}/" if config.web.bind is not None else "switched off"


def _broker(config: Config) -> str:
    mqtt = config.mqtt
    if mqtt.remote is not None:
        return f"{mqtt.remote} as {mqtt.username or 'anonymous'}"
    addresses = [str(mqtt.bind)] if mqtt.bind is not None else []
    addresses += [f"{mqtt.tls_bind} (TLS)"] if mqtt.tls_bind is not None else []
    who = (
        "open to anyone" if mqtt.allow_anonymous else f"users: {', '.join(user.name for user in mqtt.users) or 'none'}"
    )
    return f"in this process on {' and '.join(addresses)}, {who}"


def _recharge_points(config: Config, profiles: Mapping[str, Profile]) -> str:
    by_profile = Counter(profiles[point.id].name for point in config.recharge_points if point.is_polled)
    by_agent = Counter(point.agent for point in config.recharge_points if point.agent is not None)
    parts = [f"{count} x {name}" for name, count in by_profile.items()]
    parts += [f"{count} of agent {name}" for name, count in by_agent.items()]
    return ", ".join(parts) or "none"


def _notes(config: Config, profiles: Mapping[str, Profile]) -> list[str]:
    """Also what `evedge plan` refuses: whether a device keeps up rests on an assumption, so here it is no mistake."""
    endpoints = forecast_endpoints(config, profiles)
    refused = [str(one.mistake) for one in too_fast(config, endpoints)]
    return [*notes(config), *refused, *pace_notes(config, endpoints)]


def mistake_report(mistake: Mistake) -> dict[str, str | None]:
    """A mistake for programs."""
    return {
        "path": mistake.path,
        "source": mistake.source,
        "value": mistake.value,
        "what": mistake.what,
        "allowed": mistake.allowed,
        "suggestion": mistake.suggestion,
        "text": str(mistake),
    }


def _report(
    config: Config, profiles: Mapping[str, Profile], trials: Sequence[Trial] | None, *, ok: bool
) -> dict[str, object]:
    report: dict[str, object] = {
        "ok": ok,
        "mistakes": [],
        "notes": _notes(config, profiles),
        "gateway": config.gateway.id,
        "role": config.role,
        "recharge_points": [
            {
                "recharge_point": point.id,
                "profile": profiles[point.id].name if point.id in profiles else None,
                "agent": point.agent,
            }
            for point in config.recharge_points
        ],
        "kafka_topics": [spec.name for spec in kafka_topics(config)],
    }
    if trials is not None:
        report["tried"] = [{"subject": trial.subject, "ok": trial.ok, "seen": trial.seen} for trial in trials]
    return report
