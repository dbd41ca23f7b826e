"""Feeds systemd's watchdog, but only while the gateway makes progress: what hangs is started again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

log = structlog.get_logger()


class Systemd(Protocol):
    """`watchdog_s`: how long it waits for a sign of life; None: it does not watch."""

    watchdog_s: float | None

    def alive(self) -> None: ...


async def feed_watchdog(
    systemd: Systemd,
    stalled: Callable[[], str | None],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Until cancelled; at once where nobody watches. `stalled` says what makes no progress, None when all does."""
    if systemd.watchdog_s is None:
        return
    told: str | None = None
    while True:
        reason = stalled()
        if reason is None:
            systemd.alive()
        elif reason != told:
            log.error("watchdog_not_fed", reason=reason)
        told = reason
        await sleep(systemd.watchdog_s / 2)
