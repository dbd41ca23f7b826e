"""Fixtures that several rooms share: a real Kafka, one for the whole run, and the in-memory one, new for each test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from uuid import uuid4

import pytest

import kafka_server
from evedge.links.mock_kafka import MockKafka
from kafka_server import RealKafka


def pytest_configure() -> None:
    """A run in the background may have inherited that SIGINT is ignored, and so would the programs that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Resolves the jars before the first test's time limit runs: the download may take longer than a test may."""
    needed = any("real_kafka" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly and kafka_server.missing() is None:
        kafka_server.resolve_jars()


@pytest.fixture(scope="session")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    reason = kafka_server.missing()
    if reason is not None:
        if kafka_server.must_not_skip():
            pytest.fail(reason)
        pytest.skip(reason)
    kafka = RealKafka(tmp_path_factory.mktemp("kafka"))
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.stop()


@pytest.fixture
def real_kafka(shared_kafka: RealKafka) -> Iterator[RealKafka]:
    """A real Kafka that serves, whatever the test before did to it. Use a topic name of your own: `unique_name`."""
    shared_kafka.start()
    yield shared_kafka
    if shared_kafka.running:
        shared_kafka.resume()


@pytest.fixture
def mock_kafka() -> Iterator[MockKafka]:
    with MockKafka() as kafka:
        yield kafka


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses, for topics and gateways."""
    return f"{request.node.name.partition('[')[0][:60]}-{uuid4().hex[:8]}"
