"""Whether what a configuration names can be reached from this machine: what `evedge check --connect` tries.

Each trial says exactly what it did and has a deadline of its own. They run side by side, so a dead recharge point costs
one deadline, not one each; recharge points behind one address are tried one after the other on one connection, because
many devices bear no more. Nothing is written to any device, topic or file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias

from evedge.config import Address, Config, RechargePoint
from evedge.config.values import parse_address
from evedge.config_kafka import kafka_settings, kafka_topics
from evedge.config_profiles import endpoint, timeout_s
from evedge.core.errors import EvedgeError, Outage, Refused
from evedge.core.plan import make_plan
from evedge.core.profile import Profile
from evedge.links.kafka_admin import KafkaAdmin
from evedge.links.modbus import ModbusEndpoint

DEADLINE_S = 5.0
"""For a connection. An answer on it may take as long as the recharge point's timeout, or as Kafka's deadline."""
MAX_AT_ONCE = 50
"""Trials under way at the same time: a site's router and this process's file descriptors have bounds."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried (`subject`: of which part), whether it worked, and what was seen."""

    subject: str
    ok: bool
    seen: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.seen}"


Polled: TypeAlias = tuple[RechargePoint, Profile]


async def try_everything(
    config: Config, profiles: Mapping[str, Profile], deadline_s: float = DEADLINE_S
) -> list[Trial]:
    """One trial or more for the broker, for Kafka and for each recharge point that is polled here."""
    slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def within(trial: Awaitable[list[Trial]]) -> list[Trial]:
        async with slots:
            return await trial

    trials = [_broker(config, deadline_s), _kafka(config, deadline_s)]
    trials += [_device(address, polled, deadline_s) for address, polled in _devices(config, profiles).items()]
    done = await asyncio.gather(*(within(trial) for trial in trials))
    return [trial for group in done for trial in group]


# Recharge points


def _devices(config: Config, profiles: Mapping[str, Profile]) -> dict[Address, list[Polled]]:
    devices: dict[Address, list[Polled]] = defaultdict(list)
    for point in config.recharge_points:
        profile = profiles.get(point.id)
        if point.host is not None and profile is not None:
            devices[Address(point.host, endpoint(point, profile)[0])].append((point, profile))
    return devices


async def _device(address: Address, polled: Sequence[Polled], deadline_s: float) -> list[Trial]:
    """A connection as the gateway makes it, and for each recharge point the first request of its poll."""
    manners = polled[0][1].connection
    device = ModbusEndpoint(
        address.host,
        address.port,
        connect_timeout_s=deadline_s,
        timeout_s=max(timeout_s(point, profile) for point, profile in polled),
        pause_between_requests_s=manners.pause_between_requests_s,
        pause_after_connect_s=manners.pause_after_connect_s,
    )
    trials = []
    try:
        for point, profile in polled:
            subject = f"recharge point {point.id}"
            try:
                if not device.connected:
                    await device.connect()
                trials.append(Trial(subject, ok=True, seen=f"{address} {await _first_read(device, point, profile)}"))
            except Refused as error:
                what = f"{address} answers, but refuses the first request of {profile.name}: {error}"
                trials.append(Trial(subject, ok=False, seen=what))
            except Outage as error:
                trials.append(Trial(subject, ok=False, seen=f"{address}: {error}"))
    finally:
        device.close()
    return trials


async def _first_read(device: ModbusEndpoint, point: RechargePoint, profile: Profile) -> str:
    plan = make_plan(profile, connector=point.connector, unit_id=point.unit_id)
    blocks = [*plan.poll, *plan.identity]
    block = next((block for block in blocks if not block.optional), blocks[0])
    await device.read(block)
    return f"answers ({block})"


# The broker, and the addresses of this process


async def _broker(config: Config, deadline_s: float) -> list[Trial]:
    """Whether this process could listen where it should; or whether the broker elsewhere accepts a connection."""
    addresses = {"web.bind": config.web.bind}
    trials = []
    if config.mqtt.remote is not None:
        trials.append(await _connect("mqtt.url", Address(config.mqtt.remote.host, config.mqtt.remote.port), deadline_s))
    else:
        addresses = {"mqtt.bind": config.mqtt.bind, "mqtt.tls_bind": config.mqtt.tls_bind} | addresses
    trials += [await _bind(name, address, deadline_s) for name, address in addresses.items() if address is not None]
    return trials


async def _bind(name: str, address: Address, deadline_s: float) -> Trial:
    """Binds and lets go, without listening: nobody can connect in the moment it takes."""
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


# Kafka


async def _kafka(config: Config, deadline_s: float) -> list[Trial]:
    """A connection to each bootstrap server; where one accepts it, a login, and which of the topics are there."""
    settings = kafka_settings(config)
    if settings is None:
        return []
    servers = [parse_address(server) for server in settings.bootstrap_servers]
    trials = list(
        await asyncio.gather(*(_connect("kafka.bootstrap_servers", server, deadline_s) for server in servers))
    )
    if not any(trial.ok for trial in trials):
        return trials
    try:
        async with KafkaAdmin(settings, request_timeout_s=deadline_s) as admin:
            existing = await admin.existing_topics()
    except EvedgeError as error:
        return [*trials, Trial("kafka", ok=False, seen=str(error))]
    needed = kafka_topics(config)
    missing = [spec.name for spec in needed if spec.name not in existing]
    trials += [
        Trial(f"Kafka topic {name}", ok=False, seen="is not there, or not for this user: `evedge topics --create`")
        for name in missing
    ]
    there = len(needed) - len(missing)
    return [*trials, Trial("kafka.topics", ok=not missing, seen=f"{there} of {len(needed)} topics are there")]


async def _connect(subject: str, address: Address, deadline_s: float) -> Trial:
    """A TCP connection, closed again at once."""
    try:
        async with asyncio.timeout(deadline_s):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.close()
            await writer.wait_closed()
    except TimeoutError:
        return Trial(subject, ok=False, seen=f"{address}: no connection within {deadline_s:g} s")
    except OSError as error:
        return Trial(subject, ok=False, seen=f"{address}: {_reason(error)}")
    return Trial(subject, ok=True, seen=f"{address} accepts connections")


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    return os.strerror(error.errno).lower() if error.errno else str(error)
