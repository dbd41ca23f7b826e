"""The journal's file: its tables, and records as rows. What the statements are for stands in `journal.py`.

Records are a table by number: each comes at its end, and up to 4 kB of one stand in one page (a table WITHOUT ROWID has
an overflow page for each above 1 kB: four times the space). The index holds all that a start reads.
"""

from __future__ import annotations

import msgspec

from evedge.core.lanes import DeadLetter
from evedge.core.model import Record
from evedge.links.database import Row

FORMAT = 1
MAX_DEAD_LETTERS = 1000
MAX_DEAD_LETTER_BYTES = 16 * 1024 * 1024

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY, lane TEXT NOT NULL, durable INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL,
    size INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS records_in_lane ON records (lane, number, size);
CREATE TABLE IF NOT EXISTS received (
    client_id TEXT NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (client_id, packet_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    kafka_topic TEXT NOT NULL, mqtt_topic TEXT NOT NULL, reason TEXT NOT NULL, error TEXT NOT NULL,
    key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
INSERT = (
    "INSERT OR IGNORE INTO records (lane, number, durable, timestamp_ms, size, key, value, headers)"
    " VALUES (?,?,?,?,?,?,?,?)"
)
DELETE = "DELETE FROM records WHERE number = ?"
PAGE = (
    "SELECT number, durable, timestamp_ms, key, value, headers FROM records"
    " WHERE lane = ? AND number >= ? ORDER BY number LIMIT ?"
)
LOAD = "SELECT lane, count(*), sum(size), min(number), max(number) FROM records GROUP BY lane"
LOAD_RECEIVED = "SELECT client_id, packet_id FROM received"
DEAD_LETTERS = (
    "SELECT number, at_ms, kafka_topic, mqtt_topic, reason, error, key, value, headers FROM dead_letters ORDER BY id"
)
INSERT_RECEIVED = "INSERT OR IGNORE INTO received (client_id, packet_id) VALUES (?,?)"
DELETE_RECEIVED = "DELETE FROM received WHERE client_id = ? AND packet_id = ?"
DELETE_SESSION = "DELETE FROM received WHERE client_id = ?"
INSERT_DEAD = (
    "INSERT INTO dead_letters (number, at_ms, kafka_topic, mqtt_topic, reason, error, key, value, headers)"
    " VALUES (?,?,?,?,?,?,?,?,?)"
)
TRIM_DEAD = (
    "DELETE FROM dead_letters WHERE id NOT IN (SELECT id FROM (SELECT id, row_number() OVER newest AS count,"
    " sum(length(key) + length(value) + length(headers)) OVER newest AS bytes FROM dead_letters"
    " WINDOW newest AS (ORDER BY id DESC)) WHERE count = 1 OR (count <= ? AND bytes <= ?))"
)
SET_FLOOR = "INSERT OR REPLACE INTO meta (name, value) VALUES ('floor', ?)"
LOAD_FLOOR = "SELECT value FROM meta WHERE name = 'floor'"

_headers_encoder = msgspec.msgpack.Encoder()
_headers_decoder = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])


def encode_headers(headers: tuple[tuple[str, bytes], ...]) -> bytes:
    return _headers_encoder.encode(headers)


def _decode_headers(data: bytes) -> tuple[tuple[str, bytes], ...]:
    return _headers_decoder.decode(data)


def record_row(record: Record) -> Row:
    return (
        record.lane,
        record.number,
        record.durable,
        record.timestamp_ms,
        record.size,
        record.key,
        record.value,
        encode_headers(record.headers),
    )


def record_of(lane: str, row: tuple[int, int, int, bytes, bytes, bytes]) -> Record:
    """A record from a row of PAGE."""
    number, durable, timestamp_ms, key, value, headers = row
    return Record(
        lane=lane,
        key=key,
        value=value,
        headers=_decode_headers(headers),
        timestamp_ms=timestamp_ms,
        durable=bool(durable),
        number=number,
    )


def dead_letter_row(dead: DeadLetter) -> Row:
    """The row of INSERT_DEAD."""
    record = dead.record
    return (
        record.number,
        dead.at_ms,
        dead.kafka_topic,
        dead.mqtt_topic,
        dead.reason,
        dead.error,
        record.key,
        record.value,
        encode_headers(record.headers),
    )


def dead_letter_of(row: tuple[int, int, str, str, str, str, bytes, bytes, bytes]) -> DeadLetter:
    """A dead letter from a row of DEAD_LETTERS."""
    number, at_ms, kafka_topic, mqtt_topic, reason, error, key, value, headers = row
    record = Record(kafka_topic, key, value, _decode_headers(headers), at_ms, durable=True, number=number)
    return DeadLetter(at_ms, kafka_topic, mqtt_topic, reason, error, record)
