"""What must hold between the values of a configuration.

Each rule looks at a tree whose values are allowed by themselves and yields what is wrong. It names every key it looked
at: the loader leaves a finding out when one of those keys has a mistake of its own, so that one slip gives one line.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from evedge.config.mistakes import Location
from evedge.config.tree import Config, RechargePoint
from evedge.config.values import SASL_MECHANISMS, Address, kafka_topic_problem
from evedge.core.topics import Leaf, OwnTopics, key_problem

_POLL_KEYS = ("host", "port", "unit_id", "profile", "poll_interval_s", "timeout_s")
_BROKER_KEYS = ("users", "tls_bind", "tls_client_ca_file", "allow_anonymous", "allow_anonymous_from_anywhere")
_CLIENT_KEYS = ("username", "password", "password_file", "tls_ca_file", "client_id")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at `location`. `involved`: the other keys that the rule looked at."""

    location: Location
    what: str
    allowed: str | None = None
    involved: tuple[Location, ...] = ()


Rule: TypeAlias = Callable[[Config], Iterator[Finding]]


def _role(config: Config) -> Iterator[Finding]:
    for index, _ in enumerate(config.routes):
        if config.kafka is None:
            yield Finding(("routes", index), "needs [kafka]: there is nothing to forward to", involved=(("kafka",),))
    for index, point in enumerate(config.recharge_points):
        if config.role == "agent" and point.agent is not None:
            yield Finding(
                ("recharge_points", index, "agent"),
                "stands in an agent's own configuration ([mqtt] url without [kafka])",
                "host and profile: an agent polls its recharge points itself",
                (("kafka",), ("mqtt", "url")),
            )


def _listening(config: Config) -> Iterator[Finding]:
    mqtt = config.mqtt
    given = mqtt.model_fields_set
    url, bind, tls_bind = ("mqtt", "url"), ("mqtt", "bind"), ("mqtt", "tls_bind")
    if mqtt.url is not None:
        if "bind" in given:
            yield Finding(
                bind, "stands beside url", "bind for a broker in this process, or url for one elsewhere", (url,)
            )
        for key in _BROKER_KEYS:
            if key in given:
                yield Finding(
                    ("mqtt", key), "has no meaning with url: it is for a broker in this process", None, (url,)
                )
        return
    for key in _CLIENT_KEYS:
        if key in given:
            yield Finding(("mqtt", key), "needs url: it is for a broker elsewhere", None, (url,))
    if mqtt.bind is None and mqtt.tls_bind is None:
        yield Finding(
            bind, "is switched off, and so is tls_bind", "an address in bind, tls_bind or url", (url, tls_bind)
        )
    for key, address in (("bind", mqtt.bind), ("tls_bind", mqtt.tls_bind)):
        if mqtt.allow_anonymous and address and not address.is_loopback and not mqtt.allow_anonymous_from_anywhere:
            yield Finding(
                ("mqtt", "allow_anonymous"),
                f"lets anyone who reaches {key} = {address} publish and subscribe to everything",
                "a loopback address; allow_anonymous_from_anywhere = true forces it",
                (("mqtt", key), ("mqtt", "allow_anonymous_from_anywhere")),
            )
            break
    taken: dict[Address, Location] = {}
    for location, address in ((bind, mqtt.bind), (tls_bind, mqtt.tls_bind), (("web", "bind"), config.web.bind)):
        if address is None or address.port == 0:
            continue
        if address in taken:
            first = ".".join(map(str, taken[address]))
            yield Finding(location, f"is the address of {first} too", None, (taken[address],))
        taken.setdefault(address, location)


def _mqtt_tls(config: Config) -> Iterator[Finding]:
    mqtt = config.mqtt
    given = mqtt.model_fields_set
    at = {key: ("mqtt", key) for key in ("url", "tls_bind", "tls_cert_file", "tls_key_file", "tls_client_ca_file")}
    pair = [key for key in ("tls_cert_file", "tls_key_file") if key in given]
    for have, lack in (("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")):
        if have in given and lack not in given:
            yield Finding(at[have], f"needs {lack} beside it", None, (at[lack],))
    if mqtt.remote is not None:
        for key in (*pair, *(["tls_ca_file"] if mqtt.tls_ca_file else [])):
            if not mqtt.remote.tls:
                yield Finding(("mqtt", key), "has no meaning without TLS", "url = mqtts://…", (at["url"],))
        if mqtt.password is not None and mqtt.username is None:
            yield Finding(("mqtt", "password"), "needs username beside it", None, (("mqtt", "username"),))
        return
    if mqtt.tls_bind is not None and not pair:
        yield Finding(
            at["tls_bind"], "needs tls_cert_file and tls_key_file", None, (at["tls_cert_file"], at["tls_key_file"])
        )
    for key in (*pair, *(["tls_client_ca_file"] if mqtt.tls_client_ca_file else [])):
        if mqtt.tls_bind is None:
            yield Finding(("mqtt", key), "needs tls_bind", None, (at["tls_bind"], at["url"]))


def _users(config: Config) -> Iterator[Finding]:
    users = config.mqtt.users
    ca = ("mqtt", "tls_client_ca_file")
    yield from _twice(("mqtt", "users"), "name", [user.name for user in users])
    yield from _twice(("mqtt", "users"), "tls_common_name", [user.tls_common_name for user in users])
    for index, user in enumerate(users):
        at: Location = ("mqtt", "users", index)
        both = ((*at, "password_hash"), (*at, "tls_common_name"))
        if user.password_hash is None and user.tls_common_name is None:
            yield Finding(at, "cannot log in", "password_hash or tls_common_name", both)
        elif user.password_hash is not None and user.tls_common_name is not None:
            yield Finding(both[1], "stands beside password_hash", "one of the two", both)
        if user.tls_common_name is not None and config.mqtt.tls_client_ca_file is None:
            yield Finding(both[1], "needs [mqtt] tls_bind and tls_client_ca_file", None, (ca,))


def _kafka_login(config: Config) -> Iterator[Finding]:
    kafka = config.kafka
    if kafka is None:
        return
    given = kafka.model_fields_set
    protocol: Location = ("kafka", "security_protocol")
    mechanism: Location = ("kafka", "sasl_mechanism")
    url: Location = ("kafka", "sasl_token_url")
    if not kafka.uses_sasl:
        for key in ("sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file"):
            if key in given:
                yield Finding(
                    ("kafka", key),
                    f"has no meaning with security_protocol = {kafka.security_protocol}",
                    "security_protocol = SASL_SSL or SASL_PLAINTEXT",
                    (protocol,),
                )
    elif kafka.sasl_mechanism is None:
        yield Finding(mechanism, "is missing", SASL_MECHANISMS, (protocol,))
    elif kafka.sasl_mechanism == "OAUTHBEARER" and kafka.sasl_token_url is None:
        if "sasl_username" in given:
            at = ("kafka", "sasl_username")
            yield Finding(at, "has no meaning with OAUTHBEARER without sasl_token_url", None, (mechanism, url))
        if kafka.sasl_password is None:
            at = ("kafka", "sasl_password")
            what = "is missing for OAUTHBEARER: the token, best in sasl_password_file, read again at each login"
            yield Finding(at, what, None, (protocol, mechanism, url))
    else:
        for key in ("sasl_username", "sasl_password"):
            if getattr(kafka, key) is None:
                yield Finding(("kafka", key), f"is missing for {kafka.sasl_mechanism}", None, (protocol, mechanism))
    for key in ("sasl_token_url", "sasl_token_scope", "sasl_extensions"):
        if key in given and kafka.sasl_mechanism != "OAUTHBEARER":
            at = ("kafka", key)
            yield Finding(at, "is for OAUTHBEARER only", 'sasl_mechanism = "OAUTHBEARER"', (mechanism, protocol))
    if "sasl_token_scope" in given and kafka.sasl_token_url is None:
        yield Finding(("kafka", "sasl_token_scope"), "needs sasl_token_url", None, (url,))
    for key in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file"):
        if key in given and not kafka.uses_tls:
            yield Finding(
                ("kafka", key),
                f"has no meaning with security_protocol = {kafka.security_protocol}",
                "security_protocol = SSL or SASL_SSL",
                (protocol,),
            )
    for have, lack in (("ssl_cert_file", "ssl_key_file"), ("ssl_key_file", "ssl_cert_file")):
        if have in given and lack not in given:
            yield Finding(("kafka", have), f"needs {lack} beside it", None, (("kafka", lack),))


def _kafka_topics(config: Config) -> Iterator[Finding]:
    """One topic, one shape. Kafka takes `a.b` and `a_b` for the same name in its metrics and refuses to create both."""
    if config.kafka is None:
        return
    taken: dict[str, Location] = {}
    for stream, name in config.kafka.topics.resolved(config.gateway.id).items():
        at: Location = ("kafka", "topics", stream.value)
        if kafka_topic_problem(name) is not None:
            yield Finding(
                at, "is no Kafka topic name with the gateway's id in it", "249 characters", (("gateway", "id"),)
            )
        first = taken.setdefault(name.replace("_", "."), at)
        if first is not at:
            other = ".".join(map(str, first))
            yield Finding(at, f"is the topic of {other} too", "a topic of its own: one topic, one shape", (first,))
    for index, entry in enumerate(config.routes):
        own = taken.get(entry.kafka_topic.replace("_", "."))
        if own is not None:
            other = ".".join(map(str, own))
            at = ("routes", index, "kafka_topic")
            yield Finding(at, f"is the topic of {other} too", "another topic: one topic, one shape", (own,))


def _routes(config: Config) -> Iterator[Finding]:
    """A filter that begins with our own prefix and can match our own topics would send their messages twice.

    Filters that begin with a wildcard (`#`) are fine: a route is for any *other* topic, and takes only those.
    """
    yield from _twice(("routes",), "mqtt_topic", [(entry.mqtt_topic, entry.kafka_topic) for entry in config.routes])
    own = config.own_topics
    for index, entry in enumerate(config.routes):
        at: Location = ("routes", index)
        problem = key_problem(entry.key, entry.mqtt_topic)
        if problem is not None:
            yield Finding((*at, "key"), problem, None, ((*at, "mqtt_topic"),))
        first = entry.mqtt_topic.split("/", 1)[0]
        if first in {"+", "#"}:
            continue
        for topic in _own_filters(own):
            if overlap(entry.mqtt_topic, topic):
                yield Finding(
                    (*at, "mqtt_topic"),
                    f"takes the gateway's own topic {topic}, which goes to Kafka already",
                    "other topics",
                    (("gateway", "id"), ("mqtt", "topic_prefix")),
                )
                break


def _own_filters(own: OwnTopics) -> Iterator[str]:
    yield from (own.status, own.telemetry, own.alert, own.command, own.result, own.agent_status("+"))
    yield from (own.recharge_point("+", leaf) for leaf in Leaf)


def overlap(one: str, other: str) -> bool:
    """Whether there is a topic that both filters match."""
    ones, others = one.split("/"), other.split("/")
    for mine, theirs in zip(ones, others, strict=False):
        if "#" in {mine, theirs}:
            return True
        if mine != theirs and "+" not in {mine, theirs}:
            return False
    longer = (ones if len(ones) > len(others) else others)[min(len(ones), len(others)) :]
    return not longer or longer == ["#"]


def _recharge_points(config: Config) -> Iterator[Finding]:
    points = config.recharge_points
    yield from _twice(("recharge_points",), "id", [point.id for point in points])
    seen: dict[Hashable, int] = {}
    for index, point in enumerate(points):
        at: Location = ("recharge_points", index)
        yield from _polled_or_owned(at, point)
        yield from _currents(at, point)
        if point.agent is not None:
            yield from _agent(config, at, point.agent)
            continue
        if point.host is None:
            continue
        device = (
            point.host.casefold(),
            point.port if point.port is not None else ("default of", point.profile),
            point.unit_id if point.unit_id is not None else ("default of", point.profile),
            point.connector,
        )
        first = seen.setdefault(device, index)
        if first != index:
            keys = ("host", "port", "unit_id", "connector", "profile")
            yield Finding(
                at,
                f"is the same host, port, unit_id and connector as {points[first].id}",
                "another connector or unit_id for another outlet",
                tuple((*at, key) for key in keys) + tuple(("recharge_points", first, key) for key in keys),
            )


def _polled_or_owned(at: Location, point: RechargePoint) -> Iterator[Finding]:
    agent, host, profile = (*at, "agent"), (*at, "host"), (*at, "profile")
    if point.agent is not None:
        for key in _POLL_KEYS:
            if key in point.model_fields_set:
                what = "has no meaning with agent: the agent polls this recharge point"
                yield Finding((*at, key), what, None, (agent,))
    elif point.host is None and point.profile is None:
        what = "is neither polled nor owned by an agent"
        yield Finding(at, what, "host and profile, or agent", (agent, host, profile))
    elif point.host is None:
        yield Finding(host, "is missing", "a host name or an IP address", (agent,))
    elif point.profile is None:
        yield Finding(profile, "is missing", "a built-in name (`evedge profiles` lists them) or a path", (agent,))


def _agent(config: Config, at: Location, agent: str) -> Iterator[Finding]:
    if config.mqtt.url is not None or config.mqtt.allow_anonymous:
        return  # then it is a user of another broker, or a client id
    if agent not in {user.name for user in config.mqtt.users}:
        mqtt = tuple(("mqtt", key) for key in ("url", "allow_anonymous", "users"))
        yield Finding((*at, "agent"), "is no user", "a name in [[mqtt.users]]", mqtt)


def _currents(at: Location, point: RechargePoint) -> Iterator[Finding]:
    low, high, fallback = point.min_current_a, point.max_current_a, point.fallback_current_a
    min_at, max_at, fallback_at = (*at, "min_current_a"), (*at, "max_current_a"), (*at, "fallback_current_a")
    if low is not None and high is not None and low > high:
        yield Finding(min_at, "is above max_current_a", f"at most {high:g}", (max_at,))
    elif fallback:  # 0 pauses, which is always allowed
        if low is not None and fallback < low:
            yield Finding(fallback_at, "is below min_current_a", f"0, or at least {low:g}", (min_at, max_at))
        if high is not None and fallback > high:
            yield Finding(fallback_at, "is above max_current_a", f"at most {high:g}", (min_at, max_at))


def _bounds(config: Config) -> Iterator[Finding]:
    if config.mqtt.max_packet_bytes > config.journal.max_bytes:
        yield Finding(
            ("journal", "max_bytes"),
            "is smaller than one message of mqtt.max_packet_bytes",
            f"at least {config.mqtt.max_packet_bytes}",
            (("mqtt", "max_packet_bytes"),),
        )


def _issuers(config: Config) -> Iterator[Finding]:
    yield from _twice(("commands", "issuers"), "name", [issuer.name for issuer in config.commands.issuers])


def _twice(at: Location, key: str, values: Sequence[Hashable]) -> Iterator[Finding]:
    first: dict[Hashable, int] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        earlier = first.setdefault(value, index)
        if earlier != index:
            where = f"{'.'.join(map(str, at))}[{earlier}]"
            yield Finding((*at, index, key), f"is used twice, {where} has it too", None, ((*at, earlier, key),))


RULES: tuple[Rule, ...] = (
    _role,
    _listening,
    _mqtt_tls,
    _users,
    _kafka_login,
    _kafka_topics,
    _routes,
    _recharge_points,
    _bounds,
    _issuers,
)
