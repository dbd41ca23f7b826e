"""A Kafka record as people and scripts read it: whatever it holds, never bytes that a terminal would obey."""

from __future__ import annotations

import base64
from typing import TypeAlias

import msgspec

from evedge.core.delivery import ConsumedRecord
from evedge.core.times import to_rfc3339

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


def as_line(record: ConsumedRecord) -> str:
    """Time, topic, key and value on one line; characters that a terminal would obey are escaped."""
    time = _time(record.timestamp_ms) or "no timestamp"
    key = "-" if record.key is None else _plain(record.key)
    value = "null" if record.value is None else _plain(record.value)
    return f"{time}  {record.topic}  {key}  {value}"


def as_json(record: ConsumedRecord) -> dict[str, Json]:
    """`{topic, partition, offset, key, timestamp, headers, value}`.

    `value` is the JSON it holds, else its text, else `{"base64": …}`; null is Kafka's null. `timestamp` is null where
    the record has none.
    """
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": None if record.key is None else _text_or_base64(record.key),
        "timestamp": _time(record.timestamp_ms),
        "headers": {name: _text_or_base64(value) for name, value in record.headers},
        "value": None if record.value is None else _value(record.value),
    }


def _time(timestamp_ms: int) -> str | None:
    try:
        return None if timestamp_ms < 0 else to_rfc3339(timestamp_ms)
    except (ValueError, OverflowError):  # a year that nobody means
        return str(timestamp_ms)


def _plain(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"<{len(data)} bytes: {data[:32].hex(' ')}{' …' if len(data) > 32 else ''}>"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _value(data: bytes) -> Json:
    try:
        found: Json = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _text_or_base64(data)
    return found


def _text_or_base64(data: bytes) -> Json:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
