"""MQTT topic names and filters, the names of the gateway's own topics, and the way from an MQTT topic to Kafka topics.

Filters follow MQTT 3.1.1 section 4.7. A route's key may name what a wildcard matched: `{1}` is the first one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_TOPIC_BYTES = 65_535
_PLACEHOLDER = re.compile(r"\{(topic|gateway|[1-9][0-9]?)\}")


def topic_problem(topic: str) -> str | None:
    """What is wrong with a topic name a client publishes to; None when nothing is."""
    if not topic:
        return "is empty"
    if "+" in topic or "#" in topic:
        return "holds a wildcard"
    return _text_problem(topic)


def filter_problem(topic_filter: str) -> str | None:
    """What is wrong with a topic filter; None when nothing is."""
    if not topic_filter:
        return "is empty"
    levels = topic_filter.split("/")
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != len(levels) - 1):
            return "has # elsewhere than alone at its end"
        if "+" in level and level != "+":
            return "has + beside other characters of a level"
    return _text_problem(topic_filter)


def _text_problem(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character"
    if len(text) * 4 > MAX_TOPIC_BYTES and len(text.encode()) > MAX_TOPIC_BYTES:
        return f"is longer than {MAX_TOPIC_BYTES} bytes"
    return None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a valid filter matches a valid topic. Wildcards at the start do not match `$…` (4.7.2)."""
    return captures(topic_filter, topic) is not None


def captures(topic_filter: str, topic: str) -> tuple[str, ...] | None:
    """What each wildcard of the filter matched, in order (`#` matches the rest, "" for none); None for no match."""
    if topic[:1] == "$" and topic_filter[:1] in {"+", "#"}:
        return None
    wanted = topic_filter.split("/")
    given = topic.split("/")
    found = []
    for index, level in enumerate(wanted):
        if level == "#":
            found.append("/".join(given[index:]))
            return tuple(found)
        if index >= len(given):
            return None
        if level == "+":
            found.append(given[index])
        elif level != given[index]:
            return None
    return tuple(found) if len(wanted) == len(given) else None


def covers(allowed: str, asked: str) -> bool:
    """Whether every topic that the filter `asked` can match is matched by the filter `allowed` too."""
    if asked[:1] in {"+", "#"} and allowed[:1] not in {"+", "#"}:
        return False
    if asked[:1] == "$" and allowed[:1] in {"+", "#"}:
        return False
    permitted, wanted = allowed.split("/"), asked.split("/")
    for index, level in enumerate(permitted):
        if level == "#":
            return True
        if index >= len(wanted) or wanted[index] == "#":
            return False
        if level != "+" and level != wanted[index]:
            return False
    return len(permitted) == len(wanted)


class Leaf(StrEnum):
    """What stands behind `<prefix>/<gateway>/rp/<recharge_point>/`."""

    STATUS = "status"
    TELEMETRY = "telemetry"
    ALERT = "alert"
    COMMAND = "command"
    RESULT = "command/result"


@dataclass(frozen=True, slots=True)
class OwnTopics:
    """The gateway's own MQTT topics."""

    prefix: str
    gateway: str

    @property
    def status(self) -> str:
        return f"{self.prefix}/{self.gateway}/status"

    @property
    def telemetry(self) -> str:
        return f"{self.prefix}/{self.gateway}/telemetry"

    @property
    def alert(self) -> str:
        return f"{self.prefix}/{self.gateway}/alert"

    @property
    def command(self) -> str:
        return f"{self.prefix}/{self.gateway}/command"

    @property
    def result(self) -> str:
        return f"{self.prefix}/{self.gateway}/command/result"

    def agent_status(self, agent: str) -> str:
        return f"{self.prefix}/{self.gateway}/agent/{agent}/status"

    def recharge_point(self, recharge_point: str, leaf: Leaf) -> str:
        return f"{self.prefix}/{self.gateway}/rp/{recharge_point}/{leaf}"

    def parse(self, topic: str) -> tuple[str, Leaf] | None:
        """The recharge point and leaf that a topic names; None for any other topic."""
        start = f"{self.prefix}/{self.gateway}/rp/"
        if not topic.startswith(start):
            return None
        recharge_point, _, rest = topic[len(start) :].partition("/")
        try:
            return recharge_point, Leaf(rest)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Route:
    """Messages on topics that `mqtt_topic` (a filter) matches go to `kafka_topic` as they are, keyed by `key`."""

    mqtt_topic: str
    kafka_topic: str
    key: str = "{topic}"
    content_type: str = "application/octet-stream"

    def key_for(self, topic: str, gateway: str) -> str | None:
        """The record's key for a message on this topic, or None when the route does not match it."""
        found = captures(self.mqtt_topic, topic)
        if found is None:
            return None
        names = {"topic": topic, "gateway": gateway, **{str(n): text for n, text in enumerate(found, 1)}}
        return _PLACEHOLDER.sub(lambda match: names.get(match[1], ""), self.key)


def wildcard_count(topic_filter: str) -> int:
    """How many wildcards a filter has: the highest `{n}` its route's key may name."""
    return sum(level in {"+", "#"} for level in topic_filter.split("/"))


def key_problem(key: str, topic_filter: str) -> str | None:
    """What is wrong with a route's key; None when nothing is."""
    for name in re.findall(r"\{([^{}]*)\}", key):
        if name.isdigit() and not 1 <= int(name) <= wildcard_count(topic_filter):
            return f"names {{{name}}}, but the topic filter has {wildcard_count(topic_filter)} wildcards"
        if not _PLACEHOLDER.fullmatch(f"{{{name}}}"):
            return f"names {{{name}}}; {{topic}}, {{gateway}} and {{1}}, {{2}} … are known"
    return None


def routes_for(topic: str, gateway: str, routes: Sequence[Route]) -> Iterator[tuple[Route, str]]:
    """Every route that takes a message on this topic, with the key it gives."""
    for route in routes:
        key = route.key_for(topic, gateway)
        if key is not None:
            yield route, key
