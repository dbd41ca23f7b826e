"""What is true now, as `/api/v1/status` serves it and `evedge status` prints it; and what `evedge journal` prints.

Field names are the contract. Nothing is left out: what is not known is null, never 0 and never an old value without its
age. Times on the wire are RFC 3339, ages and durations seconds.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from evedge.core.cloudevents import ce_id
from evedge.core.commands import Purpose
from evedge.core.desired import Desired, Hold, Target
from evedge.core.lanes import DeadLetter, LaneCounts, WhenFull
from evedge.core.model import Alert, Link, Quality, Value
from evedge.core.reading import Identity
from evedge.core.times import to_rfc3339

UNTOUCHED = "as the device has it"
"""Why a limit is what it is where no command ever asked for anything."""


class GatewayNow(msgspec.Struct, frozen=True, kw_only=True):
    """The process. `state` is degraded, with a reason, while `/readyz` says no."""

    id: str
    version: str
    role: str
    state: Link
    reason: str | None
    started_at: str
    uptime_s: float


class HoldNow(msgspec.Struct, frozen=True, kw_only=True):
    """One purpose's limit, or a pause where `current_a` is null. `ends_at` null: until it is replaced."""

    purpose: Purpose
    current_a: float | None
    issuer: str | None
    command_id: str
    ends_at: str | None


class LimitNow(msgspec.Struct, frozen=True, kw_only=True):
    """What a recharge point is being brought to, per phase, and why; and everything that holds there.

    `current_a` null: it is paused, or (with `paused` false) it is left as it is because no command asked for anything.
    command_id: which of the holds decides; null where none does.
    """

    current_a: float | None
    paused: bool
    why: str
    command_id: str | None = None
    holds: list[HoldNow]


class PollingNow(msgspec.Struct, frozen=True, kw_only=True):
    """How reading goes, counted since the start. `requests` is by outcome."""

    polls: int
    overruns: int
    writes: int
    requests: dict[str, int]
    last_poll_s: float


class RechargePointNow(msgspec.Struct, frozen=True, kw_only=True):
    """One recharge point. `values` are the last ones read, `age_s` old; `quality` is the last poll's.

    limit: null where it takes no commands here. polling and agent: who reads it, this process or an agent.
    """

    id: str
    state: Link
    reason: str | None
    since: str | None
    quality: Quality | None
    measured_at: str | None
    age_s: float | None
    identity: Identity
    values: dict[str, Value]
    agent: str | None
    limit: LimitNow | None
    polling: PollingNow | None


class MqttNow(msgspec.Struct, frozen=True, kw_only=True):
    """The embedded broker. `bind` is where it listens; null while it does not."""

    bind: str | None
    clients: int
    sessions: int
    received: int
    delivered: int
    dropped: dict[str, int]


class KafkaNow(msgspec.Struct, frozen=True, kw_only=True):
    """The way to Kafka. `blocked`: topics whose records wait, and why. `last_error` stays after it is over."""

    bootstrap_servers: list[str]
    up: bool
    last_error: str | None
    blocked: dict[str, str]


class JournalNow(msgspec.Struct, frozen=True, kw_only=True):
    """What waits and may be on disk. `trouble`: why the disk takes nothing now."""

    bytes: int
    max_bytes: int
    when_full: str
    waiting: int
    trouble: str | None


class BrokerNow(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's way to its gateway's broker. `blocked`: why records wait. `last_error` stays after it is over."""

    url: str
    agent: str
    up: bool
    last_error: str | None
    blocked: dict[str, str]


class LinksNow(msgspec.Struct, frozen=True, kw_only=True):
    """mqtt: null where the broker is elsewhere. kafka: null without [kafka]. broker: null but on an agent."""

    mqtt: MqttNow | None
    kafka: KafkaNow | None
    journal: JournalNow
    broker: BrokerNow | None = None


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """One Kafka topic's records: accepted = confirmed + waiting + dropped. `dropped` is by reason."""

    kafka_topic: str
    accepted: int
    confirmed: int
    waiting: int
    dropped: dict[str, int]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    gateway: GatewayNow
    recharge_points: list[RechargePointNow]
    links: LinksNow
    queues: list[Queue]
    alerts: list[Alert]


class JournalStat(msgspec.Struct, frozen=True, kw_only=True):
    """`evedge journal stat`. `running`: told by the gateway; false: read from its files while it does not run."""

    running: bool
    journal: JournalNow
    queues: list[Queue]


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be delivered. Key and value are text where they are UTF-8, else base64, the other null.

    Headers are for reading: bytes that are not UTF-8 are shown as escapes.
    """

    at: str
    mqtt_topic: str
    kafka_topic: str
    reason: str
    error: str
    ce_id: str | None
    key: str | None
    key_base64: str | None
    value: str | None
    value_base64: str | None
    headers: dict[str, str]


class Holds(Protocol):
    """A journal, as far as it is counted."""

    bytes: int
    max_bytes: int
    when_full: WhenFull

    def lanes(self) -> Mapping[str, LaneCounts]: ...


def journal_of(journal: Holds, trouble: str | None) -> JournalNow:
    """The journal as a whole. trouble: what its disk says."""
    return JournalNow(
        bytes=journal.bytes,
        max_bytes=journal.max_bytes,
        when_full=str(journal.when_full),
        waiting=sum(counts.waiting for counts in journal.lanes().values()),
        trouble=trouble,
    )


def queues_of(lanes: Mapping[str, LaneCounts]) -> list[Queue]:
    """The lanes' counts, by topic."""
    return [
        Queue(
            kafka_topic=name,
            accepted=counts.accepted,
            confirmed=counts.confirmed,
            waiting=counts.waiting,
            dropped=dict(counts.dropped),
        )
        for name, counts in sorted(lanes.items())
    ]


def letters_of(dead: Iterable[DeadLetter]) -> list[Letter]:
    """Dead letters for people and programs to read."""
    return [_letter(one) for one in dead]


def limit_of(desired: Desired, target: Target | None) -> LimitNow:
    """What a reconciler works for."""
    holds = desired.holds()
    if target is None:
        return LimitNow(current_a=None, paused=False, why=UNTOUCHED, holds=[_hold(hold) for hold in holds])
    return LimitNow(
        current_a=target.current_a,
        paused=target.pauses,
        why=target.why,
        command_id=target.command_id,
        holds=[_hold(hold) for hold in holds],
    )


def _hold(hold: Hold) -> HoldNow:
    return HoldNow(
        purpose=hold.purpose,
        current_a=hold.current_a,
        issuer=hold.issuer,
        command_id=hold.command_id,
        ends_at=None if hold.ends_at_ms is None else to_rfc3339(hold.ends_at_ms),
    )


def _letter(dead: DeadLetter) -> Letter:
    record = dead.record
    key, key_base64 = _readable(record.key)
    value, value_base64 = _readable(record.value)
    return Letter(
        at=to_rfc3339(dead.at_ms),
        mqtt_topic=dead.mqtt_topic,
        kafka_topic=dead.kafka_topic,
        reason=dead.reason,
        error=dead.error,
        ce_id=ce_id(record.number) if record.number else None,
        key=key,
        key_base64=key_base64,
        value=value,
        value_base64=value_base64,
        headers={name: content.decode(errors="backslashreplace") for name, content in record.headers},
    )


def _readable(data: bytes) -> tuple[str | None, str | None]:
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return None, b64encode(data).decode()
