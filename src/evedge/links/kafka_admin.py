"""Which topics a Kafka cluster has, and making those that are missing. For the command line and the check at start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from evedge.core.errors import Outage, Refused
from evedge.core.kafka_topics import TopicSpec
from evedge.links.kafka_calls import answered
from evedge.links.kafka_close import close_client
from evedge.links.kafka_log import tame
from evedge.links.kafka_settings import KafkaSettings
from evedge.links.kafka_words import plain_words

MAX_REPLICAS = 3
_REFUSALS = {
    TopicAuthorizationFailedError.errno: "this user may not (right Create)",
    ClusterAuthorizationFailedError.errno: "this user may not (right Create)",
}


class KafkaAdmin:
    """An administration client, connected inside `async with`. Raises Outage when Kafka does not answer."""

    def __init__(self, settings: KafkaSettings, *, request_timeout_s: float = 10.0) -> None:
        self._settings = settings
        self._request_timeout_s = request_timeout_s
        self._deadline_s = request_timeout_s * (len(settings.bootstrap_servers) + 1)
        self._failure = f"Kafka at {settings.address}"
        self._client: AIOKafkaAdminClient = None  # made inside the loop

    async def __aenter__(self) -> Self:
        log = tame()
        log.forget_connect_error()
        self._client = AIOKafkaAdminClient(
            **self._settings.client_arguments(), request_timeout_ms=int(self._request_timeout_s * 1000)
        )
        try:
            await answered(self._client.start(), self._deadline_s, self._failure)
        except BaseException as error:
            await self._close()
            if isinstance(error, Outage) and log.connect_error:
                raise Outage(f"{self._failure} cannot be reached: {log.connect_error}") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        self._client._closed = True  # noqa: SLF001 -- its own close() waits for a frozen broker
        await close_client(self._client._client)  # noqa: SLF001

    async def existing_topics(self) -> dict[str, int]:
        """The partitions of every topic that this user may see, by name."""
        topics = await answered(self._client.describe_topics(), self._deadline_s, self._failure)
        return {each["topic"]: len(each["partitions"]) for each in topics if each["error_code"] == 0}

    async def settings(self, topics: Iterable[str]) -> dict[str, Mapping[str, str]]:
        """`cleanup.policy` and `retention.ms` of topics; one whose settings this user may not see is left out."""
        wanted = dict.fromkeys(("cleanup.policy", "retention.ms"), "")
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic, wanted) for topic in topics]
        if not resources:
            return {}
        answers = await answered(self._client.describe_configs(resources), self._deadline_s, self._failure)
        return {
            name: {setting: value for setting, value, *_ in entries if value is not None}
            for answer in answers
            for code, _words, _kind, name, entries in answer.resources
            if code == 0
        }

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Makes topics, on up to three brokers each, and returns their names; one that is there is left alone.

        Raises Refused with one line per topic that Kafka did not make; the others are made.
        """
        if not specs:
            return []
        cluster = await answered(self._client.describe_cluster(), self._deadline_s, self._failure)
        replicas = min(MAX_REPLICAS, len(cluster["brokers"]))
        topics = [NewTopic(spec.name, spec.partitions, replicas, topic_configs=spec.topic_configs) for spec in specs]
        response = await answered(self._client.create_topics(topics), self._deadline_s, self._failure)
        created, problems = [], []
        for name, code, *message in response.topic_errors:
            if code == 0:
                created.append(name)
            elif for_code(code) is not TopicAlreadyExistsError:
                words = _REFUSALS.get(code) or (message[0] if message and message[0] else plain_words(for_code(code)()))
                problems.append(f"Kafka did not make the topic {name}: {words}")
        if problems:
            raise Refused("\n".join(problems))
        return created
