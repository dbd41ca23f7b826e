"""How many bytes a batch of records takes, made with the same builder that the producer's batches are made with.

Nothing is sent. For forecasts: what Kafka stores, and what crosses the link but for the requests around the batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from evedge.core.cloudevents import record_headers
from evedge.core.model import Record
from evedge.links.kafka_settings import Compression

_MAGIC = 2
_UNLIMITED = 2**31 - 1
_CODECS: Mapping[Compression, int] = {
    Compression.NONE: 0,
    Compression.GZIP: 1,
    Compression.SNAPPY: 2,
    Compression.LZ4: 3,
    Compression.ZSTD: 4,
}


def batch_bytes(records: Sequence[Record], compression: Compression = Compression.NONE) -> int:
    """Length of one record batch (format 2) that holds all of them."""
    builder = DefaultRecordBatchBuilder(
        _MAGIC,
        _CODECS[compression],
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=_UNLIMITED,
    )
    for offset, record in enumerate(records):
        builder.append(offset, record.timestamp_ms, key=record.key, value=record.value, headers=record_headers(record))
    return len(builder.build())
