"""Payloads as JSON, and the headers every Kafka record carries (CloudEvents 1.0, Kafka binary mode).

`ce_id` and `ce_time` differ from record to record and are added when it is sent (`cloudevents.py`); all the others are
the same for every message of a topic, so they are made once.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from evedge.core.model import Stream

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

JSON = "application/json"
ROUTE_TYPE = "evedge.route.v1"
STREAM_TYPES = {
    Stream.TELEMETRY: "evedge.telemetry.v1",
    Stream.ALERTS: "evedge.alert.v1",
    Stream.STATUS: "evedge.status.v1",
    Stream.GATEWAY_TELEMETRY: "evedge.gateway-telemetry.v1",
    Stream.GATEWAY_STATUS: "evedge.gateway-status.v1",
    Stream.COMMAND_RESULTS: "evedge.command-result.v1",
    Stream.DEAD_LETTERS: "evedge.dead-letter.v1",
}

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
"""A payload (a msgspec struct) as JSON bytes."""


def headers(
    ce_type: str,
    gateway: str,
    recharge_point: str | None,
    *,
    mqtt_topic: str,
    mqtt_qos: int,
    mqtt_retain: bool,
    content_type: str = JSON,
) -> Headers:
    """All headers of a record but `ce_id` and `ce_time`."""
    source = f"/evedge/{gateway}" if recharge_point is None else f"/evedge/{gateway}/{recharge_point}"
    subject = () if recharge_point is None else (("ce_subject", recharge_point.encode()),)
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", ce_type.encode()),
        ("ce_source", source.encode()),
        *subject,
        ("content-type", content_type.encode()),
        ("mqtt_topic", mqtt_topic.encode()),
        ("mqtt_qos", b"%d" % mqtt_qos),
        ("mqtt_retain", b"true" if mqtt_retain else b"false"),
    )


def key(gateway: str, recharge_point: str | None) -> bytes:
    """A record's key on the gateway's own topics: one recharge point's records stay in order in one partition."""
    return (gateway if recharge_point is None else f"{gateway}/{recharge_point}").encode()


class _Times(msgspec.Struct):
    measured_at: str | None = None


_syntax_decoder = msgspec.json.Decoder(msgspec.Raw)  # looks, and builds nothing: a fifth of the time
_times_decoder = msgspec.json.Decoder(_Times)


def json_problem(payload: bytes) -> str | None:
    """Why a payload is not JSON; None when it is."""
    try:
        _syntax_decoder.decode(payload)
        payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return str(error)
    except RecursionError:
        return "it is nested too deeply"
    return None


def measured_at(payload: bytes) -> str | None:
    """The `measured_at` text of a telemetry payload, where it has one."""
    try:
        return _times_decoder.decode(payload).measured_at
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
