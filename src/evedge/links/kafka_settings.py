"""How to reach Kafka, as one value: what every client of it (producer, consumer, administration) is built from.

Knows nothing of the configuration file. A wrong combination is refused here, before a socket opens; passwords never
show in `repr`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict

from aiokafka import codec

from evedge.core.errors import Outage, UsageError
from evedge.links.kafka_token import Token
from evedge.links.kafka_token_endpoint import TokenEndpoint

GZIP_LEVEL, LZ4_LEVEL = 6, 1
codec.gzip_encode.__defaults__ = (GZIP_LEVEL,)
codec.lz4_encode.__defaults__ = (LZ4_LEVEL,)
# aiokafka 0.14 names no level, and its functions then take 9. For gzip that is 5 % fewer bytes of telemetry than 6,
# zlib's and Kafka's own default, for 1.6 times the CPU (batches of 100 to 400 records: 11 to 13 us a record instead of
# 7 to 8). lz4, which is chosen for its CPU, costs 9 us then instead of 3, for a quarter fewer bytes. The batch builder
# is compiled and offers no setting: the default of the functions that it calls is the one place to say it.


class SecurityProtocol(StrEnum):
    """Whether the connection is encrypted, and whether the client logs in with SASL."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def encrypted(self) -> bool:
        return self in {SecurityProtocol.SSL, SecurityProtocol.SASL_SSL}

    @property
    def logs_in(self) -> bool:
        return self in {SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL}


class SaslMechanism(StrEnum):
    """How the client proves who it is."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"


class Compression(StrEnum):
    """How batches are compressed. Every client reads gzip; the others cost less CPU."""

    NONE = "none"
    GZIP = "gzip"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    ZSTD = "zstd"


class ClientArguments(TypedDict):
    """The keyword arguments that aiokafka's clients have in common."""

    bootstrap_servers: list[str]
    client_id: str
    security_protocol: str
    ssl_context: ssl.SSLContext | None
    sasl_mechanism: str
    sasl_plain_username: str | None
    sasl_plain_password: str | None
    sasl_oauth_token_provider: Token | TokenEndpoint | None


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Addresses (`host:port`), security and compression. Raises UsageError for what cannot work.

    With OAUTHBEARER `sasl_password` is the token; where `sasl_password_file` is given it is read again at each login.
    With `sasl_token_url` user name and password are a client's id and secret there. `sasl_extensions`: `name=value`.
    """

    bootstrap_servers: tuple[str, ...]
    client_id: str = "evedge"
    security_protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    sasl_mechanism: SaslMechanism = SaslMechanism.PLAIN
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_password_file: str | None = None
    sasl_token_url: str | None = None
    sasl_token_scope: str | None = None
    sasl_extensions: tuple[str, ...] = ()
    ssl_ca_file: str | None = None
    ssl_cert_file: str | None = None
    ssl_key_file: str | None = None
    compression: Compression = Compression.GZIP

    def __post_init__(self) -> None:
        if not self.bootstrap_servers:
            raise UsageError("kafka.bootstrap_servers names no server")
        if not self.security_protocol.logs_in:
            return
        needed = {"kafka.sasl_username": self.sasl_username, "kafka.sasl_password": self.sasl_password}
        if self.sasl_mechanism is SaslMechanism.OAUTHBEARER and self.sasl_token_url is None:
            del needed["kafka.sasl_username"]
        if not all(needed.values()):
            raise UsageError(
                f"kafka.security_protocol {self.security_protocol} with {self.sasl_mechanism} needs "
                f"{' and '.join(needed)}"
            )

    @property
    def address(self) -> str:
        """The servers as one text, for messages to people."""
        return ", ".join(self.bootstrap_servers)

    def client_arguments(self) -> ClientArguments:
        """What aiokafka's clients are called with. Raises UsageError when a certificate file cannot be read."""
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": str(self.security_protocol),
            "ssl_context": self._ssl_context() if self.security_protocol.encrypted else None,
            "sasl_mechanism": str(self.sasl_mechanism),
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
            "sasl_oauth_token_provider": self._token(),
        }

    def arguments_now(self) -> ClientArguments:
        """The same for a gateway that runs: certificates are renewed under its feet. Raises Outage."""
        try:
            return self.client_arguments()
        except UsageError as error:
            raise Outage(f"Kafka at {self.address} cannot be reached: {error}") from error

    def _token(self) -> Token | TokenEndpoint | None:
        if not self.security_protocol.logs_in or self.sasl_mechanism is not SaslMechanism.OAUTHBEARER:
            return None
        extensions = dict(extension.split("=", 1) for extension in self.sasl_extensions)
        if self.sasl_token_url is None:
            return Token(self.sasl_password or "", self.sasl_password_file, extensions)
        return TokenEndpoint(
            self.sasl_token_url,
            self.sasl_username or "",
            self.sasl_password or "",
            scope=self.sasl_token_scope,
            extensions=extensions,
        )

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"kafka.ssl_ca_file {self.ssl_ca_file} cannot be used: {error}") from error
        if self.ssl_cert_file is not None:
            try:
                context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file)
            except (OSError, ssl.SSLError) as error:
                raise UsageError(
                    f"kafka.ssl_cert_file {self.ssl_cert_file} (with ssl_key_file) cannot be used: {error}"
                ) from error
        return context
