"""`evedge simulate`: recharge points as Modbus TCP servers until somebody stops them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter

import click

from evedge.profiles import load_profile
from evedge.simulator import MEANINGS, Fault, SimulatedRechargePoint, Simulation, fast_clock, parse_faults

_FAULTS = "\n".join(f"{fault:<14} {MEANINGS[fault]}" for fault in Fault)
_REFRESH_S = 1.0


@click.command(
    name="simulate",
    epilog=f"\b\nFaults:\n{_FAULTS}",
    help="Recharge points as real Modbus TCP servers on ports P … P+N-1 that charge cars as the real ones do.",
)
@click.option("--profile", "profile_name", required=True, metavar="NAME", help="A built-in profile, or a TOML file.")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=5020, show_default=True, help="The first port; 0: any free ones."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed tells the same story.")
@click.option(
    "--connectors", type=click.IntRange(1, 64), default=1, show_default=True, help="Connectors of each recharge point."
)
@click.option("--fault", "fault_names", multiple=True, metavar="NAME", help="A fault for all of them; repeatable.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0.01, max=3600.0),
    default=1.0,
    show_default=True,
    help="How much faster than real time the cars live.",
)
def command(
    profile_name: str,
    count: int,
    host: str,
    port: int,
    seed: int,
    connectors: int,
    fault_names: tuple[str, ...],
    speed: float,
) -> None:
    faults = parse_faults(fault_names)
    simulation = Simulation(
        load_profile(profile_name),
        count=count,
        host=host,
        port=port,
        seed=seed,
        faults=faults,
        connectors=connectors,
        clock=fast_clock(speed),
    )
    asyncio.run(_run(simulation))


async def _run(simulation: Simulation) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with simulation:
        for recharge_point in simulation.recharge_points:
            click.echo(_introduction(recharge_point))
        if not sys.stdout.isatty():
            await stop.wait()
            return
        click.echo("Ctrl-C ends it.")
        while not stop.is_set():
            click.echo(f"\r\033[K{_overview(simulation)}", nl=False)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _REFRESH_S)
        click.echo()


def _introduction(recharge_point: SimulatedRechargePoint) -> str:
    faults = f", {' + '.join(sorted(recharge_point.faults))}" if recharge_point.faults else ""
    return (
        f"{recharge_point.host}:{recharge_point.port} unit id {recharge_point.unit_id}: "
        f"{recharge_point.profile.vendor} {recharge_point.profile.model}, serial {recharge_point.serial_number}{faults}"
    )


def _overview(simulation: Simulation) -> str:
    """One calm line: how many do what, how much power, how many requests so far."""
    points = simulation.recharge_points
    states = Counter(point.state for point in points)
    power_kw = sum(point.car.power_w for point in points) / 1000
    requests = sum(point.requests.received for point in points)
    doing = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in states.most_common())
    return f"{doing}; {power_kw:.1f} kW; {requests} requests"
