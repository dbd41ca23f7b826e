"""The disposable producer on a real Kafka: order, headers, refusals down to the record, outages with a deadline."""

from __future__ import annotations

import asyncio
import gc
import socket
import time

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from evedge.core.delivery import RefusalReason, SendOutage, SendResult, TopicUnavailable
from evedge.core.errors import UsageError
from evedge.core.model import Record
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.kafka_settings import Compression, KafkaSettings, SaslMechanism, SecurityProtocol
from evedge.links.kafka_timestamps import NO_TIMESTAMP
from kafka_server import RealKafka
from links.kafka_tools import EPOCH, NOW_MS, create_topic, read_all, read_distinct, record, settings, values

pytestmark = pytest.mark.kafka
HOUR_MS = 3_600_000


async def eventually_sent(producer: KafkaProducer, topic: str, records: list[Record]) -> SendResult:
    """What a forwarder does: sends again what is open until all is settled."""
    confirmed, refused, open_records = (), (), records
    while True:
        try:
            result = await producer.send(topic, open_records)
        except SendOutage as outage:
            confirmed += outage.settled.confirmed
            refused += outage.settled.refused
            settled = {each.number for each in (*confirmed, *(one.record for one in refused))}
            open_records = [each for each in records if each.number not in settled]
            await asyncio.sleep(0.1)
        else:
            return SendResult(confirmed + result.confirmed, refused + result.refused, result.restamped)


async def test_records_arrive_with_headers_timestamp_and_key(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    sent = record(5)
    async with KafkaProducer(settings(real_kafka.bootstrap)) as producer:
        assert not producer.up
        result = await producer.send(unique_name, [sent])
        assert producer.up
    assert result == SendResult(confirmed=(sent,))
    (seen,) = read_all(real_kafka.bootstrap, unique_name, 1)
    assert (seen.key, seen.value, seen.timestamp) == (b"site/rp-01", b"value 5", (1, NOW_MS))
    assert seen.headers == [*sent.headers, ("ce_id", b"17-5"), ("ce_time", b"2026-11-23T09:00:00.123Z")]


async def test_order_per_key_and_partitions_are_kafkas_own(real_kafka: RealKafka, unique_name: str) -> None:
    ours, theirs = f"{unique_name}-ours", f"{unique_name}-theirs"
    keys = ["", "a", "ä", "site-042", *(f"site-042/rp-{number:02d}" for number in range(30))]
    for topic in (ours, theirs):
        create_topic(real_kafka.bootstrap, topic, partitions=7)
    records = [record(number, keys[number % len(keys)]) for number in range(2000)]
    async with KafkaProducer(settings(real_kafka.bootstrap), max_batch_bytes=4096) as producer:
        for start in range(0, len(records), 500):
            result = await producer.send(ours, records[start : start + 500])
            assert len(result.confirmed) == 500
    seen = read_all(real_kafka.bootstrap, ours, len(records))
    for key in keys:
        sent = [each.value for each in records if each.key == key.encode()]
        assert [each.value for each in seen if each.key == key.encode()] == sent

    librdkafka = Producer({"bootstrap.servers": real_kafka.bootstrap, "partitioner": "murmur2"})
    for key in keys:
        librdkafka.produce(theirs, key=key.encode(), value=b"")
    librdkafka.flush(10)
    partition_of = {each.key: each.partition for each in read_all(real_kafka.bootstrap, theirs, len(keys))}
    assert {each.key: each.partition for each in seen} == partition_of
    assert len(set(partition_of.values())) > 3


@pytest.mark.parametrize("compression", list(Compression))
async def test_every_compression_is_taken(real_kafka: RealKafka, unique_name: str, compression: Compression) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    records = [record(number) for number in range(50)]
    async with KafkaProducer(settings(real_kafka.bootstrap, compression=compression)) as producer:
        await producer.send(unique_name, records)
    assert values(read_all(real_kafka.bootstrap, unique_name, 50)) == [each.value for each in records]


def test_gzip_is_not_at_its_slowest_level() -> None:
    text = b"".join(record(number).value for number in range(100))
    builder = DefaultRecordBatchBuilder(2, 1, 0, -1, -1, 0, 1_000_000)
    builder.append(0, NOW_MS, key=None, value=text, headers=[])
    batch = bytes(builder.build())
    assert batch[batch.index(b"\x1f\x8b") + 8] == 0  # RFC 1952, XFL: 2 stands for the slowest, 4 for the fastest


async def test_a_poisoned_batch_loses_only_the_poison(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name, max_message_bytes="2000")
    records = [record(number) for number in range(100)]
    noise = bytes(number * number % 251 for number in range(5000))
    poison = {17: record(17, value=noise), 63: record(63, value=noise[::-1])}
    batch = [poison.get(number, each) for number, each in enumerate(records)]
    async with KafkaProducer(settings(real_kafka.bootstrap, compression=Compression.NONE)) as producer:
        result = await producer.send(unique_name, batch)
        # Each refusal left the producer's sequence numbers right: the next batch is taken at once.
        again = await producer.send(unique_name, [record(100)])
    assert [each.record for each in result.refused] == list(poison.values())
    assert {each.reason for each in result.refused} == {RefusalReason.RECORD_TOO_LARGE}
    good = [each for each in batch if each not in poison.values()]
    assert list(result.confirmed) == good
    assert list(again.confirmed) == [record(100)]
    assert values(read_all(real_kafka.bootstrap, unique_name, 99)) == [each.value for each in [*good, record(100)]]
    assert producer.last_error is None


async def test_a_record_without_the_key_that_compaction_needs_is_refused(
    real_kafka: RealKafka, unique_name: str
) -> None:
    create_topic(real_kafka.bootstrap, unique_name, cleanup_policy="compact")
    keyless = Record("", None, b"v", (), NOW_MS, durable=True, number=EPOCH)  # type: ignore[arg-type]
    async with KafkaProducer(settings(real_kafka.bootstrap)) as producer:
        result = await producer.send(unique_name, [record(1), keyless, record(2)])
    assert [(each.record, each.reason) for each in result.refused] == [(keyless, RefusalReason.INVALID_RECORD)]
    assert list(result.confirmed) == [record(1), record(2)]


async def test_refused_timestamps_are_replaced_and_ce_time_stays(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    now = time.time_ns() // 1_000_000
    ahead = [record(number, timestamp_ms=now + 2 * HOUR_MS + number) for number in range(40)]
    records = [record(100, timestamp_ms=now), *ahead, record(101, timestamp_ms=now)]
    async with KafkaProducer(settings(real_kafka.bootstrap)) as producer:
        result = await producer.send(unique_name, records)
    assert list(result.confirmed) == records
    assert list(result.restamped) == ahead
    seen = read_all(real_kafka.bootstrap, unique_name, 42)
    assert values(seen) == [each.value for each in records]
    assert all(abs(each.timestamp[1] - now) < 60_000 for each in seen)
    assert dict(seen[1].headers)["ce_time"] not in {dict(each.headers)["ce_time"] for each in seen[2:]}


async def test_a_clock_that_kafka_refuses_costs_no_record(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    wrong_now = time.time_ns() // 1_000_000 + 5 * HOUR_MS
    records = [record(number, timestamp_ms=wrong_now - 40 + number) for number in range(40)]
    async with KafkaProducer(settings(real_kafka.bootstrap), now_ms=lambda: wrong_now) as producer:
        result = await producer.send(unique_name, records)
    assert list(result.confirmed) == list(result.restamped) == records
    seen = read_all(real_kafka.bootstrap, unique_name, 40)
    assert values(seen) == [each.value for each in records]
    assert {each.timestamp for each in seen} == {(1, NO_TIMESTAMP)}


async def test_a_missing_topic_holds_up_only_itself(real_kafka: RealKafka, unique_name: str) -> None:
    async with KafkaProducer(settings(real_kafka.bootstrap)) as producer:
        with pytest.raises(TopicUnavailable, match=f"{unique_name}: it does not exist"):
            await producer.send(unique_name, [record(1)])
        assert producer.up
        session = producer._session
        create_topic(real_kafka.bootstrap, unique_name)
        result = await producer.send(unique_name, [record(1)])
        assert list(result.confirmed) == [record(1)]
        assert producer._session is session


async def test_a_forbidden_topic_holds_up_only_itself(real_kafka: RealKafka, unique_name: str) -> None:
    forbidden = f"{unique_name}-forbidden"
    for topic in (unique_name, forbidden):
        create_topic(real_kafka.bootstrap, topic)
    forbid(real_kafka, forbidden, AclOperation.WRITE)
    async with KafkaProducer(login(real_kafka, "secret")) as producer:
        await producer.send(unique_name, [record(1)])
        for _ in range(2):
            with pytest.raises(TopicUnavailable, match="this user may not use it"):
                await producer.send(forbidden, [record(2)])
        await producer.send(unique_name, [record(3)])
        assert producer.last_error is None
    assert values(read_all(real_kafka.bootstrap, unique_name, 2)) == [b"value 1", b"value 3"]


async def test_a_wrong_password_is_an_outage_with_kafkas_words(real_kafka: RealKafka) -> None:
    async with KafkaProducer(login(real_kafka, "wrong")) as producer:
        with pytest.raises(SendOutage, match="Authentication failed"):
            await producer.send("any", [record(1)])
        assert not producer.up
        assert "Authentication failed" in str(producer.last_error)


async def test_without_kafka_a_send_fails_at_once(unique_name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with KafkaProducer(settings(f"127.0.0.1:{port}")) as producer:
        results = await asyncio.gather(
            *(producer.send(unique_name, [record(number)]) for number in range(5)), return_exceptions=True
        )
        assert all(isinstance(each, SendOutage) and "cannot be reached" in str(each) for each in results)
        assert not producer.up
    with pytest.raises(SendOutage, match="closed"):
        await producer.send(unique_name, [record(1)])


async def test_a_frozen_broker_is_an_outage_and_sends_go_on_after_it(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name, partitions=3)
    first = [record(number, f"key-{number % 9}") for number in range(30)]
    second = [record(number, f"key-{number % 9}") for number in range(30, 60)]
    async with KafkaProducer(settings(real_kafka.bootstrap), request_timeout_s=0.8) as producer:
        await producer.send(unique_name, first)
        real_kafka.pause()
        try:
            async with asyncio.timeout(5):
                with pytest.raises(SendOutage):
                    await producer.send(unique_name, second)
                assert not producer.up
                with pytest.raises(SendOutage, match="cannot be reached"):
                    await producer.send(unique_name, second)
        finally:
            real_kafka.resume()
        await eventually_sent(producer, unique_name, second)
        assert producer.up
    seen = [each.value for each in read_distinct(real_kafka.bootstrap, unique_name)]
    for key in range(9):
        wanted = [each.value for each in (*first, *second) if each.key == f"key-{key}".encode()]
        assert [value for value in seen if int(value.split()[1]) % 9 == key] == wanted


async def test_a_stopped_broker_is_an_outage_and_sends_go_on_after_its_return(
    real_kafka: RealKafka, unique_name: str
) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    async with KafkaProducer(settings(real_kafka.bootstrap), request_timeout_s=1.0) as producer:
        await producer.send(unique_name, [record(0)])
        await asyncio.to_thread(real_kafka.stop)
        with pytest.raises(SendOutage):
            await producer.send(unique_name, [record(1)])
        starting = asyncio.create_task(asyncio.to_thread(real_kafka.start))
        await eventually_sent(producer, unique_name, [record(1), record(2)])
        await starting
    assert values(read_distinct(real_kafka.bootstrap, unique_name)) == [b"value 0", b"value 1", b"value 2"]


async def test_twenty_rebuilds_leave_no_task_and_no_connection(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    async with KafkaProducer(settings(real_kafka.bootstrap), request_timeout_s=0.1) as producer:
        before = set(asyncio.all_tasks())
        for number in range(20):
            await eventually_sent(producer, unique_name, [record(number)])
            real_kafka.pause()
            try:
                with pytest.raises(SendOutage):
                    await producer.send(unique_name, [record(1000 + number)])
            finally:
                real_kafka.resume()
        await asyncio.wait(set(producer._discarding) or {asyncio.ensure_future(asyncio.sleep(0))})
        assert asyncio.all_tasks() == before
    gc.collect()  # a connection that was forgotten warns here
    assert len(read_distinct(real_kafka.bootstrap, unique_name)) >= 20


async def test_a_send_that_was_cancelled_disturbs_nothing_after_it(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    async with KafkaProducer(settings(real_kafka.bootstrap)) as producer:
        await producer.send(unique_name, [record(0)])
        real_kafka.pause()
        try:
            sending = asyncio.create_task(producer.send(unique_name, [record(1)]))
            done, _ = await asyncio.wait({sending}, timeout=0.1)  # long enough to be under way
            assert not done
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        finally:
            real_kafka.resume()
        result = await producer.send(unique_name, [record(1), record(2)])
        assert list(result.confirmed) == [record(1), record(2)]
        assert producer.last_error is None
    assert values(read_distinct(real_kafka.bootstrap, unique_name)) == [b"value 0", b"value 1", b"value 2"]


async def test_close_ends_a_send_under_way(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    producer = KafkaProducer(settings(real_kafka.bootstrap))
    await producer.send(unique_name, [record(0)])
    real_kafka.pause()
    try:
        sending = asyncio.create_task(producer.send(unique_name, [record(1)]))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await producer.close(grace_s=2)
            await producer.close()
            with pytest.raises(SendOutage, match="closed"):
                await sending
    finally:
        real_kafka.resume()


def test_settings_never_show_the_password_and_refuse_what_cannot_work() -> None:
    good = KafkaSettings(("h:1",), security_protocol=SecurityProtocol.SASL_SSL, sasl_username="u", sasl_password="hush")
    assert "hush" not in repr(good)
    with pytest.raises(UsageError, match="sasl_username"):
        KafkaSettings(("h:1",), security_protocol=SecurityProtocol.SASL_SSL)
    with pytest.raises(UsageError, match=r"OAUTHBEARER needs kafka\.sasl_password$"):
        KafkaSettings(("h:1",), security_protocol=SecurityProtocol.SASL_SSL, sasl_mechanism=SaslMechanism.OAUTHBEARER)
    with pytest.raises(UsageError, match="ssl_ca_file /nowhere"):
        KafkaSettings(("h:1",), security_protocol=SecurityProtocol.SSL, ssl_ca_file="/nowhere").client_arguments()


def login(kafka: RealKafka, password: str) -> KafkaSettings:
    return settings(
        kafka.sasl_bootstrap,
        security_protocol=SecurityProtocol.SASL_PLAINTEXT,
        sasl_username="gateway",
        sasl_password=password,
    )


def forbid(kafka: RealKafka, topic: str, operation: AclOperation) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    rule = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:gateway",
        "*",
        operation,
        AclPermissionType.DENY,
    )
    for future in admin.create_acls([rule]).values():
        future.result(10)
