"""The in-memory Kafka: what demo and quick tests rest on, and its faults, seen through our own producer."""

from __future__ import annotations

import sys

import pytest

from evedge.core.delivery import SendOutage, TopicUnavailable
from evedge.core.errors import EvedgeError
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.kafka_reader import KafkaReader
from evedge.links.mock_kafka import MockKafka
from links.kafka_tools import record, settings


async def test_what_is_sent_is_read(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("a", 3)
    records = [record(number, f"key-{number % 5}") for number in range(50)]
    async with KafkaProducer(settings(mock_kafka.bootstrap)) as producer:
        await producer.send("a", records)
        async with KafkaReader(settings(mock_kafka.bootstrap), ["a"], from_beginning=True) as reader:
            found = []
            while len(found) < 50:
                found += await reader.read(1.0)
    assert sorted(each.value for each in found) == sorted(each.value for each in records)


async def test_a_reader_starts_where_it_was_opened(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("a", 2)
    async with KafkaProducer(settings(mock_kafka.bootstrap)) as producer:
        await producer.send("a", [record(1)])
        async with KafkaReader(settings(mock_kafka.bootstrap), ["a", "absent"]) as reader:
            assert reader.missing == ["absent"]
            await producer.send("a", [record(2)])
            (found,) = await reader.read(5.0)
    assert found.value == b"value 2"


async def test_a_broker_that_is_down_and_up_again_is_an_outage(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("a")
    async with KafkaProducer(settings(mock_kafka.bootstrap), request_timeout_s=0.5) as producer:
        await producer.send("a", [record(1)])
        mock_kafka.broker_down()
        for _ in range(2):
            with pytest.raises(SendOutage):
                await producer.send("a", [record(2)])
        mock_kafka.broker_up()
        assert (await producer.send("a", [record(2)])).confirmed == (record(2),)


async def test_a_partition_without_a_leader_holds_up_only_its_topic(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("a")
    mock_kafka.create_topic("b")
    async with KafkaProducer(settings(mock_kafka.bootstrap)) as producer:
        mock_kafka.take_leader_away("a", 0)
        with pytest.raises(TopicUnavailable, match="no leader"):
            await producer.send("a", [record(1)])
        assert (await producer.send("b", [record(1)])).confirmed == (record(1),)
        mock_kafka.give_leader_back("a", 0)
        assert (await producer.send("a", [record(1)])).confirmed == (record(1),)
        assert producer.last_error is None


async def test_a_fatal_answer_rebuilds_the_producer(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("a")
    async with KafkaProducer(settings(mock_kafka.bootstrap)) as producer:
        await producer.send("a", [record(1)])
        mock_kafka.answer_with_errors(MockKafka.PRODUCE, 45)  # OUT_OF_ORDER_SEQUENCE_NUMBER
        with pytest.raises(SendOutage, match="lost count"):
            await producer.send("a", [record(2)])
        assert (await producer.send("a", [record(2)])).confirmed == (record(2),)


async def test_what_was_confirmed_before_an_outage_is_told(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("a")
    records = [record(number, value=bytes(3000)) for number in range(4)]
    async with KafkaProducer(settings(mock_kafka.bootstrap), max_batch_bytes=4096) as producer:
        await producer.connect()
        mock_kafka.answer_with_errors(MockKafka.PRODUCE, 0, 0, 45)
        with pytest.raises(SendOutage) as caught:
            await producer.send("a", records)
    assert list(caught.value.settled.confirmed) == records[:2]


async def test_a_topic_that_kafka_forbids_in_the_middle_holds_up_only_itself(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("a")
    async with KafkaProducer(settings(mock_kafka.bootstrap)) as producer:
        await producer.send("a", [record(1)])
        mock_kafka.answer_with_errors(MockKafka.PRODUCE, 29)  # TOPIC_AUTHORIZATION_FAILED
        with pytest.raises(TopicUnavailable, match="may not use it"):
            await producer.send("a", [record(2)])
        assert producer.up


async def test_without_the_right_to_write_with_idempotence_the_reason_is_told(mock_kafka: MockKafka) -> None:
    mock_kafka.answer_with_errors(MockKafka.INIT_PRODUCER_ID, 31)  # CLUSTER_AUTHORIZATION_FAILED
    async with KafkaProducer(settings(mock_kafka.bootstrap)) as producer:
        with pytest.raises(SendOutage, match="IdempotentWrite"):
            await producer.connect()


def test_it_closes_twice() -> None:
    kafka = MockKafka({"a": 1})
    kafka.close()
    kafka.close()


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(EvedgeError, match=r"pip install 'evedge\[demo\]'"):
        MockKafka()
