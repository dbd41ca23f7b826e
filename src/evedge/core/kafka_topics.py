"""Which Kafka topics a gateway needs, and how each is best made. One topic, one shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from evedge.core.model import Stream

_DAY_MS = 86_400_000


class CleanupPolicy(StrEnum):
    """What Kafka removes: records that are old, or records that a newer one of the same key replaces."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be made. `retention_ms` is None for a compacted topic, which keeps the last of each key."""

    name: str
    purpose: str
    cleanup_policy: CleanupPolicy
    retention_ms: int | None
    partitions: int

    @property
    def topic_configs(self) -> dict[str, str]:
        """Kafka's settings for the topic."""
        configs = {"cleanup.policy": str(self.cleanup_policy)}
        if self.retention_ms is not None:
            configs["retention.ms"] = str(self.retention_ms)
        return configs


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of a topic that is there: what it is, and what it would be had it been made for this gateway."""

    setting: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.setting} {self.found} instead of {self.wanted}"


def differences(spec: TopicSpec, partitions: int, configs: Mapping[str, str]) -> tuple[Difference, ...]:
    """How a topic differs from its spec. `configs`: its settings by Kafka's names; what is not there is not judged."""
    found = []
    if partitions != spec.partitions:
        found.append(Difference("partitions", str(partitions), str(spec.partitions)))
    policy = configs.get("cleanup.policy")
    if policy is not None and set(policy.split(",")) != {str(spec.cleanup_policy)}:
        found.append(Difference("cleanup.policy", policy, str(spec.cleanup_policy)))
    retention = configs.get("retention.ms")
    if retention is not None and spec.retention_ms is not None and int(retention) != spec.retention_ms:
        found.append(Difference("retention", duration(int(retention)), duration(spec.retention_ms)))
    return tuple(found)


def duration(retention_ms: int) -> str:
    """A retention for people; Kafka's -1 is for ever."""
    if retention_ms < 0:
        return "for ever"
    days, rest = divmod(retention_ms, _DAY_MS)
    if rest:
        return f"{retention_ms} ms"
    return "1 day" if days == 1 else f"{days} days"


_DELETE, _COMPACT = CleanupPolicy.DELETE, CleanupPolicy.COMPACT
_SHAPES: Mapping[Stream, tuple[str, CleanupPolicy, int | None, int]] = {
    Stream.TELEMETRY: ("telemetry of recharge points", _DELETE, 7, 6),
    Stream.ALERTS: ("alerts, raised and cleared", _DELETE, 30, 3),
    Stream.STATUS: ("the last status of each recharge point", _COMPACT, None, 3),
    Stream.GATEWAY_TELEMETRY: ("telemetry of the gateways themselves", _DELETE, 7, 3),
    Stream.GATEWAY_STATUS: ("the last status of each gateway", _COMPACT, None, 3),
    Stream.COMMANDS: ("commands to gateways", _DELETE, 7, 3),
    Stream.COMMAND_RESULTS: ("what became of commands", _DELETE, 30, 3),
    Stream.DEAD_LETTERS: ("records that Kafka refused, and why", _DELETE, 30, 3),
}
"""Purpose, policy, days, partitions. Days: a cloud side that was away over a long weekend misses no telemetry."""


def needed_topics(own: Mapping[Stream, str], routed: Iterable[str]) -> tuple[TopicSpec, ...]:
    """The gateway's own topics, `{gateway}` in place, then those of routes. A name that comes again counts once."""
    specs: dict[str, TopicSpec] = {}
    for stream, name in own.items():
        purpose, policy, days, partitions = _SHAPES[stream]
        retention_ms = None if days is None else days * _DAY_MS
        specs.setdefault(name, TopicSpec(name, purpose, policy, retention_ms, partitions))
    for name in routed:
        specs.setdefault(name, TopicSpec(name, "routed MQTT messages", _DELETE, 7 * _DAY_MS, 6))
    return tuple(specs.values())
