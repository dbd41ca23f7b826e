"""Whether what a configuration names can be reached from this machine: what `evedge check --connect` tries.

Each trial says exactly what it did and has a deadline of its own. They run side by side, so a dead recharge point costs
one deadline, not one each. Nothing is written to any device, topic or file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import defaultdict
from collections.abc import Awaitable, Mapping
from contextlib import closing
from dataclasses import dataclass

from evedge.config import Address, Config, RechargePoint
from evedge.config.values import parse_address
from evedge.config_profiles import endpoint
from evedge.core.profile import Profile

DEADLINE_S = 5.0
MAX_AT_ONCE = 50
"""Connections under way at the same time: a site's router and this process's file descriptors have bounds."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried (`subject`: of which part), whether it worked, and what was seen."""

    subject: str
    ok: bool
    seen: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.seen}"


async def try_everything(
    config: Config, profiles: Mapping[str, Profile], deadline_s: float = DEADLINE_S
) -> list[Trial]:
    """One trial or more for each recharge point, the broker and Kafka, in the configuration's order."""
    slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def within(trial: Awaitable[list[Trial]]) -> list[Trial]:
        async with slots:
            return await trial

    trials = [try_broker(config, deadline_s), try_kafka(config, deadline_s)]
    trials += [try_device(address, points, deadline_s) for address, points in _devices(config, profiles).items()]
    done = await asyncio.gather(*(within(trial) for trial in trials))
    return [trial for group in done for trial in group]


def _devices(config: Config, profiles: Mapping[str, Profile]) -> dict[Address, list[RechargePoint]]:
    """Many devices take one connection only, so the recharge points behind one address are tried together."""
    devices: dict[Address, list[RechargePoint]] = defaultdict(list)
    for point in config.recharge_points:
        profile = profiles.get(point.id)
        if point.host is not None and profile is not None:
            devices[Address(point.host, endpoint(point, profile)[0])].append(point)
    return devices


async def try_device(address: Address, points: list[RechargePoint], deadline_s: float) -> list[Trial]:
    """A connection to a Modbus TCP endpoint. Nothing is read: `evedge probe` does that."""
    problem = await _connect(address, deadline_s)
    seen = f"{address} accepts connections" if problem is None else f"{address}: {problem}"
    return [Trial(f"recharge point {point.id}", problem is None, seen) for point in points]


async def try_broker(config: Config, deadline_s: float) -> list[Trial]:
    """Whether the addresses of the broker here can be bound, or the broker elsewhere accepts a connection."""
    if config.mqtt.remote is not None:
        address = Address(config.mqtt.remote.host, config.mqtt.remote.port)
        problem = await _connect(address, deadline_s)
        seen = f"{address} accepts connections" if problem is None else f"{address}: {problem}"
        return [Trial("mqtt.url", problem is None, seen)]
    addresses = {"mqtt.bind": config.mqtt.bind, "mqtt.tls_bind": config.mqtt.tls_bind, "web.bind": config.web.bind}
    return [await _try_bind(name, address, deadline_s) for name, address in addresses.items() if address is not None]


async def try_kafka(config: Config, deadline_s: float) -> list[Trial]:
    """A connection to each bootstrap server."""
    if config.kafka is None:
        return []
    addresses = [parse_address(server) for server in config.kafka.bootstrap_servers]
    problems = await asyncio.gather(*(_connect(address, deadline_s) for address in addresses))
    return [
        Trial(
            "kafka.bootstrap_servers",
            problem is None,
            f"{address}: {problem}" if problem else f"{address} accepts connections",
        )
        for address, problem in zip(addresses, problems, strict=True)
    ]


async def _connect(address: Address, deadline_s: float) -> str | None:
    """Why no TCP connection could be opened; None when one was, and was closed again."""
    try:
        async with asyncio.timeout(deadline_s):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.close()
            await writer.wait_closed()
    except TimeoutError:
        return f"no connection within {deadline_s:g} s"
    except OSError as error:
        return _reason(error)
    return None


async def _try_bind(name: str, address: Address, deadline_s: float) -> Trial:
    """Whether this process could listen there; nobody can connect in the moment it takes."""
    try:
        async with asyncio.timeout(deadline_s):
            found = await asyncio.get_running_loop().getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        for family, kind, protocol, _, where in found:
            with closing(socket.socket(family, kind, protocol)) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                trial.bind(where)
    except TimeoutError:
        return Trial(name, ok=False, seen=f"{address}: the name was not resolved within {deadline_s:g} s")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return Trial(name, ok=False, seen=f"{address} is in use: evedge runs already, or another program is there")
        return Trial(name, ok=False, seen=f"{address}: {_reason(error)}")
    return Trial(name, ok=True, seen=f"{address} is free")


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    return os.strerror(error.errno).lower() if error.errno else str(error)
