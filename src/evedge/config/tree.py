"""The configuration as a tree of frozen values: every key, its type and its default.

A value in here is allowed by itself; what must hold between values stands in `rules`. No file is read here.
Unknown keys are refused, and so is a value of another type ("502" is no port): a configuration means what it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from evedge.config.values import (
    Address,
    Bind,
    BrokerUrl,
    FilePath,
    Host,
    Id,
    KafkaTopic,
    Name,
    OwnKafkaTopic,
    PasswordHash,
    Phases,
    Port,
    PublicKey,
    RemoteBroker,
    SaslExtension,
    SaslMechanism,
    Secret,
    Server,
    Text,
    TokenUrl,
    TopicFilter,
    TopicPrefix,
    UnitId,
    parse_broker_url,
)
from evedge.core.model import Stream
from evedge.core.topics import OwnTopics, Route

MIB = 1_048_576

Role: TypeAlias = Literal["gateway", "agent", "local"]
Purpose: TypeAlias = Literal["grid", "site", "market", "user"]
Action: TypeAlias = Literal[
    "set_current_limit",
    "set_power_limit",
    "pause",
    "resume",
    "write",
    "ping",
    "reload",
    "set_site_limit",
    "set_log_level",
]


class Section(BaseModel):
    """A table: strict, frozen, and silent about its input when something is wrong with it."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, allow_inf_nan=False, validate_default=False
    )


class Gateway(Section):
    """Who this is, and where it keeps what must survive."""

    id: Id
    state_dir: FilePath = Path("/var/lib/evedge")


class MqttUser(Section):
    """Who may log in, and what that user may do. Filters that are not given allow nothing."""

    name: Name
    password_hash: PasswordHash | None = None
    password_hash_file: FilePath | None = None
    tls_common_name: Text | None = None
    publish: Annotated[tuple[TopicFilter, ...], Field(strict=False)] = ()
    subscribe: Annotated[tuple[TopicFilter, ...], Field(strict=False)] = ()


class Mqtt(Section):
    """The embedded broker; or, with `url`, a broker elsewhere."""

    bind: Bind = Address("127.0.0.1", 1883)
    url: BrokerUrl | None = None
    allow_anonymous: bool = False
    allow_anonymous_from_anywhere: bool = False
    """The force: anonymous clients on an address that other machines reach."""
    max_packet_bytes: int = Field(default=262_144, ge=1024, le=268_435_455)
    max_clients: int = Field(default=1000, ge=1, le=100_000)
    topic_prefix: TopicPrefix = "evedge"
    connect_timeout_s: float = Field(default=10.0, ge=0.1, le=600)
    max_retained_bytes: int = Field(default=16 * MIB, ge=0, le=MIB**2)
    max_sessions: int = Field(default=1000, ge=0, le=100_000)
    session_expiry_s: int = Field(default=86_400, ge=0, le=366 * 86_400)
    max_session_bytes: int = Field(default=4 * MIB, ge=1024, le=MIB**2)
    tls_bind: Bind = None
    tls_cert_file: FilePath | None = None
    tls_key_file: FilePath | None = None
    tls_client_ca_file: FilePath | None = None
    username: Text | None = None
    password: Secret | None = None
    password_file: FilePath | None = None
    tls_ca_file: FilePath | None = None
    client_id: Text | None = None
    users: Annotated[tuple[MqttUser, ...], Field(strict=False)] = ()

    @property
    def remote(self) -> RemoteBroker | None:
        """The broker elsewhere; None when this process is the broker."""
        return None if self.url is None else parse_broker_url(self.url)


class KafkaTopics(Section):
    """The Kafka topics of the gateway's own streams. One topic, one shape."""

    telemetry: OwnKafkaTopic = "evedge.telemetry"
    alerts: OwnKafkaTopic = "evedge.alerts"
    status: OwnKafkaTopic = "evedge.status"
    gateway_telemetry: OwnKafkaTopic = "evedge.gateway-telemetry"
    gateway_status: OwnKafkaTopic = "evedge.gateway-status"
    commands: OwnKafkaTopic = "evedge.commands"
    command_results: OwnKafkaTopic = "evedge.command-results"
    dead_letters: OwnKafkaTopic = "evedge.dead-letters"

    def resolved(self, gateway: str) -> dict[Stream, str]:
        """Every stream's topic, with the gateway's id in place."""
        return {stream: getattr(self, stream.value).replace("{gateway}", gateway) for stream in Stream}


class Kafka(Section):
    """The cluster, and how to log in there."""

    bootstrap_servers: Annotated[tuple[Server, ...], Field(strict=False, min_length=1)] = ("127.0.0.1:9092",)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: Text | None = None
    sasl_password: Secret | None = None
    sasl_password_file: FilePath | None = None
    sasl_token_url: TokenUrl | None = None
    sasl_token_scope: Text | None = None
    sasl_extensions: Annotated[tuple[SaslExtension, ...], Field(strict=False)] = ()
    ssl_ca_file: FilePath | None = None
    ssl_cert_file: FilePath | None = None
    ssl_key_file: FilePath | None = None
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "gzip"
    topics: KafkaTopics = KafkaTopics()

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol.endswith("SSL")


class RouteEntry(Section):
    """Messages on other MQTT topics, forwarded as they are."""

    mqtt_topic: TopicFilter
    kafka_topic: KafkaTopic
    key: str = "{topic}"
    content_type: Text = "application/octet-stream"

    @property
    def route(self) -> Route:
        """The same for the core."""
        return Route(self.mqtt_topic, self.kafka_topic, self.key, self.content_type)


class RechargePoint(Section):
    """What serves one vehicle at a time: polled here (`host` and `profile`), or owned by an `agent`.

    None stands for what the profile says. Currents are per phase.
    """

    id: Id
    agent: Name | None = None
    host: Host | None = None
    port: Port | None = None
    unit_id: UnitId | None = None
    connector: int = Field(default=1, ge=1, le=255)
    profile: Text | None = None
    """A built-in name, or the path of a TOML file (absolute once loaded)."""
    poll_interval_s: float | None = Field(default=None, ge=0.1, le=86_400)
    timeout_s: float | None = Field(default=None, ge=0.05, le=600)
    """For an answer. 3 s where the profile says nothing."""
    evse_id: Text | None = None
    phases: Phases | None = None
    max_current_a: float | None = Field(default=None, gt=0, le=1000)
    min_current_a: float | None = Field(default=None, ge=0, le=1000)
    fallback_current_a: float | None = Field(default=None, ge=0, le=1000)
    on_lapse: Literal["fallback", "hold", "pause"] | None = None
    """None: the fallback, but `hold` for the purpose `grid`."""

    @property
    def is_polled(self) -> bool:
        """Whether this process reads it; otherwise an agent owns it."""
        return self.agent is None


class Journal(Section):
    """What waits on disk while Kafka is away, and what happens when that is full."""

    max_bytes: int = Field(default=1024 * MIB, ge=MIB, le=MIB**2 * 1024)
    when_full: Literal["block", "drop_oldest"] = "block"


class Issuer(Section):
    """Who may send commands, for which purposes, recharge points (globs) and actions."""

    name: Text
    purposes: Annotated[tuple[Purpose, ...], Field(strict=False, min_length=1)] = ("market",)
    recharge_points: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)] = ("*",)
    actions: Annotated[tuple[Action, ...], Field(strict=False, min_length=1)] = (
        "set_current_limit",
        "set_power_limit",
        "pause",
        "resume",
    )
    """Writing any register and what concerns the gateway itself are given only by name."""
    public_key: PublicKey | None = None
    """Ed25519, 32 bytes in base64; with it, only signed commands are taken from this issuer."""


class Commands(Section):
    """How long commands hold, and who may send them."""

    default_lease_s: int = Field(default=900, ge=0, le=366 * 86_400)
    max_age_s: int = Field(default=86_400, ge=1, le=366 * 86_400)
    issuers: Annotated[tuple[Issuer, ...], Field(strict=False)] = ()


class Meter(Section):
    """The meter at the site's connection."""

    host: Host
    port: Port | None = None
    unit_id: UnitId | None = None
    profile: Text


class Site(Section):
    """What all recharge points share. `max_current_a` is per phase."""

    max_current_a: float | None = Field(default=None, gt=0, le=10_000)
    meter: Meter | None = None


class Web(Section):
    """The page, the metrics and the health checks; `bind` is None when switched off."""

    bind: Bind = Address("127.0.0.1", 8080)
    allowed_hosts: Annotated[tuple[Host, ...], Field(strict=False)] = ()


class Log(Section):
    """What is logged, and how it looks; `auto` is console on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Config(Section):
    """The whole configuration."""

    gateway: Gateway
    mqtt: Mqtt = Mqtt()
    kafka: Kafka | None = None
    routes: Annotated[tuple[RouteEntry, ...], Field(strict=False)] = ()
    recharge_points: Annotated[tuple[RechargePoint, ...], Field(strict=False)] = ()
    journal: Journal = Journal()
    commands: Commands = Commands()
    site: Site = Site()
    web: Web = Web()
    log: Log = Log()

    @property
    def role(self) -> Role:
        """gateway: has Kafka. agent: no Kafka, a broker elsewhere. local: no Kafka, its own broker."""
        if self.kafka is not None:
            return "gateway"
        return "local" if self.mqtt.url is None else "agent"

    @property
    def agent_name(self) -> str:
        """What an agent is called: its user, else its client id, else one made of the gateway's id.

        With a client certificate the gateway knows it by the common name: `client_id` should say the same.
        """
        return self.mqtt.username or self.mqtt.client_id or f"{self.gateway.id}-agent"

    @property
    def own_topics(self) -> OwnTopics:
        """The names of the gateway's own MQTT topics."""
        return OwnTopics(self.mqtt.topic_prefix, self.gateway.id)
