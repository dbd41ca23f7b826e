"""`evedge plan`: what a configuration would do, in numbers, before anything is connected; or why it cannot be kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from evedge.cli.check import mistake_report
from evedge.cli.tables import Cell, Column, Table, show
from evedge.config import Config, ConfigError, load
from evedge.config.notes import notes
from evedge.config_forecast import Traffic, forecast_traffic
from evedge.config_kafka import kafka_settings
from evedge.config_pace import TooFast, forecast_endpoints, pace_notes, too_fast
from evedge.config_profiles import profile_rule, resolve_profiles
from evedge.core.forecast import TYPICAL_ANSWER_S, EndpointForecast, PolledPoint, ReadRequest

_DAY_S = 86_400


@click.command(name="plan", help="Print what a configuration would do; refuse what a device cannot keep.")
@click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The configuration."
)
@click.option(
    "--answer-time-s",
    "answer_s",
    type=click.FloatRange(0, 60),
    default=TYPICAL_ANSWER_S,
    show_default=True,
    metavar="S",
    help="How long a device takes to answer a request: assumed, unless you measured it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def command(ctx: click.Context, path: Path, answer_s: float, as_json: bool) -> None:
    try:
        config = load(path, rules=[profile_rule])
        profiles = resolve_profiles(config)
        kafka_settings(config)
    except ConfigError as error:
        click.echo(str(error), err=True)
        if as_json:
            click.echo(json.dumps({"ok": False, "mistakes": [mistake_report(mistake) for mistake in error.mistakes]}))
        ctx.exit(2)
    endpoints = forecast_endpoints(config, profiles, answer_s=answer_s)
    refused = too_fast(config, endpoints)
    for one in refused:
        click.echo(str(one.mistake), err=True)
    if as_json:
        traffic = forecast_traffic(config, endpoints) if not refused else None
        click.echo(json.dumps(_document(config, endpoints, refused, traffic, answer_s)))
    elif not refused:
        show(*_parts(config, endpoints, forecast_traffic(config, endpoints), answer_s))
    ctx.exit(2 if refused else 0)


# For people


def _parts(
    config: Config, endpoints: Sequence[EndpointForecast], traffic: Traffic, answer_s: float
) -> Iterator[Table | str]:
    if endpoints:
        yield "Modbus requests"
        yield _requests(endpoints)
        yield "Modbus connections"
        yield _connections(endpoints)
    yield "Messages and records"
    yield _streams(traffic)
    yield from _summary(config, endpoints, traffic)
    yield from _assumptions(traffic, answer_s)
    for line in [*notes(config), *pace_notes(config, endpoints)]:
        yield f"note: {line}"


def _requests(endpoints: Sequence[EndpointForecast]) -> Table:
    columns = (
        Column("recharge point"),
        Column("profile"),
        Column("when"),
        Column("request"),
        Column("function", number=True),
        Column("registers", number=True),
        Column("bytes", number=True),
        Column("per s", number=True),
    )
    rows = []
    for endpoint in endpoints:
        for point in endpoint.points:
            every, rate = f"every {point.interval_s:g} s", f"{1 / point.interval_s:.4g}"
            rows += [_request_row(point, every, request, rate) for request in point.requests]
            rows += [_request_row(point, "on connecting", request, "-") for request in point.identity]
    return Table(columns, rows)


def _request_row(point: PolledPoint, when: str, request: ReadRequest, rate: str) -> list[Cell]:
    texts = (
        point.recharge_point,
        point.plan.profile.name,
        when,
        str(request.block),
        str(request.function),
        str(request.block.count),
        f"{request.request_bytes}+{request.answer_bytes}",
        rate,
    )
    return [Cell(text) for text in texts]


def _connections(endpoints: Sequence[EndpointForecast]) -> Table:
    columns = (
        Column("endpoint"),
        Column("recharge points", number=True),
        Column("requests/s", number=True),
        Column("bytes/s", number=True),
        Column("a poll takes s", number=True),
        Column("occupied", number=True),
    )
    rows = [
        [
            Cell(endpoint.name),
            Cell(str(len(endpoint.points))),
            Cell(f"{endpoint.requests_per_s:.4g}"),
            Cell(f"{endpoint.bytes_per_s:,.0f}"),
            Cell(f"{max(map(endpoint.poll_s, endpoint.points)):.3g}"),
            Cell(f"{endpoint.occupancy:.0%}", "yellow" if endpoint.is_nearly_full else ""),
        ]
        for endpoint in endpoints
    ]
    return Table(columns, rows)


def _streams(traffic: Traffic) -> Table:
    columns = (
        Column("Kafka topic"),
        Column("records/day", number=True),
        Column("bytes a record", number=True),
        Column("bytes/day uncompressed", number=True),
        Column(f"bytes/day {traffic.compression}", number=True),
    )
    rows = [
        [
            Cell(lane.kafka_topic),
            Cell(f"{lane.records:,.0f}"),
            Cell(f"{lane.record_bytes:,.0f}"),
            Cell(_about(lane.plain_bytes)),
            Cell(_about(lane.compressed_bytes)),
        ]
        for lane in traffic.lanes
    ]
    return Table(columns, rows)


def _summary(config: Config, endpoints: Sequence[EndpointForecast], traffic: Traffic) -> Iterator[str]:
    polled = sum(len(endpoint.points) for endpoint in endpoints)
    requests = sum(endpoint.requests_per_s for endpoint in endpoints)
    bytes_per_s = sum(endpoint.bytes_per_s for endpoint in endpoints)
    yield (
        f"Modbus: {polled} recharge points at {len(endpoints)} endpoints,"
        f" {requests:.4g} requests/s, {bytes_per_s:,.0f} bytes/s"
    )
    yield (
        f"MQTT: {traffic.mqtt_messages_per_s:.4g} messages/s,"
        f" {traffic.mqtt_bytes_per_s:,.0f} bytes/s to each subscriber of all of them"
    )
    if traffic.compression is None:
        yield "Kafka: none; nothing leaves the site"
        return
    yield (
        f"Kafka: {traffic.records_per_day:,.0f} records/day, about {_about(traffic.compressed_bytes_per_day)} bytes/day"
        f" with {traffic.compression}, {_about(traffic.plain_bytes_per_day)} uncompressed"
    )
    if traffic.journal_full_after_s is not None:
        hours = traffic.journal_full_after_s / 3600
        span = f"{hours / 24:,.1f} days" if hours >= 48 else f"{hours:,.1f} hours"
        yield f"journal: {config.journal.max_bytes:,} bytes last for about {span} without Kafka"


def _about(number: float) -> str:
    """Three digits: an estimate does not know more."""
    return f"{float(f'{number:.3g}'):,.0f}"


def _assumptions(traffic: Traffic, answer_s: float) -> Iterator[str]:
    yield f"assumed: a device answers in {answer_s:g} s; --answer-time-s takes what you measured"
    if traffic.compression is not None:
        yield (
            "estimated: bytes on Kafka, of record batches while every recharge point charges a car; topics have the"
            " partitions that `evedge topics --create` makes"
        )
    yield "not counted: TCP and IP, replication, writes of commands and their upkeep, what is tried again"
    yield "not counted: alerts, status changes, command results, and what agents and other MQTT clients publish"


# For programs


def _document(
    config: Config,
    endpoints: Sequence[EndpointForecast],
    refused: Sequence[TooFast],
    traffic: Traffic | None,
    answer_s: float,
) -> dict[str, object]:
    lowest = {one.endpoint.name: one.lowest_interval_s for one in refused}
    return {
        "ok": not refused,
        "mistakes": [mistake_report(one.mistake) for one in refused],
        "notes": [*notes(config), *pace_notes(config, endpoints)],
        "assumed": {"answer_time_s": answer_s},
        "recharge_points": [_point(endpoint, point) for endpoint in endpoints for point in endpoint.points],
        "endpoints": [_endpoint(endpoint, lowest) for endpoint in endpoints],
        "mqtt": _mqtt(traffic),
        "kafka": _kafka(traffic),
    }


def _point(endpoint: EndpointForecast, point: PolledPoint) -> dict[str, object]:
    return {
        "recharge_point": point.recharge_point,
        "profile": point.plan.profile.name,
        "endpoint": endpoint.name,
        "poll_interval_s": point.interval_s,
        "poll_takes_s": round(endpoint.poll_s(point), 6),
        "requests_per_s": point.requests_per_s,
        "registers_per_poll": point.words,
        "bytes_per_poll": point.bytes_per_poll,
        "requests": [_request(request) for request in point.requests],
        "requests_on_connecting": [_request(request) for request in point.identity],
    }


def _request(request: ReadRequest) -> dict[str, object]:
    block = request.block
    return {
        "unit_id": block.unit_id,
        "function": request.function,
        "table": str(block.table),
        "address": block.address,
        "count": block.count,
        "registers": list(block.registers),
        "request_bytes": request.request_bytes,
        "answer_bytes": request.answer_bytes,
    }


def _endpoint(endpoint: EndpointForecast, lowest: Mapping[str, float]) -> dict[str, object]:
    return {
        "endpoint": endpoint.name,
        "recharge_points": [point.recharge_point for point in endpoint.points],
        "pause_between_requests_s": endpoint.pause_s,
        "requests_per_s": endpoint.requests_per_s,
        "bytes_per_s": endpoint.bytes_per_s,
        "occupancy": round(endpoint.occupancy, 6),
        "keeps_up": endpoint.keeps_up,
        "lowest_poll_interval_s": lowest.get(endpoint.name),
    }


def _mqtt(traffic: Traffic | None) -> dict[str, object] | None:
    if traffic is None:
        return None
    return {"messages_per_s": traffic.mqtt_messages_per_s, "bytes_per_s": traffic.mqtt_bytes_per_s}


def _kafka(traffic: Traffic | None) -> dict[str, object] | None:
    if traffic is None or traffic.compression is None:
        return None
    return {
        "estimated": True,
        "compression": str(traffic.compression),
        "records_per_day": traffic.records_per_day,
        "bytes_per_day": traffic.compressed_bytes_per_day,
        "uncompressed_bytes_per_day": traffic.plain_bytes_per_day,
        "journal_full_after_s": traffic.journal_full_after_s,
        "topics": [
            {
                "kafka_topic": lane.kafka_topic,
                "records_per_day": lane.records,
                "bytes_per_record": lane.record_bytes,
                "batches_per_day": lane.batches,
                "bytes_per_day": lane.compressed_bytes,
                "uncompressed_bytes_per_day": lane.plain_bytes,
            }
            for lane in traffic.lanes
        ],
    }
