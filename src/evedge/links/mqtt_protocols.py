"""What the MQTT front needs of others, and the limits and users it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from evedge.core.model import Publish, Publisher
from evedge.core.rights import Rights


class Intake(Protocol):
    """Accepts messages. None for a future: there is nothing to wait for."""

    def accept(self, publisher: Publisher, publishes: Sequence[Publish]) -> asyncio.Future[None] | None:
        """What one socket read held. When it resolved the messages are kept and acknowledged; if it fails, neither.

        Hands the messages to the router. For QoS 2 the packet ids are kept with them; a will has none (0).
        """

    def release(self, client_id: str, packet_ids: Sequence[int]) -> asyncio.Future[None] | None:
        """These QoS 2 ids may be used again; PUBCOMP is sent when it resolved."""

    def received_ids(self, client_id: str) -> frozenset[int]:
        """QoS 2 ids that an earlier run accepted and did not release."""

    def forget_session(self, client_id: str) -> None:
        """The client's session ended; so did the exchanges under its packet ids."""


class Router(Protocol):
    """Subscriptions and retained messages of sessions by their client id."""

    def open(self, client_id: str, outbox: Outbox) -> None: ...

    def close(self, client_id: str) -> None: ...

    def subscribe(self, client_id: str, topic_filter: str, qos: int) -> int:
        """The QoS granted, or 0x80."""

    def unsubscribe(self, client_id: str, topic_filter: str) -> None: ...

    def send_retained(self, client_id: str, topic_filter: str, qos: int) -> None: ...


class Outbox(Protocol):
    """A session, as the router sees it."""

    def deliver(self, topic: str, payload: bytes, qos: int, retain: bool) -> None: ...


class Presence(Protocol):
    """Told who is there. A take-over is a `disconnected` and a `connected`."""

    def connected(self, publisher: Publisher) -> None: ...

    def disconnected(self, publisher: Publisher) -> None: ...

    def subscribed(self, publisher: Publisher, topic_filter: str) -> None: ...


@dataclass(frozen=True, slots=True)
class User:
    """One of `[[mqtt.users]]`: logs in with a password, a client certificate's common name, or either."""

    name: str
    password_hash: str | None = field(default=None, repr=False)
    tls_common_name: str | None = None
    rights: Rights = field(default_factory=Rights)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSettings:
    """The keys of `[mqtt]` that the front obeys. Seconds and bytes as the names say."""

    bind: str | None = "127.0.0.1:1883"
    """None: only `tls_bind` listens."""
    allow_anonymous: bool = False
    max_packet_bytes: int = 262_144
    max_clients: int = 1000
    connect_timeout_s: float = 10.0
    max_sessions: int = 1000
    session_expiry_s: float = 86_400.0
    max_session_bytes: int = 4_194_304
    tls_bind: str | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    users: tuple[User, ...] = ()
