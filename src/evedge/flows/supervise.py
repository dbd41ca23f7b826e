"""Keeps one recharge point's task going: a defect in it is logged once, raised as an alert, and tried again later.

What everything rests on (journal, forwarder, MQTT front) is not supervised: its failure stops the process in order, and
systemd starts it again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from evedge.core.backoff import Backoff

log = structlog.get_logger()


async def supervised(
    name: str,
    serve: Callable[[], Awaitable[None]],
    failed: Callable[[str], None],
    *,
    chance: Callable[[], float] = random.random,
) -> NoReturn:
    """Run `serve` again and again until cancelled. `failed` is told, in one line, of each unexpected end."""
    backoff = Backoff(first_s=1.0, longest_s=60.0)
    told = ""
    while True:
        try:
            await serve()
            problem = "it ended"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            if problem != told:
                log.exception("task_failed", task=name)
        told = problem
        failed(problem)
        await asyncio.sleep(backoff.failed(chance()))
