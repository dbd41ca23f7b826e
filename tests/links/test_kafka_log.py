"""aiokafka's log while Kafka is away: a line now and then, and the cause kept."""

from __future__ import annotations

import logging

import pytest

from evedge.links import kafka_log


def test_of_many_lines_one_passes_and_the_cause_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    handler = kafka_log.AiokafkaLog()
    logger = logging.Logger("aiokafka.client")  # noqa: LOG001 -- of this test alone
    logger.addHandler(handler)
    with caplog.at_level(logging.INFO, "evedge.links.kafka_log"):
        for attempt in range(100):
            logger.error('Unable connect to "%s:%s": %s', "127.0.0.1", 9092, OSError(f"refused {attempt}"))
    assert len(caplog.records) == 1
    assert handler.connect_error == "refused 99"
    handler.forget_connect_error()
    assert handler.connect_error is None


def test_there_is_one_handler_however_many_clients() -> None:
    assert kafka_log.tame() is kafka_log.tame()
