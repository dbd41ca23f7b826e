"""What aiokafka's errors mean, in one clear line for an operator: what is wrong, and which key or right mends it.

Knows no secrets: Kafka's own words are passed on where they help, and they never hold a password or a token.
"""

from __future__ import annotations

import socket
import ssl

from aiokafka import errors

from evedge.links.kafka_token import TokenError

_PLAIN_WORDS: dict[type[BaseException], str] = {
    errors.UnknownTopicOrPartitionError: "it does not exist (evedge topics --create makes it)",
    errors.TopicAuthorizationFailedError: "this user may not use it (right Write; for the commands' topic Read)",
    errors.InvalidTopicError: "Kafka does not allow its name",
    errors.NotLeaderForPartitionError: "a partition has no leader",
    errors.LeaderNotAvailableError: "a partition has no leader",
    # What an idempotent producer is told who may write to no topic at all (KIP-679).
    errors.ClusterAuthorizationFailedError: (
        "this user may not write to any topic (right Write on the topics; before Kafka 2.8 also IdempotentWrite)"
    ),
    errors.GroupAuthorizationFailedError: "this user may not use the consumer group (right Read on the group)",
    errors.CommitFailedError: "the consumer group has handed the partition on",
    errors.OutOfOrderSequenceNumber: "Kafka lost count of this producer's records",
    errors.IllegalSaslStateError: "no login is expected there: kafka.security_protocol is another one for this port",
    ConnectionRefusedError: "nothing listens there (connection refused)",
}
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it wants a client certificate (kafka.ssl_cert_file)",
    "UNKNOWN_CA": "it does not know who signed the client certificate (kafka.ssl_cert_file)",
    "CERTIFICATE_EXPIRED": "the client certificate is over (kafka.ssl_cert_file)",
    "CERTIFICATE": "it does not accept the client certificate, or misses one (kafka.ssl_cert_file)",
}
"""By what OpenSSL's name of a TLS alert holds; the first that fits. Kafka says `bad certificate` for most of them."""


def plain_words(error: BaseException) -> str:
    """One line for an operator."""
    if isinstance(error, errors.KafkaConnectionError) and error.__cause__ is not None:
        return plain_words(error.__cause__)  # "closed", because of that
    known = _PLAIN_WORDS.get(type(error))
    if known is not None:
        return known
    if isinstance(error, errors.SaslAuthenticationFailed):
        return f"the login is refused: user name, password or token is wrong ({_own_words(error)})"
    if isinstance(error, errors.UnsupportedSaslMechanismError | TokenError):
        return _own_words(error)
    if isinstance(error, errors.BrokerResponseError):
        return f"{error.message}: {error.description}".rstrip(": ")
    if isinstance(error, ssl.SSLError):
        return _tls_words(error)
    if isinstance(error, socket.gaierror):
        return f"the host name is not known ({error.strerror})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, EOFError | ConnectionResetError):
        return "it closed the connection"
    return str(error) or type(error).__name__


def connect_words(error: BaseException) -> str:
    """The same for a connection that did not come about: closed at once, it was probably of another kind."""
    words = plain_words(error)
    if words == "it closed the connection":
        return f"{words}: kafka.security_protocol may be another one for this port"
    return words


def _own_words(error: BaseException) -> str:
    return str(error.args[0]) if error.args and error.args[0] else "no reason given"


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message} (kafka.ssl_ca_file names whom to trust)"
    reason = error.reason or ""
    if "ALERT" in reason:
        for name, words in _ALERTS.items():
            if name in reason:
                return words
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
        return "no TLS is spoken there: kafka.security_protocol is another one for this port"
    return f"no TLS connection: {reason.replace('_', ' ').lower() or error}"
