"""`evedge status`: asks the running gateway, and prints its recharge points, links, queues, open alerts, and why each
limit is what it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from evedge.cli.http_get import decode, get_url
from evedge.cli.tables import Cell, Column, Table, show
from evedge.core.model import Link, Severity, Value
from evedge.core.status import GatewayNow, LimitNow, LinksNow, Queue, RechargePointNow, Status

DEFAULT_URL = "http://127.0.0.1:8080"
PATH = "/api/v1/status"
GOOD, WARNING, BAD, QUIET = "green", "yellow", "bold red", "dim"
_LINKS = {Link.ONLINE: GOOD, Link.DEGRADED: WARNING, Link.OFFLINE: BAD}
_SEVERITIES = {Severity.INFO: "", Severity.WARNING: WARNING, Severity.ERROR: BAD}


@click.command(name="status", help="Ask the running gateway how it is.")
@click.option("--url", default=DEFAULT_URL, show_default=True, metavar="URL", help="Where its web page is.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, as /api/v1/status serves it.")
def command(url: str, as_json: bool) -> None:
    body = get_url(url, PATH)
    status = decode(body, Status, url)
    if as_json:
        click.echo(body.decode())
        return
    show(
        _gateway(status.gateway),
        _alerts(status),
        _recharge_points(status.recharge_points),
        _holds(status.recharge_points),
        _links(status.links),
        queue_table(status.queues),
    )


def _gateway(gateway: GatewayNow) -> str:
    why = f" ({gateway.reason})" if gateway.reason else ""
    return (
        f"{gateway.role} {gateway.id} is {gateway.state}{why}, evedge {gateway.version}, "
        f"up {duration(gateway.uptime_s)} since {gateway.started_at}"
    )


def _alerts(status: Status) -> Table:
    return Table(
        [Column("alert"), Column("where"), Column("since"), Column("what")],
        [
            [
                Cell(alert.kind, _SEVERITIES[alert.severity]),
                Cell(alert.recharge_point or alert.gateway),
                Cell(alert.raised_at),
                Cell(alert.message),
            ]
            for alert in status.alerts
        ],
    )


def _recharge_points(points: list[RechargePointNow]) -> Table:
    columns = [
        Column("recharge point"),
        Column("link"),
        Column("state"),
        Column("power", number=True),
        Column("limit in force", number=True),
        Column("brought to"),
        Column("age", number=True),
        Column("reason"),
    ]
    return Table(columns, [_recharge_point(point) for point in points])


def _recharge_point(point: RechargePointNow) -> list[Cell]:
    old = QUIET if point.state is Link.OFFLINE else ""
    return [
        Cell(point.id),
        Cell(point.state, _LINKS[point.state]),
        Cell(str(point.values.get("state", "-")), old),
        Cell(_quantity(point.values, "active_power_w", 1000, "kW", 2), old),
        Cell(_quantity(point.values, "current_limit_a", 1, "A", 1), old),
        Cell("-" if point.limit is None else _brought_to(point.limit)),
        Cell("-" if point.age_s is None else duration(point.age_s)),
        Cell(point.reason or "-"),
    ]


def _brought_to(limit: LimitNow) -> str:
    if limit.current_a is None and not limit.paused:
        return limit.why
    return f"{_amperes(limit.current_a)}: {limit.why}"


def _holds(points: list[RechargePointNow]) -> Table:
    return Table(
        [Column("hold on"), Column("purpose"), Column("limit", number=True), Column("until"), Column("by")],
        [
            [
                Cell(point.id),
                Cell(hold.purpose),
                Cell(_amperes(hold.current_a)),
                Cell(hold.ends_at or "replaced"),
                Cell(f"{hold.issuer or 'somebody'}, command {hold.command_id}"),
            ]
            for point in points
            if point.limit is not None
            for hold in point.limit.holds
        ],
    )


def _links(links: LinksNow) -> Table:
    rows = []
    if links.mqtt is not None:
        mqtt = links.mqtt
        state = Cell("down", BAD) if mqtt.bind is None else Cell("up", GOOD)
        rows.append([Cell("MQTT"), state, Cell(f"{mqtt.bind or 'not listening'}, {mqtt.clients} clients")])
    if links.broker is not None:
        broker = links.broker
        state = Cell("up", GOOD) if broker.up else Cell("down", BAD)
        error = "" if broker.up else f": {broker.last_error or 'not connected yet'}"
        rows.append([Cell("MQTT"), state, Cell(f"{broker.url} as agent {broker.agent}{error}")])
    if links.kafka is not None:
        kafka = links.kafka
        state = Cell("up", GOOD) if kafka.up else Cell("down", BAD)
        error = "" if kafka.up else f": {kafka.last_error or 'not asked yet'}"
        rows.append([Cell("Kafka"), state, Cell(f"{', '.join(kafka.bootstrap_servers)}{error}")])
        rows += [[Cell(topic), Cell("blocked", BAD), Cell(reason)] for topic, reason in kafka.blocked.items()]
    journal = links.journal
    state = Cell("up", GOOD) if journal.trouble is None else Cell("down", BAD)
    room = f"{journal.bytes:,} of {journal.max_bytes:,} bytes, {journal.waiting:,} waiting"
    rows.append([Cell("journal"), state, Cell(f"{journal.trouble}; {room}" if journal.trouble else room)])
    return Table([Column("link"), Column("state"), Column("details")], rows)


def queue_table(queues: list[Queue]) -> Table:
    """The records on their way to each Kafka topic."""
    return Table(
        [
            Column("Kafka topic"),
            Column("accepted", number=True),
            Column("confirmed", number=True),
            Column("waiting", number=True),
            Column("dropped", number=True),
        ],
        [
            [
                Cell(queue.kafka_topic),
                Cell(f"{queue.accepted}"),
                Cell(f"{queue.confirmed}"),
                Cell(f"{queue.waiting}", WARNING if queue.waiting > 1000 else ""),
                Cell(_dropped(queue.dropped), BAD if any(queue.dropped.values()) else ""),
            ]
            for queue in queues
        ],
    )


def _dropped(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()) if count) or "0"


def _quantity(values: Mapping[str, Value], name: str, divisor: float, unit: str, digits: int) -> str:
    value = values.get(name)
    return f"{value / divisor:.{digits}f} {unit}" if isinstance(value, int | float) else "-"


def _amperes(current_a: float | None) -> str:
    return "pause" if current_a is None else f"{current_a:g} A"


def duration(seconds: float) -> str:
    """For people: `0.4 s`, `41 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
