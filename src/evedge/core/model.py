"""The values that travel through the house. Frozen, slotted, and impossible to build wrong where that is cheap.

Wire shapes (JSON) are msgspec structs whose field names are the contract; the rest are plain frozen dataclasses.
Times are milliseconds since 1970 inside (`…_ms`) and RFC 3339 text on the wire (`…_at`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import msgspec

Value: TypeAlias = float | int | bool | str
"""One measurand's value: a number in the unit its name ends in, a truth value, or text."""


class Stream(StrEnum):
    """What a record on the gateway's own topics is; the value is the key under `[kafka.topics]`."""

    TELEMETRY = "telemetry"
    ALERTS = "alerts"
    STATUS = "status"
    GATEWAY_TELEMETRY = "gateway_telemetry"
    GATEWAY_STATUS = "gateway_status"
    COMMANDS = "commands"
    COMMAND_RESULTS = "command_results"
    DEAD_LETTERS = "dead_letters"


class Quality(StrEnum):
    """How much of a poll could be read: all, some, or none of it."""

    GOOD = "good"
    PARTIAL = "partial"
    BAD = "bad"


class Link(StrEnum):
    """Whether a recharge point can be read: all values, some, or none. Only for good values is it online."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Publish:
    """One MQTT application message as a client sent it. `packet_id` is 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int = 0
    dup: bool = False


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who sent a message: the client id its session has, and the user it logged in as (None: anonymous)."""

    client_id: str
    user: str | None = None

    @property
    def name(self) -> str:
        """What the agent is called in the configuration: the user, or the client id where anonymous."""
        return self.user if self.user is not None else self.client_id


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record on its way. `headers` are all but `ce_id` and `ce_time`, which `number` and `timestamp_ms` give.

    number: grows with every accepted record, over restarts too; 0 until the journal gives one.
    lane: the Kafka topic. durable: on disk before its promise was made.
    """

    lane: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int
    durable: bool
    number: int = 0

    @property
    def size(self) -> int:
        """Bytes that count against `[journal] max_bytes`: key, headers and value."""
        return len(self.key) + len(self.value) + sum(len(name) + len(value) for name, value in self.headers)


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """One poll of one recharge point. A value that could not be read is in `errors`, never 0 and never an old one."""

    gateway: str
    recharge_point: str
    seq: int
    measured_at: str
    quality: Quality
    values: dict[str, Value]
    errors: dict[str, str]
    derived: list[str]


class RechargePointStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The link to one recharge point, and who it says it is. Absent identity was not read or is not offered."""

    gateway: str
    recharge_point: str
    state: Link
    since: str
    reason: str | None = None
    vendor: str | None = None
    model: str | None = None
    serial_number: str | None = None
    firmware: str | None = None


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`online` while the process runs; `offline` at a clean stop."""

    gateway: str
    state: Link
    version: str
    started_at: str
    clock_synchronised: bool | None = None


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`online` while an agent is connected; `offline` at its goodbye and as its last will."""

    gateway: str
    agent: str
    state: Link
    version: str


class Severity(StrEnum):
    """What an alert asks of people: know, watch, act."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AlertState(StrEnum):
    """Whether the condition holds."""

    RAISED = "raised"
    CLEARED = "cleared"


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A condition somebody should know of. `id` is the same when it is raised and when it is cleared."""

    id: str
    gateway: str
    kind: str
    severity: Severity
    state: AlertState
    raised_at: str
    message: str
    recharge_point: str | None = None
    cleared_at: str | None = None
    details: dict[str, Value] = {}
