"""Whose fault a failed produce request is, and so what is to be done with its records.

aiokafka knows the error codes up to 79 and calls every other one `UnknownError`; the few newer ones that decide what
happens to a record or to this gateway are added to its table here.
"""

from __future__ import annotations

import ssl
from enum import Enum, auto

from aiokafka import errors

from evedge.core.delivery import RefusalReason
from evedge.core.errors import Outage


class FencedInstanceIdError(errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka is untyped here
    """Another member joined the group with the same static id."""

    errno = 82
    message = "FENCED_INSTANCE_ID"
    description = "another member has joined with the same group instance id"


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka is untyped here
    """A record fails the broker's validation, such as a missing key in a compacted topic."""

    errno = 87
    message = "INVALID_RECORD"
    description = "the record failed the validation on the broker"


for _newer in (FencedInstanceIdError, InvalidRecordError):
    errors.kafka_errors.setdefault(_newer.errno, _newer)


class LoginRefused(Outage):
    """Kafka answers, and will not have this client. An outage all the same: somebody may be mending it now."""


_LOGIN_REFUSALS = (
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.ClusterAuthorizationFailedError,
    ssl.SSLError,
)


def connect_failure(error: BaseException, words: str) -> Outage:
    """What a connection that failed so is told as."""
    cause = error.__cause__ if isinstance(error, errors.KafkaConnectionError) else None
    return (LoginRefused if isinstance(cause or error, _LOGIN_REFUSALS) else Outage)(words)


class Fault(Enum):
    """Whose fault it is that Kafka did not take a batch, and so what to do."""

    RECORD = auto()  # one of the records': split the batch until it is found
    TIMESTAMP = auto()  # one of the timestamps': the same, then another timestamp
    TOPIC = auto()  # the topic's: only it is held up, nothing was stored
    PRODUCER = auto()  # unknown or the connection's: throw the producer away, build another, send again


_FAULTS: dict[type[BaseException], Fault] = {
    errors.MessageSizeTooLargeError: Fault.RECORD,
    errors.RecordListTooLargeError: Fault.RECORD,
    errors.InvalidMessageError: Fault.RECORD,
    InvalidRecordError: Fault.RECORD,
    errors.InvalidTimestampError: Fault.TIMESTAMP,
    errors.UnknownTopicOrPartitionError: Fault.TOPIC,
    errors.InvalidTopicError: Fault.TOPIC,
    errors.TopicAuthorizationFailedError: Fault.TOPIC,
    errors.NotLeaderForPartitionError: Fault.TOPIC,
    errors.LeaderNotAvailableError: Fault.TOPIC,
    errors.InvalidRequiredAcksError: Fault.TOPIC,
    errors.PolicyViolationError: Fault.TOPIC,
    errors.UnsupportedForMessageFormatError: Fault.TOPIC,
    errors.UnknownError: Fault.TOPIC,
}

_REASONS: dict[type[BaseException], RefusalReason] = {
    errors.MessageSizeTooLargeError: RefusalReason.RECORD_TOO_LARGE,
    errors.RecordListTooLargeError: RefusalReason.RECORD_TOO_LARGE,
}


def fault(error: BaseException) -> Fault:
    """Whose fault a batch's failure is. What is not known is an outage, never a refusal."""
    return _FAULTS.get(type(error), Fault.PRODUCER)


def refusal_reason(error: BaseException) -> RefusalReason:
    """The reason of a record whose batch failed with `Fault.RECORD`, alone."""
    return _REASONS.get(type(error), RefusalReason.INVALID_RECORD)
