"""From the configuration and the profiles to what each part is made of. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evedge.config import Config, RechargePoint
from evedge.config_profiles import plan_for, poll_interval_s, shared_endpoints
from evedge.core import codec
from evedge.core.commands import IssuerRights, Rules
from evedge.core.desired import Bounds, OnLapse
from evedge.core.errors import UsageError
from evedge.core.model import AgentStatus, Link, Stream
from evedge.core.profile import Limit, Profile
from evedge.core.rights import Ownership, Rights
from evedge.core.topics import Leaf
from evedge.flows.clock import Clock
from evedge.flows.poller import Polled, Poller, Sink
from evedge.flows.reporter import RechargePointView
from evedge.links.modbus import ModbusEndpoint
from evedge.links.mqtt_client import ClientSettings
from evedge.links.mqtt_protocols import FrontSettings, User


def front_settings(config: Config) -> FrontSettings:
    """What the MQTT front obeys."""
    mqtt = config.mqtt
    return FrontSettings(
        bind=None if mqtt.bind is None else str(mqtt.bind),
        allow_anonymous=mqtt.allow_anonymous,
        max_packet_bytes=mqtt.max_packet_bytes,
        max_clients=mqtt.max_clients,
        connect_timeout_s=mqtt.connect_timeout_s,
        max_sessions=mqtt.max_sessions,
        session_expiry_s=mqtt.session_expiry_s,
        max_session_bytes=mqtt.max_session_bytes,
        tls_bind=None if mqtt.tls_bind is None else str(mqtt.tls_bind),
        tls_cert_file=mqtt.tls_cert_file,
        tls_key_file=mqtt.tls_key_file,
        tls_client_ca_file=mqtt.tls_client_ca_file,
        users=tuple(
            User(
                user.name,
                password_hash=None if user.password_hash is None else user.password_hash.get_secret_value(),
                tls_common_name=user.tls_common_name,
                rights=Rights(publish=user.publish, subscribe=user.subscribe),
            )
            for user in mqtt.users
        ),
    )


def ownership(config: Config) -> Ownership:
    """Which MQTT topics belong to whom."""
    return Ownership(config.own_topics, {point.id: point.agent for point in config.recharge_points})


def command_rules(config: Config) -> Rules:
    """What commands are judged by."""
    return Rules(
        gateway=config.gateway.id,
        recharge_points=frozenset(point.id for point in config.recharge_points),
        default_lease_s=config.commands.default_lease_s,
        max_age_s=config.commands.max_age_s,
        issuers={
            issuer.name: IssuerRights(
                purposes=frozenset(issuer.purposes),
                recharge_points=issuer.recharge_points,
                actions=frozenset(issuer.actions),
                signed=issuer.public_key is not None,
            )
            for issuer in config.commands.issuers
        },
    )


def bounds(point: RechargePoint, limit: Limit) -> Bounds:
    """What a recharge point may be brought to."""
    return Bounds(
        min_current_a=max(limit.min_current_a, point.min_current_a or 0.0),
        max_current_a=min(limit.max_current_a, point.max_current_a or limit.max_current_a),
        fallback_current_a=point.fallback_current_a,
        on_lapse=None if point.on_lapse is None else OnLapse(point.on_lapse),
    )


def unable(config: Config, profiles: Mapping[str, Profile]) -> dict[str, str]:
    """The recharge points that take no commands, and why."""
    found = {}
    for point in config.recharge_points:
        if point.is_polled and profiles[point.id].limit is None:
            found[point.id] = f"profile {profiles[point.id].name} knows no limit"
    return found


def agents(config: Config) -> dict[str, tuple[str, ...]]:
    """Each agent and the recharge points it owns."""
    found: dict[str, tuple[str, ...]] = {}
    for point in config.recharge_points:
        if point.agent is not None:
            found[point.agent] = (*found.get(point.agent, ()), point.id)
    return found


def agent_client(config: Config, version: str) -> ClientSettings:
    """An agent's way to its gateway's broker."""
    mqtt, own = config.mqtt, config.own_topics
    broker = mqtt.remote
    if broker is None:
        raise UsageError("mqtt.url: is missing, and an agent needs it")
    name = config.agent_name

    def status(state: Link) -> bytes:
        return codec.encode(AgentStatus(gateway=config.gateway.id, agent=name, state=state, version=version))

    return ClientSettings(
        host=broker.host,
        port=broker.port,
        client_id=mqtt.client_id or name,
        username=mqtt.username,
        password=None if mqtt.password is None else mqtt.password.get_secret_value(),
        tls=broker.tls,
        tls_ca_file=mqtt.tls_ca_file,
        tls_cert_file=mqtt.tls_cert_file,
        tls_key_file=mqtt.tls_key_file,
        status_topic=own.agent_status(name),
        online=status(Link.ONLINE),
        offline=status(Link.OFFLINE),
        subscribe=tuple(own.recharge_point(point.id, Leaf.COMMAND) for point in config.recharge_points),
    )


def lanes(config: Config, topics: Mapping[Stream, str]) -> list[str]:
    """Every Kafka topic that this gateway writes to."""
    own = [topic for stream, topic in topics.items() if stream is not Stream.COMMANDS]
    return [*own, *(entry.kafka_topic for entry in config.routes)]


def pollers(config: Config, profiles: Mapping[str, Profile], sink: Sink, clock: Clock) -> list[Poller]:
    """One poller for each Modbus TCP endpoint, spread over the slots of an interval."""
    found = []
    for slot, shared in enumerate(shared_endpoints(config, profiles)):
        link = ModbusEndpoint(
            shared.host,
            shared.port,
            connect_timeout_s=shared.connect_timeout_s,
            timeout_s=shared.timeout_s,
            pause_between_requests_s=shared.pause_between_requests_s,
            pause_after_connect_s=shared.pause_after_connect_s,
        )
        polled = [
            Polled(point.id, plan_for(point, profile), poll_interval_s(point, profile))
            for point, profile in shared.points
        ]
        found.append(Poller(shared.name, link, polled, sink, clock=clock, slot=slot))
    return found


def limit_now(view: RechargePointView) -> Callable[[], float | None]:
    """The limit in force as telemetry last saw it, for what a lease falls back to."""

    def look() -> float | None:
        value = view.values.get("current_limit_a")
        return float(value) if isinstance(value, int | float) else None

    return look
