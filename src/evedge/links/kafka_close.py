"""Closing aiokafka's clients for good, whatever state Kafka is in: nothing hangs, nothing leaks.

aiokafka 0.14 cannot do that by itself. `AIOKafkaProducer.stop()` waits without end for what an idempotent producer has
not delivered, `AIOKafkaConsumer.stop()` raises CancelledError while the broker is down and leaves its sockets open
(aiokafka issues 1101 and 647). So both are taken apart here by their private names, in the order in which nobody waits
for somebody who is gone already. The version is pinned in pyproject.toml; tests on a real Kafka hold these names.

Nothing is flushed and no group is left: the caller has confirmed what it sent and committed what it read, and a static
member does not leave its group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient

PATIENCE_S = 1.0
"""How long tasks may end by themselves, their connections being closed, before they are cancelled once more."""

_ATTEMPTS = 5


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Batches that are not confirmed are given up; their futures stay pending and go with their owners."""
    producer._closed = True  # its finaliser warns otherwise  # noqa: SLF001
    _cut(producer.client)
    sender = producer._sender.sender_task  # noqa: SLF001
    await _end([sender, _metadata_task(producer.client)])
    _cut(producer.client)  # a connection that was being opened a moment ago


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """The member stays in its group until it comes again or its session times out."""
    consumer._closed = True  # noqa: SLF001 -- as above
    client, coordinator, fetcher = consumer._client, consumer._coordinator, consumer._fetcher  # noqa: SLF001
    _cut(client)
    tasks = [_metadata_task(client)]
    if coordinator is not None:
        closing = getattr(coordinator, "_closing", None)
        if closing is not None and not closing.done():
            closing.set_result(None)
        names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
        tasks += [getattr(coordinator, name, None) for name in names]
    if fetcher is not None:
        fetcher._closed = True  # noqa: SLF001
        tasks += [fetcher._fetch_task, *fetcher._pending_tasks]  # noqa: SLF001
    await _end(tasks)
    _cut(client)


async def close_client(client: AIOKafkaClient) -> None:
    """For a client that runs on its own, such as the one inside the administration client."""
    _cut(client)
    await _end([_metadata_task(client)])
    _cut(client)


def _metadata_task(client: AIOKafkaClient) -> asyncio.Task[None] | None:
    task: asyncio.Task[None] | None = client._sync_task  # noqa: SLF001
    return task


def _cut(client: AIOKafkaClient) -> None:
    """Requests in flight fail at once, and whoever waits for metadata, now or later, is cancelled."""
    for connection in list(client._conns.values()):  # noqa: SLF001
        writer = connection._writer  # noqa: SLF001
        connection.close()
        if writer is not None:
            writer.transport.abort()  # close() would wait until a frozen broker has read what is in the buffer
    client._conns.clear()  # noqa: SLF001
    waiting = client._md_update_fut  # noqa: SLF001
    if waiting is None:
        waiting = client._md_update_fut = asyncio.get_running_loop().create_future()  # noqa: SLF001
    waiting.cancel()


async def _end(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancels tasks until they have ended; a task of aiokafka's that awaits others survives the first time."""
    left = {task for task in tasks if task is not None}
    for _ in range(_ATTEMPTS):
        for task in left:
            task.cancel()
        if not left:
            break
        done, left = await asyncio.wait(left, timeout=PATIENCE_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # taken note of: the loop complains of exceptions that nobody looked at
