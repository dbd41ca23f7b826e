"""The gateway: builds every part from the configuration, owns the one top-level task group, and stops in order.

Start: state and journal (what an earlier run left), the MQTT side, Kafka's client, the web; then the tasks. Nothing
waits for Kafka or for a recharge point.

Stop, at the first signal:
1. the sources end: pollers, the MQTT clients' messages, commands;
2. the gateway says `offline`, and the forwarder drains up to a grace period (a second signal cuts it short);
3. what is left goes to disk;
4. everything closes in the reverse order of its start;
5. should that overrun, all stacks are dumped and the process exits.

A task that everything rests on and that fails stops the process the same way; systemd starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from evedge import __version__, build
from evedge.config import Address, Config
from evedge.config_kafka import kafka_settings
from evedge.core.cloudevents import COUNTER_BITS
from evedge.core.counters import MqttCounters
from evedge.core.errors import UsageError
from evedge.core.lanes import WhenFull
from evedge.core.life import OpenCommand
from evedge.core.model import Link, Severity, Stream, Value
from evedge.core.profile import Profile
from evedge.flows.agent_commands import AgentCommands
from evedge.flows.agent_news import AgentNews
from evedge.flows.agent_outlet import RECHARGE_POINT_STREAMS, AgentOutlet, NoSubscribers
from evedge.flows.clock import SystemClock
from evedge.flows.commander import Commander
from evedge.flows.forwarder import Forwarder
from evedge.flows.housekeeping import Housekeeping
from evedge.flows.intake import Intake
from evedge.flows.lives import Lives
from evedge.flows.poller import Device, Poller
from evedge.flows.presence import AgentPresence
from evedge.flows.reconciler import Reconciler
from evedge.flows.reporter import Reporter
from evedge.flows.supervise import supervised
from evedge.flows.watchdog import feed_watchdog
from evedge.links.broker import Router
from evedge.links.journal import Journal
from evedge.links.kafka_consumer import KafkaConsumer
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.lock import StateLock
from evedge.links.machine import Machine
from evedge.links.mqtt_client import LANE, MqttClient
from evedge.links.mqtt_front import MqttFront
from evedge.links.state import State
from evedge.links.systemd import Systemd
from evedge.snapshot import Snapshot
from evedge.web.control import ControlServer
from evedge.web.server import WebServer

log = structlog.get_logger()

DRAIN_S = 8.0
"""How long a stop waits for Kafka; what is not confirmed by then is on disk."""
STOP_AT_MOST_S = 25.0
"""When a stop takes longer than this something hangs: say where, and end."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What the outside asks of a running gateway: `stop` ends this run, `hurry` ends its drain.

    reload: another run with a changed configuration follows at once; only ever set together with `stop`.
    """

    stop: asyncio.Event
    hurry: asyncio.Event
    reload: asyncio.Event = field(default_factory=asyncio.Event)

    def on_signal(self) -> None:
        """SIGTERM or SIGINT: the first stops, also what was about to reload; the second speeds it up."""
        if self.stop.is_set() and not self.reload.is_set():
            self.hurry.set()
        self.reload.clear()
        self.stop.set()

    def on_reload(self) -> None:
        """A changed configuration is there. Whoever is stopping goes on stopping."""
        if not self.stop.is_set():
            self.reload.set()
            self.stop.set()


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the running gateway listens."""

    mqtt: str
    web: str | None


class Gateway:
    """One run of the gateway. `ready` is called once everything listens and every task was started."""

    def __init__(
        self,
        config: Config,
        profiles: Mapping[str, Profile],
        *,
        systemd: Systemd,
        ready: Callable[[Addresses], None] = lambda _: None,
    ) -> None:
        if config.mqtt.url is not None and config.kafka is not None:
            raise UsageError(
                "mqtt.url: a gateway with its broker elsewhere is not supported by this version; leave out mqtt.url "
                "(this process is the broker) or [kafka] (it is an agent)"
            )
        self._config = config
        self._profiles = profiles
        self._systemd = systemd
        self._ready = ready
        self._clock = SystemClock()
        self._kafka = kafka_settings(config)

    async def run(self, signals: Signals) -> None:
        """Run until `signals.stop`. Raises EvedgeError, in one line, for what ends it otherwise."""
        async with AsyncExitStack() as stack:
            parts = await self._open(stack)
            try:
                async with asyncio.TaskGroup() as tasks:
                    sources = self._start_sources(parts, tasks)
                    others = self._start_others(parts, tasks)
                    self._tell_ready(parts)
                    await signals.stop.wait()
                    stack.enter_context(_overrun_guard())
                    parts.snapshot.not_ready = "it is stopping"
                    if signals.reload.is_set():
                        self._systemd.reloading()
                    else:
                        self._systemd.stopping()
                    log.info("gateway_stopping")
                    await _cancel(sources)
                    if parts.front is not None:
                        await parts.front.stop_intake()
                    parts.reporter.gateway_status(Link.OFFLINE)
                    await self._drain(parts, signals)
                    await _cancel(others)
            except BaseExceptionGroup as group:
                raise _first_of(group) from group
        log.info("gateway_stopped")

    async def _open(self, stack: AsyncExitStack) -> _Parts:
        """Open what the tasks work on, in the order in which it is closed again backwards."""
        config, clock = self._config, self._clock
        directory = config.gateway.state_dir
        stack.enter_context(StateLock(directory))
        state = await stack.enter_async_context(State(directory / "state.db"))
        journal = await stack.enter_async_context(
            Journal(
                directory / "journal.db",
                max_bytes=config.journal.max_bytes,
                when_full=WhenFull(config.journal.when_full),
            )
        )
        journal.start_epoch(await state.begin_epoch(journal.last_number >> COUNTER_BITS, clock.wall_ms()))
        polled = [point.id for point in config.recharge_points if point.is_polled]
        await state.reserve(polled)

        counters = MqttCounters()
        is_agent = config.role == "agent"
        topics = None if config.kafka is None else config.kafka.topics.resolved(config.gateway.id)
        broker = None
        if is_agent:
            topics = dict.fromkeys(RECHARGE_POINT_STREAMS, LANE)
        else:
            broker = await stack.enter_async_context(
                Router(max_retained_bytes=config.mqtt.max_retained_bytes, counters=counters)
            )
        router = broker if broker is not None else NoSubscribers()
        recharge_points = frozenset(point.id for point in config.recharge_points)
        intake = Intake(
            journal,
            router,
            own=config.own_topics,
            kafka_topics=topics,
            routes=[entry.route for entry in config.routes],
            recharge_points=recharge_points,
            clock=clock,
        )
        reporter = Reporter(
            AgentOutlet(intake) if is_agent else intake,
            state,
            own=config.own_topics,
            recharge_points=sorted(recharge_points),
            clock=clock,
            version=__version__,
        )
        pollers = build.pollers(config, self._profiles, reporter, clock)
        lives = Lives(state, reporter, gateway=config.gateway.id, clock=clock)
        devices = {name: device for poller in pollers for name, device in poller.devices.items()}
        opened = await state.open_commands()
        reconcilers = await self._reconcilers(state, opened, reporter, lives, devices)
        agents = build.agents(config)
        agent_commands = AgentCommands(
            agents,
            own=config.own_topics,
            router=router,
            lives=lives,
            clock=clock,
            max_age_s=config.commands.max_age_s,
            opened=opened,
            ended=await state.ended_commands(),
        )
        agent_owned = [name for names in agents.values() for name in names]
        presence = AgentPresence(agents, reporter, agent_commands)
        intake.agents = AgentNews(agent_owned, commands=agent_commands, views=reporter, presence=presence)
        commander = Commander(
            rules=build.command_rules(config),
            executors={**reconcilers, **dict.fromkeys(agent_owned, agent_commands)},
            unable=build.unable(config, self._profiles),
            lives=lives,
            ids=state,
            dead_letters=intake,
            alerts=reporter,
            clock=clock,
            about=lambda: self._about(reporter),
            tells_duplicates=not is_agent,
        )
        intake.commands = commander
        await lives.publish_pending()
        await commander.end_orphans(opened)
        producer, consumer, forwarder, client, front = None, None, None, None, None
        if is_agent:

            def connected() -> None:
                reporter.tell_again()  # while we were away the gateway called our recharge points offline
                if forwarder is not None:
                    forwarder.wake()

            client = await stack.enter_async_context(
                MqttClient(
                    build.agent_client(config, __version__),
                    heard=partial(self._command_heard, commander),
                    connected=connected,
                )
            )
            forwarder = Forwarder(
                journal,
                client,
                reporter,
                lanes=[LANE],
                telemetry_lanes=frozenset(),
                dead_letters=LANE,
                clock=clock,
                lost_alert="mqtt_lost",
            )
        if self._kafka is not None and topics is not None:
            producer = await stack.enter_async_context(KafkaProducer(self._kafka))
            consumer = await stack.enter_async_context(
                KafkaConsumer(
                    self._kafka,
                    topics[Stream.COMMANDS],
                    group=f"evedge-{config.gateway.id}",
                    instance=config.gateway.id,
                )
            )
            forwarder = Forwarder(
                journal,
                producer,
                reporter,
                lanes=build.lanes(config, topics),
                telemetry_lanes=frozenset({topics[Stream.TELEMETRY], topics[Stream.GATEWAY_TELEMETRY]}),
                dead_letters=topics[Stream.DEAD_LETTERS],
                clock=clock,
            )
        if broker is not None:
            front = await stack.enter_async_context(
                MqttFront(
                    build.front_settings(config),
                    intake=intake,
                    router=broker,
                    ownership=build.ownership(config),
                    presence=presence,
                    counters=counters,
                )
            )
        housekeeping = Housekeeping(
            gateway=config.gateway.id,
            journal=journal,
            disks={"journal": journal.database, "state": state.database},
            producer=client if client is not None else producer,
            machine=Machine(directory),
            reports=reporter,
            clock=clock,
            mqtt_clients=lambda: None if front is None else counters.clients,
        )
        snapshot = Snapshot(
            config=config,
            profiles=self._profiles,
            clock=clock,
            reporter=reporter,
            journal=journal,
            state=state,
            lives=lives,
            housekeeping=housekeeping,
            pollers=pollers,
            reconcilers=reconcilers,
            mqtt=None if front is None else counters,
            mqtt_address=lambda: self._mqtt_address(front),
            producer=producer,
            broker=client,
            forwarder=forwarder,
            not_ready="it is starting",
        )
        await stack.enter_async_context(ControlServer(directory, snapshot))
        web = None
        if config.web.bind is not None:
            web = await stack.enter_async_context(
                WebServer(config.web.bind.host, config.web.bind.port, snapshot, allowed_hosts=config.web.allowed_hosts)
            )
        return _Parts(
            state=state,
            journal=journal,
            intake=intake,
            reporter=reporter,
            lives=lives,
            pollers=pollers,
            reconcilers=reconcilers,
            commander=commander,
            agent_commands=agent_commands,
            presence=presence,
            producer=producer,
            consumer=consumer,
            forwarder=forwarder,
            front=front,
            housekeeping=housekeeping,
            snapshot=snapshot,
            web=web,
        )

    async def _reconcilers(
        self,
        state: State,
        opened: Sequence[OpenCommand],
        reporter: Reporter,
        lives: Lives,
        devices: Mapping[str, Device],
    ) -> dict[str, Reconciler]:
        desired = await state.desired()
        found = {}
        for point in self._config.recharge_points:
            profile = self._profiles.get(point.id)
            if profile is None or profile.limit is None:
                continue
            view = reporter.recharge_points[point.id]
            found[point.id] = Reconciler(
                point.id,
                limit=profile.limit,
                failsafe=profile.failsafe,
                bounds=build.bounds(point, profile.limit),
                device=devices[point.id],
                lives=lives,
                alerts=reporter,
                clock=self._clock,
                forget_after_s=self._config.commands.max_age_s,
                limit_now_a=build.limit_now(view),
                desired=desired.get(point.id),
                opened=[one for one in opened if one.command.recharge_point == point.id],
            )
        return found

    def _start_sources(self, parts: _Parts, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        started = [tasks.create_task(poller.serve(), name=poller.name) for poller in parts.pollers]
        for name, reconciler in parts.reconcilers.items():
            task_name = f"reconciler[{name}]"
            failed = partial(self._reconciler_failed, parts.reporter, name)
            started.append(tasks.create_task(supervised(task_name, reconciler.serve, failed), name=task_name))
        started.append(tasks.create_task(parts.commander.serve_local(), name="commander[mqtt]"))
        started.append(tasks.create_task(parts.agent_commands.run(), name="commander[agents]"))
        if parts.consumer is not None:
            started.append(tasks.create_task(parts.commander.serve_kafka(parts.consumer), name="commander[kafka]"))
        return started

    @staticmethod
    def _reconciler_failed(reporter: Reporter, recharge_point: str, problem: str) -> None:
        reporter.raise_alert(
            "commands_failed",
            f"commands cannot be executed: {problem}",
            recharge_point=recharge_point,
            severity=Severity.ERROR,
        )

    def _start_others(self, parts: _Parts, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        started = [
            tasks.create_task(parts.housekeeping.run(), name="housekeeping"),
            tasks.create_task(feed_watchdog(self._systemd, parts.snapshot.stalled), name="watchdog"),
        ]
        if parts.forwarder is not None:
            started.append(tasks.create_task(parts.forwarder.run(), name="forwarder"))
        return started

    def _tell_ready(self, parts: _Parts) -> None:
        reporter = parts.reporter
        reporter.gateway_status(Link.ONLINE)
        parts.presence.start()
        for missing in parts.state.missing:
            reporter.raise_alert(
                "unclean_restart",
                f"the last run did not stop cleanly: telemetry {missing.first} to {missing.last} may be missing",
                recharge_point=missing.recharge_point if missing.recharge_point in reporter.recharge_points else None,
                details={"recharge_point": missing.recharge_point, "first": missing.first, "last": missing.last},
            )
        if self._config.site.max_current_a is not None:
            reporter.raise_alert(
                "site_limit_not_enforced",
                "site.max_current_a is configured, and this version does not enforce it",
                severity=Severity.ERROR,
            )
        addresses = Addresses(
            mqtt=self._mqtt_address(parts.front),
            web=None if parts.web is None else f"http://{parts.web.address}/",
        )
        parts.snapshot.not_ready = None
        self._systemd.ready(f"{len(self._config.recharge_points)} recharge points, MQTT on {addresses.mqtt}")
        log.info(
            "gateway_started",
            gateway=self._config.gateway.id,
            version=__version__,
            role=self._config.role,
            recharge_points=len(self._config.recharge_points),
            mqtt=addresses.mqtt,
            web=addresses.web,
        )
        self._ready(addresses)

    def _command_heard(self, commander: Commander, topic: str, payload: bytes) -> None:
        """The gateway has a command for a recharge point of this agent. What finds no room now, it sends again."""
        named = self._config.own_topics.parse(topic)
        if named is not None and not commander.submit(payload, None, named[0]):
            log.warning("command_put_off", mqtt_topic=topic, reason="too many wait")

    def _mqtt_address(self, front: MqttFront | None) -> str:
        if front is None:
            return str(self._config.mqtt.remote)
        bind, tls_bind = self._config.mqtt.bind, self._config.mqtt.tls_bind
        shown = [] if bind is None else [str(Address(bind.host, front.port))]
        if tls_bind is not None:
            shown.append(f"{Address(tls_bind.host, front.tls_port)} (TLS)")
        return ", ".join(shown)

    async def _drain(self, parts: _Parts, signals: Signals) -> None:
        if parts.forwarder is None:
            return
        drain = asyncio.create_task(parts.forwarder.drain(DRAIN_S), name="drain")
        hurry = asyncio.create_task(signals.hurry.wait(), name="hurry")
        await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
        drained = drain.done() and drain.result()
        await _cancel([drain, hurry])
        waiting = sum(counts.waiting for counts in parts.journal.lanes().values())
        log.info("gateway_drained" if drained else "gateway_not_drained", waiting_on_disk=waiting)

    def _about(self, reporter: Reporter) -> dict[str, Value]:
        return {
            "version": __version__,
            "role": self._config.role,
            "uptime_s": (self._clock.wall_ms() - reporter.started_at_ms) // 1000,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What is open while the gateway runs."""

    state: State
    journal: Journal
    intake: Intake
    reporter: Reporter
    lives: Lives
    pollers: Sequence[Poller]
    reconcilers: Mapping[str, Reconciler]
    commander: Commander
    agent_commands: AgentCommands
    presence: AgentPresence
    producer: KafkaProducer | None
    consumer: KafkaConsumer | None
    forwarder: Forwarder | None
    front: MqttFront | None
    housekeeping: Housekeeping
    snapshot: Snapshot
    web: WebServer | None


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _overrun_guard() -> Iterator[None]:
    """Ends the process, with all stacks on standard error, when a stop hangs."""
    loop = asyncio.get_running_loop()

    def overrun() -> None:
        sys.stderr.write(f"evedge: stopping took longer than {STOP_AT_MOST_S:g} s; every task and thread follows\n")
        for task in asyncio.all_tasks(loop):
            sys.stderr.write(f"{task.get_name()}\n")
            task.print_stack(file=sys.stderr)
        faulthandler.dump_traceback(sys.stderr)
        os._exit(1)

    timer = threading.Timer(STOP_AT_MOST_S, overrun)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended the run, out of the task group's wrapping."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
