"""One call of aiokafka's, with a deadline and the house's errors."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from evedge.core.errors import Outage
from evedge.links.kafka_words import plain_words

_T = TypeVar("_T")


async def answered(call: Coroutine[Any, Any, _T], deadline_s: float, failure: str) -> _T:
    """What the call returns. Raises Outage `<failure>: <why>` for an error of Kafka's or no answer within the deadline.

    The call runs in a task of its own, because aiokafka cancels what waits for a client that is being closed: that
    must not look like a cancellation of the caller.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task}, timeout=deadline_s)
        if not task.done():
            raise Outage(f"{failure}: no answer within {deadline_s:g} s")
        if task.cancelled():
            raise Outage(f"{failure}: the connection was closed")
        try:
            return task.result()
        except (KafkaError, OSError, TimeoutError) as error:
            raise Outage(f"{failure}: {plain_words(error)}") from error
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)  # it holds nothing but the wait; asked to go, it goes
