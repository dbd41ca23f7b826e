"""An in-memory Kafka for `evedge demo` and quick tests: librdkafka's mock cluster, out of the confluent-kafka wheel.

It speaks Kafka's protocol on loopback sockets from threads of its own; what is written is gone with it. It
knows no logins, no sequence checks, no groups of several members and no administration requests: what makes a promise
is tested on a real Kafka. The faults serve the tests.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from evedge.core.errors import EvedgeError

_PRODUCER = 0  # rd_kafka_type_t
_BROKER = 1
_GROUP_DELAY_MS = 100  # 3 s by default

_SIGNATURES: Mapping[str, tuple[type | None, list[type]]] = {
    "rd_kafka_conf_new": (ctypes.c_void_p, []),
    "rd_kafka_conf_set": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
    ),
    "rd_kafka_new": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [ctypes.c_void_p]),
    "rd_kafka_mock_topic_create": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "rd_kafka_mock_set_controller_id": (None, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_rtt": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int]),
    "rd_kafka_mock_partition_set_leader": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32],
    ),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
    ),
    "rd_kafka_mock_clear_request_errors": (None, [ctypes.c_void_p, ctypes.c_int16]),
}


def _load_librdkafka() -> ctypes.CDLL:
    try:
        package = importlib.import_module("confluent_kafka")  # loads the library; afterwards it is found again by path
    except ImportError as error:
        raise EvedgeError("the in-memory Kafka is not installed: pip install 'evedge[demo]'") from error
    home = Path(str(package.__file__)).parent
    candidates = [*home.with_name("confluent_kafka.libs").glob("librdkafka*"), *home.glob(".dylibs/librdkafka*")]
    if not candidates:
        raise EvedgeError("this build of confluent-kafka brings no librdkafka along: name a real Kafka instead")
    library = ctypes.CDLL(str(candidates[0]))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


class MockKafka:
    """One broker on a free port of 127.0.0.1; runs from the making until `close`.

    topics: partitions by name. A topic that is not there is made with 4 partitions when it is asked for.
    """

    PRODUCE = 0
    METADATA = 3
    INIT_PRODUCER_ID = 22

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self._library = _load_librdkafka()
        problem = ctypes.create_string_buffer(256)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", problem, len(problem))
        self._handle = self._library.rd_kafka_new(_PRODUCER, settings, problem, len(problem))
        if not self._handle:
            raise EvedgeError(f"the in-memory Kafka did not start: {problem.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, _GROUP_DELAY_MS)
        self._library.rd_kafka_mock_set_controller_id(self._cluster, _BROKER)
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        """`host:port`."""
        for name, partitions in (topics or {}).items():
            self.create_topic(name, partitions)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Does nothing for a topic that is there."""
        self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)

    def broker_down(self) -> None:
        """Cuts all connections and refuses new ones."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, _BROKER)

    def broker_up(self) -> None:
        """Takes connections again; what was written is still there."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, _BROKER)

    def set_round_trip_ms(self, milliseconds: int) -> None:
        """Every answer comes that much later."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, _BROKER, milliseconds)

    def take_leader_away(self, topic: str, partition: int) -> None:
        """The partition has no leader from now on."""
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, -1)

    def give_leader_back(self, topic: str, partition: int) -> None:
        """The broker leads the partition again."""
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, _BROKER)

    def answer_with_errors(self, api_key: int, *codes: int) -> None:
        """The next requests of this kind get these error codes, one each, and do nothing."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, api_key, len(codes), array)

    def answer_without_errors(self, api_key: int) -> None:
        """Forgets what `answer_with_errors` still had in store."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, api_key)

    def close(self) -> None:
        """Ends its threads. May be called twice."""
        if self._handle:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._handle)
            self._handle = self._cluster = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
