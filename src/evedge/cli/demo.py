"""`evedge demo`: everything on this machine, nothing else to start."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
from pathlib import Path

import click
import msgspec

from evedge import logs
from evedge.app import Signals
from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import UsageError
from evedge.core.model import Telemetry
from evedge.core.record_text import as_line
from evedge.demo import Place, Settings, run_demo
from evedge.runner import run_in_loop

MAX_RECHARGE_POINTS = 1000


@click.command(name="demo", help="Everything on this machine: simulated recharge points, gateway, Kafka.")
@click.option(
    "--recharge-points",
    type=click.IntRange(1, MAX_RECHARGE_POINTS),
    default=3,
    show_default=True,
    metavar="N",
    help="How many are simulated.",
)
@click.option("--kafka", metavar="HOST:PORT", help="A real Kafka instead of the one in memory.")
@click.option("--log-level", type=click.Choice(sorted(logs.LEVELS)), default="warning", show_default=True)
def command(recharge_points: int, kafka: str | None, log_level: str) -> None:
    if kafka is not None and not kafka.rpartition(":")[2].isdigit():
        raise UsageError(f"--kafka {kafka}: give host:port")
    logs.configure(log_level, "console")
    run_in_loop(_run(Settings(recharge_points, kafka)))


async def _run(settings: Settings) -> None:
    signals = Signals(asyncio.Event(), asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: its terminal was closed
        loop.add_signal_handler(number, signals.on_signal)
    await run_demo(settings, signals, started=_say_where, arrived=_show)
    click.echo("evedge: stopped; nothing was left behind")


def _program() -> str:
    """What to type in a second terminal for this program: its path, unless the shell finds it by its name."""
    found = shutil.which("evedge")
    if found is not None and Path(found).resolve() == Path(sys.argv[0]).resolve():
        return "evedge"
    if Path(sys.argv[0]).name == "evedge":
        return shlex.quote(sys.argv[0])
    return f"{shlex.quote(sys.executable)} -m evedge"


def _say_where(place: Place) -> None:
    program = _program()
    send = f"{program} send --config {place.config_file} rp-01 set_current_limit current_a=10 --wait 10"
    publish = f"mosquitto_pub -p {place.addresses.mqtt.rpartition(':')[2]} -q 1 -t factory/hall-1/energy -m 42"
    lines = [
        ("recharge points", f"{len(place.modbus_ports)} simulated, Modbus TCP on 127.0.0.1:{place.modbus_ports[0]} …"),
        ("MQTT", place.addresses.mqtt),
        ("Kafka", place.kafka),
        ("web", place.addresses.web or "off"),
        ("limit a car", send),
        ("see everything", f"{program} tail --config {place.config_file}"),
        ("publish", publish),
        ("stop", "Ctrl-C"),
    ]
    for name, text in lines:
        click.echo(f"{click.style(f'{name:>15}', bold=True)}  {text}")
    click.echo("\nTelemetry as it arrives on Kafka:")
    sys.stdout.flush()


def _show(record: ConsumedRecord) -> None:
    try:
        telemetry = msgspec.json.decode(record.value or b"", type=Telemetry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        click.echo(as_line(record))
        return
    values = telemetry.values
    state = str(values.get("state", telemetry.quality))
    colour = {"charging": "green", "faulted": "red", "bad": "red"}.get(state)
    facts = [
        f"{values[name]:>8.1f} {unit}"
        for name, unit in (("active_power_w", "W"), ("current_l1_a", "A"), ("session_energy_wh", "Wh"))
        if name in values
    ]
    limit = f"limit {values['current_limit_a']:g} A" if "current_limit_a" in values else ""
    line = f"{telemetry.measured_at[11:19]}  {telemetry.recharge_point}  #{telemetry.seq:<6}"
    click.echo(f"{line} {click.style(f'{state:<14}', fg=colour)} {' '.join(facts)}  {limit}")
    sys.stdout.flush()
