"""What is allowed but worth a second look: a configuration that works, and perhaps not as its author thinks.

`check` prints these; nothing is refused for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from evedge.config.mistakes import quoted, toml_path
from evedge.config.tree import Config, MqttUser
from evedge.core.topics import Leaf, covers


def notes(config: Config) -> list[str]:
    """One line each."""
    return [*_role(config), *_clear_text(config), *_users(config), *_issuers(config)]


def _role(config: Config) -> Iterator[str]:
    if config.role == "local":
        yield "no [kafka]: a local broker and poller, nothing leaves the site"
    if not config.recharge_points and not config.routes:
        yield "no [[recharge_points]] and no [[routes]]: nothing but the gateway's own status and telemetry is sent"


def _clear_text(config: Config) -> Iterator[str]:
    mqtt, kafka = config.mqtt, config.kafka
    has_passwords = any(user.password_hash is not None for user in mqtt.users)
    if mqtt.url is None and mqtt.bind is not None and not mqtt.bind.is_loopback and has_passwords:
        yield f"mqtt.bind = {mqtt.bind}: passwords cross the network in the clear; tls_bind encrypts them"
    if mqtt.remote is not None and not mqtt.remote.tls and mqtt.password is not None:
        yield f"mqtt.url = {mqtt.remote}: the password crosses the network in the clear; mqtts:// encrypts it"
    if kafka is not None and kafka.security_protocol == "SASL_PLAINTEXT" and kafka.sasl_mechanism == "PLAIN":
        yield "kafka.security_protocol = SASL_PLAINTEXT: the password crosses the network in the clear; use SASL_SSL"


def _users(config: Config) -> Iterator[str]:
    mqtt = config.mqtt
    if mqtt.url is None and not mqtt.users and not mqtt.allow_anonymous and config.routes:
        yield "no [[mqtt.users]] and allow_anonymous = false: nobody can publish on the routed topics"
    users = {user.name: user for user in mqtt.users}
    for index, point in enumerate(config.recharge_points):
        user = users.get(point.agent) if point.agent is not None else None
        if user is None or mqtt.allow_anonymous:
            continue
        lacking = list(_lacking(config, user, point.id))
        if lacking:
            where = toml_path(("recharge_points", index, "agent"))
            yield f"{where} = {quoted(user.name)}: this user may not {' and not '.join(lacking)}"


def _lacking(config: Config, user: MqttUser, recharge_point: str) -> Iterator[str]:
    own = config.own_topics
    for leaf in (Leaf.TELEMETRY, Leaf.STATUS, Leaf.ALERT, Leaf.RESULT):
        topic = own.recharge_point(recharge_point, leaf)
        if not any(covers(allowed, topic) for allowed in user.publish):
            yield f"publish on {topic}"
    status = own.agent_status(user.name)
    if not any(covers(allowed, status) for allowed in user.publish):
        yield f"publish on {status}"
    commands = own.recharge_point(recharge_point, Leaf.COMMAND)
    if not any(covers(allowed, commands) for allowed in user.subscribe):
        yield f"subscribe to {commands}"


def _issuers(config: Config) -> Iterator[str]:
    ids = [point.id for point in config.recharge_points]
    for index, issuer in enumerate(config.commands.issuers):
        for place, glob in enumerate(issuer.recharge_points):
            if not any(fnmatchcase(name, glob) for name in ids):
                where = toml_path(("commands", "issuers", index, "recharge_points", place))
                yield f"{where} = {quoted(glob)}: no recharge point is called like that"
