"""The kinds of values a configuration holds: each a type, the check that makes it impossible to hold a wrong one, and
the words for what is allowed.

A check raises ValueError with what is wrong, as the rest of the sentence that begins with the value; it never repeats
the value.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from evedge.core.topics import filter_problem, topic_problem

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_KAFKA_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_PHASES = re.compile(r"(L[123]){1,3}")
_PHC = re.compile(r"\$argon2(?:id|i|d)\$v=19\$m=(\d{1,10}),t=(\d{1,5}),p=(\d{1,5})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
SASL_MECHANISMS = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"
"""The ones this version can do."""
_MAX_ARGON2_KIB = 1_048_576  # whoever writes a hash must not be able to make a login take the machine's memory


@dataclass(frozen=True, slots=True)
class Allowed:
    """Beside a type: what is allowed, in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or to connect. `host` is a name or an IP address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost counts as reachable from elsewhere."""
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host.casefold() in {"localhost", "localhost."}


def host_problem(host: str) -> str | None:
    """What is wrong with a host name or IP address; None when nothing is."""
    if not host:
        return "is empty"
    if "://" in host:
        return "is a URL, not a host"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host.count(":") == 1:
            return "has a port in it: give it by its own key"
        if not _HOST_NAME.fullmatch(host) or len(host) > 253:
            return "is neither a host name nor an IP address"
        if re.fullmatch(r"[0-9.]+", host):
            return "is no IP address"
    return None


def parse_address(text: str) -> Address:
    """`192.0.2.1:1883`, `[::1]:1883`, `host.example:1883`. Raises ValueError with what is wrong."""
    bracketed = re.fullmatch(r"\[([^\[\]]*)\]:([0-9]{1,5})", text)
    plain = re.fullmatch(r"([^:\[\]]*):([0-9]{1,5})", text)
    match = bracketed or plain
    if match is None:
        if text.count(":") > 1 and "[" not in text:
            raise ValueError("is an IPv6 address without brackets, or has no port")
        raise ValueError("is not host:port")
    host, port = match[1], int(match[2])
    if port > 65535:
        raise ValueError("has a port above 65535")
    problem = host_problem(host)
    if problem is not None or (bracketed and ":" not in host):
        raise ValueError(f"has a host that {problem or 'is no IPv6 address'}")
    return Address(host, port)


def _bind(value: object) -> object:
    if isinstance(value, Address) or value is None:
        return value
    if not isinstance(value, str):
        raise ValueError("is not text")  # noqa: TRY004 -- pydantic takes ValueError for a wrong value
    return parse_address(value) if value else None


def _server_problem(value: str) -> str | None:
    try:
        return "has port 0" if parse_address(value).port == 0 else None
    except ValueError as error:
        return str(error)


def _check(problem: Callable[[str], str | None]) -> AfterValidator:
    def validate(value: str) -> str:
        found = problem(value)
        if found is not None:
            raise ValueError(found)
        return value

    return AfterValidator(validate)


def _id_problem(value: str) -> str | None:
    if not value:
        return "is empty"
    if value in {".", ".."}:  # Kafka refuses them as group and topic names
        return "is only dots"
    return None if _ID.fullmatch(value) else "has other characters, or too many"


def _name_problem(value: str) -> str | None:
    if not value.strip():
        return "is empty"
    if len(value) > 128:
        return "is longer than 128 characters"
    if not value.isprintable() or set(value) & set("/+#"):
        return "has characters that cannot stand in an MQTT topic level"
    return None


def kafka_topic_problem(value: str) -> str | None:
    """What Kafka would not accept in a topic's name; None when nothing is."""
    if value in {"", ".", ".."}:
        return "is no topic name"
    return None if _KAFKA_TOPIC.fullmatch(value) else "has other characters, or too many"


def _own_topic_problem(value: str) -> str | None:
    unknown = re.search(r"\{(?!gateway\})[^}]*\}", value)
    if unknown:
        return "has a placeholder other than {gateway}"
    return kafka_topic_problem(value.replace("{gateway}", "x"))


def _prefix_problem(value: str) -> str | None:
    if any(not level for level in value.split("/")):
        return "has an empty level"
    return "starts with $" if value.startswith("$") else topic_problem(value)


def _phases_problem(value: str) -> str | None:
    phases = [value[at : at + 2] for at in range(0, len(value), 2)]
    ok = _PHASES.fullmatch(value) and len(set(phases)) == len(phases)
    return None if ok else "does not name different phases"


def _hash_problem(value: SecretStr) -> SecretStr:
    match = _PHC.fullmatch(value.get_secret_value())
    if match is None:
        raise ValueError("is not an argon2 hash: `evedge hash-password` makes one")
    memory, rounds, lanes = (int(match[n]) for n in (1, 2, 3))
    if not (8 * lanes <= memory <= _MAX_ARGON2_KIB and 1 <= rounds <= 100 and 1 <= lanes <= 64):
        raise ValueError("is an argon2 hash with costs out of range: `evedge hash-password` makes one")
    try:
        salt, digest = (base64.b64decode(match[n] + "=" * (-len(match[n]) % 4)) for n in (4, 5))
    except binascii.Error as error:
        raise ValueError("is a damaged argon2 hash: `evedge hash-password` makes one") from error
    if len(salt) < 8 or len(digest) < 4:
        raise ValueError("is a damaged argon2 hash: `evedge hash-password` makes one")
    return value


def _not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("is empty")
    return value


def _public_key_problem(value: str) -> str | None:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "is not base64"
    return None if len(raw) == 32 else "is not 32 bytes long"


def _printable_problem(value: str) -> str | None:
    return None if value.strip() and value.isprintable() and len(value) <= 256 else "is empty, or not one line of text"


def _url_problem(value: str) -> str | None:
    try:
        parse_broker_url(value)
    except ValueError as error:
        return str(error)
    return None


def _token_url_problem(value: str) -> str | None:
    """The client's secret goes there: unencrypted to this machine only."""
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        return "is no URL"
    if parts.username or parts.password:
        return "has a user in it: give sasl_username and sasl_password by their own keys"
    if host is None or not value.isprintable() or " " in value:
        return "is no URL"
    ok = parts.scheme == "https" or (parts.scheme == "http" and host in {"127.0.0.1", "::1", "localhost"})
    return None if ok else "does not begin with https://"


def _extension_problem(value: str) -> str | None:
    """RFC 7628, 3.1; Kafka's own client refuses the name `auth`."""
    match = re.fullmatch(r"([A-Za-z]+)=[\x20-\x7e]+", value)
    return None if match and match[1] != "auth" else "is not of the form name=value"


@dataclass(frozen=True, slots=True)
class RemoteBroker:
    """A broker on another machine."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{Address(self.host, self.port)}"


def parse_broker_url(url: str) -> RemoteBroker:
    """`mqtt://host[:port]` or `mqtts://host[:port]`; ports default to 1883 and 8883. Raises ValueError."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"mqtt", "mqtts"}:
        raise ValueError("does not begin with mqtt:// or mqtts://")
    if "@" in rest:
        raise ValueError("has a user in it: give username and password by their own keys")
    rest = rest.removesuffix("/")
    tls = scheme == "mqtts"
    has_port = re.search(r"\]:|^[^:\[\]]*:[^:]*$", rest)
    address = parse_address(rest if has_port else f"{rest}:{8883 if tls else 1883}")
    if address.port == 0:
        raise ValueError("has port 0")
    return RemoteBroker(address.host, address.port, tls)


Id: TypeAlias = Annotated[str, _check(_id_problem), Allowed("1 to 128 of A-Z a-z 0-9 . _ -")]
Name: TypeAlias = Annotated[str, _check(_name_problem), Allowed("1 to 128 characters other than / + #")]
Text: TypeAlias = Annotated[str, _check(_printable_problem), Allowed("one line of text")]
Host: TypeAlias = Annotated[str, _check(host_problem), Allowed("a host name or an IP address")]
Bind: TypeAlias = Annotated[
    Address | None, BeforeValidator(_bind), Allowed('host:port, such as "127.0.0.1:1883" or "[::1]:0"')
]
Server: TypeAlias = Annotated[str, _check(_server_problem), Allowed("host:port")]
BrokerUrl: TypeAlias = Annotated[str, _check(_url_problem), Allowed("mqtt://host[:port] or mqtts://host[:port]")]
TokenUrl: TypeAlias = Annotated[str, _check(_token_url_problem), Allowed("https://host/path")]
SaslExtension: TypeAlias = Annotated[str, _check(_extension_problem), Allowed("logicalCluster=lkc-abcdef and the like")]
TopicFilter: TypeAlias = Annotated[
    str, _check(filter_problem), Allowed("an MQTT topic filter, such as factory/+/energy")
]
TopicPrefix: TypeAlias = Annotated[
    str, _check(_prefix_problem), Allowed("MQTT topic levels, such as evedge or plant/evedge")
]
KafkaTopic: TypeAlias = Annotated[str, _check(kafka_topic_problem), Allowed("1 to 249 of A-Z a-z 0-9 . _ -")]
OwnKafkaTopic: TypeAlias = Annotated[
    str, _check(_own_topic_problem), Allowed("1 to 249 of A-Z a-z 0-9 . _ -, and {gateway} for the gateway's id")
]
Phases: TypeAlias = Annotated[str, _check(_phases_problem), Allowed("an order of phases, such as L1L2L3, L2L3L1 or L1")]
Secret: TypeAlias = Annotated[SecretStr, AfterValidator(_not_empty), Allowed("text")]
PasswordHash: TypeAlias = Annotated[SecretStr, AfterValidator(_hash_problem), Allowed("$argon2id$v=19$m=…,t=…,p=…$…$…")]
PublicKey: TypeAlias = Annotated[str, _check(_public_key_problem), Allowed("an Ed25519 public key: 32 bytes in base64")]
FilePath: TypeAlias = Annotated[Path, Field(strict=False), Allowed("a path, relative to the configuration file")]
SaslMechanism: TypeAlias = Annotated[
    Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"], Allowed(SASL_MECHANISMS)
]
Port: TypeAlias = Annotated[int, Field(ge=1, le=65535), Allowed("a port from 1 to 65535")]
UnitId: TypeAlias = Annotated[int, Field(ge=0, le=255), Allowed("a whole number from 0 to 255")]
