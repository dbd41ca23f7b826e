"""The consumer of commands on a real Kafka: commits, restarts, static membership, two gateways with one id."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Sequence

import pytest

from evedge.core.delivery import ConsumedRecord
from evedge.core.errors import Outage, Refused
from evedge.links.kafka_consumer import KafkaConsumer
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.mock_kafka import MockKafka
from kafka_server import RealKafka
from links.kafka_tools import NOW_MS, create_topic, record, settings

pytestmark = pytest.mark.kafka


def member(bootstrap: str, topic: str, **more: float) -> KafkaConsumer:
    return KafkaConsumer(settings(bootstrap), topic, group=f"evedge-{topic}", instance=topic, **more)


async def send(bootstrap: str, topic: str, numbers: Sequence[int]) -> None:
    async with KafkaProducer(settings(bootstrap)) as producer:
        await producer.send(topic, [record(number, f"key-{number}") for number in numbers])


async def take(consumer: KafkaConsumer, count: int) -> list[ConsumedRecord]:
    """At least `count` records."""
    found: list[ConsumedRecord] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await consumer.read(0.5)
    return found


async def read_on(consumer: KafkaConsumer) -> None:
    """Until the consumer raises."""
    async with asyncio.timeout(10):
        while True:
            await consumer.read(0.2)


def numbers(records: Sequence[ConsumedRecord]) -> list[int]:
    return sorted(int(str(each.value, "ascii").split()[1]) for each in records)


async def test_a_record_is_read_as_it_was_sent(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    await send(real_kafka.bootstrap, unique_name, [7])
    async with member(real_kafka.bootstrap, unique_name) as consumer:
        (found,) = await take(consumer, 1)
    assert found == ConsumedRecord(
        topic=unique_name,
        partition=0,
        offset=0,
        key=b"key-7",
        value=b"value 7",
        headers=(
            ("ce_specversion", b"1.0"),
            ("ce_type", b"evedge.telemetry.v1"),
            ("ce_id", b"17-7"),
            ("ce_time", b"2026-11-23T09:00:00.123Z"),
        ),
        timestamp_ms=NOW_MS,
    )


async def test_a_restart_goes_on_after_the_commit_and_repeats_what_was_not_committed(
    real_kafka: RealKafka, unique_name: str
) -> None:
    create_topic(real_kafka.bootstrap, unique_name, partitions=3)
    await send(real_kafka.bootstrap, unique_name, range(20))
    async with member(real_kafka.bootstrap, unique_name) as consumer:
        await consumer.commit(await take(consumer, 20))
        await send(real_kafka.bootstrap, unique_name, range(20, 30))
        assert numbers(await take(consumer, 10)) == list(range(20, 30))
    # A crash looks the same to the broker: a static member says nothing when it goes. It is served again at once.
    async with member(real_kafka.bootstrap, unique_name) as consumer, asyncio.timeout(8):
        assert numbers(await take(consumer, 10)) == list(range(20, 30))


async def test_a_topic_that_is_missing_is_an_outage_until_it_is_made(real_kafka: RealKafka, unique_name: str) -> None:
    async with member(real_kafka.bootstrap, unique_name) as consumer:
        with pytest.raises(Outage, match="does not exist"):
            await consumer.read(0.1)
        create_topic(real_kafka.bootstrap, unique_name)
        await send(real_kafka.bootstrap, unique_name, [1])
        assert numbers(await take(consumer, 1)) == [1]


async def test_without_kafka_a_read_fails_at_once(unique_name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with member(f"127.0.0.1:{port}", unique_name) as consumer:
        for _ in range(2):
            with pytest.raises(Outage, match="cannot be reached"):
                await consumer.read(0.1)


async def test_a_second_gateway_with_the_same_id_replaces_the_first_for_good(
    real_kafka: RealKafka, unique_name: str
) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    await send(real_kafka.bootstrap, unique_name, [1])
    first = member(real_kafka.bootstrap, unique_name, session_timeout_s=3)
    second = member(real_kafka.bootstrap, unique_name, session_timeout_s=3)
    async with first, second:
        await take(first, 1)
        await take(second, 1)
        with pytest.raises(Refused, match="two gateways with the same id"):
            await read_on(first)
        with pytest.raises(Outage, match="closed"):
            await first.read(0.1)
        await send(real_kafka.bootstrap, unique_name, [2])
        await second.commit(await take(second, 1))


async def test_a_replaced_member_cannot_commit(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    await send(real_kafka.bootstrap, unique_name, [1])
    async with member(real_kafka.bootstrap, unique_name) as first, member(real_kafka.bootstrap, unique_name) as second:
        found = await take(first, 1)
        await take(second, 1)
        with pytest.raises(Refused, match="two gateways with the same id"):
            await first.commit(found)


async def test_commands_come_again_after_the_broker_was_frozen_longer_than_the_session(
    real_kafka: RealKafka, unique_name: str
) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    await send(real_kafka.bootstrap, unique_name, [1])
    async with member(real_kafka.bootstrap, unique_name, session_timeout_s=1, request_timeout_s=1) as consumer:
        await consumer.commit(await take(consumer, 1))
        real_kafka.pause()
        try:
            with pytest.raises(Outage):
                await read_on(consumer)
        finally:
            real_kafka.resume()
        await send(real_kafka.bootstrap, unique_name, [2])
        assert numbers(await take_through_outages(consumer, 1)) == [2]
    gc.collect()


async def test_commands_come_again_after_the_broker_restarted(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    await send(real_kafka.bootstrap, unique_name, [1])
    async with member(real_kafka.bootstrap, unique_name, request_timeout_s=3) as consumer:
        found = await take(consumer, 1)
        await asyncio.to_thread(real_kafka.stop)
        with pytest.raises(Outage):
            await consumer.commit(found)
        await asyncio.to_thread(real_kafka.start)
        assert numbers(await take_through_outages(consumer, 1)) == [1]
    gc.collect()


async def take_through_outages(consumer: KafkaConsumer, count: int) -> list[ConsumedRecord]:
    while True:
        try:
            return await take(consumer, count)
        except Outage:
            await asyncio.sleep(0.1)


async def test_closing_is_quick_whatever_the_broker_does_and_leaves_no_task(
    real_kafka: RealKafka, unique_name: str
) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    await send(real_kafka.bootstrap, unique_name, [1])
    before = asyncio.all_tasks()
    consumer = member(real_kafka.bootstrap, unique_name)
    await take(consumer, 1)
    real_kafka.pause()
    try:
        async with asyncio.timeout(3):
            await consumer.close()
            await consumer.close()
    finally:
        real_kafka.resume()
    assert asyncio.all_tasks() == before
    gc.collect()


async def test_the_in_memory_kafka_serves_a_static_member_too(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("commands", 2)
    await send(mock_kafka.bootstrap, "commands", [1, 2, 3])
    async with member(mock_kafka.bootstrap, "commands", session_timeout_s=2) as consumer:
        found = await take(consumer, 3)
        await consumer.commit(found)
    assert numbers(found) == [1, 2, 3]
