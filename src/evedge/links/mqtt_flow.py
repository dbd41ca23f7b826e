"""How much was received from clients and is not accepted yet, and who has to wait because of it.

While the journal is full, or slower than a publisher, messages wait in memory. Each connection may have some of them,
all connections of one user more, and all together have a bound that makes each connection's smaller. What a connection
left behind counts for its user until it is accepted, so that coming back does not help.

Knows no sockets: it tells whoever it holds back by calling `resume`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

PER_CONNECTION = 524_288
PER_CONNECTION_WHEN_MANY = 32_768
PER_USER = 16_777_216
MANY = 67_108_864
MESSAGE_OVERHEAD = 256
"""Bytes that a message costs in memory beside those on the wire."""


class Held(Protocol):
    """Somebody who waits until there is room."""

    def resume(self) -> None: ...


class Flow:
    """Invariant: `in_flight` is the sum over users; everything added is taken away once, whatever becomes of it."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._by_user: Counter[str | None] = Counter()
        self._held: dict[str | None, set[Held]] = {}
        self._empty: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Flow {self.in_flight} bytes not yet accepted, of {len(self._by_user)} users>"

    def add(self, user: str | None, size: int) -> None:
        """Received."""
        self.in_flight += size
        self._by_user[user] += size

    def done(self, user: str | None, size: int) -> None:
        """Accepted, or given up. Lets those go on who waited for their user's other connections."""
        self.in_flight -= size
        left = self._by_user[user] - size
        if left:
            self._by_user[user] = left
        else:
            del self._by_user[user]
        if left < PER_USER // 2 and user in self._held:
            for held in self._held.pop(user):
                held.resume()
        if not self.in_flight and self._empty is not None:
            self._empty.set()

    def is_full(self, user: str | None, own: int) -> bool:
        """Whether a connection of this user that has `own` bytes in flight must not read on."""
        return own >= self._bound() or self._by_user[user] >= PER_USER

    def has_room(self, own: int) -> bool:
        """Whether a connection that was full may read again: later than it stopped, so that it does not flutter."""
        return own <= self._bound() // 2

    def hold(self, user: str | None, who: Held) -> None:
        """Calls `resume` when the user has room again, where it is the user that is full."""
        if self._by_user[user] >= PER_USER:
            self._held.setdefault(user, set()).add(who)

    def is_held(self, user: str | None, who: Held) -> bool:
        return who in self._held.get(user, ())

    def let_go(self, user: str | None, who: Held) -> None:
        """It will not read again."""
        waiting = self._held.get(user)
        if waiting is not None:
            waiting.discard(who)
            if not waiting:
                del self._held[user]

    async def empty(self) -> None:
        """Waits until nothing is in flight."""
        if self.in_flight:
            self._empty = asyncio.Event()
            await self._empty.wait()

    def _bound(self) -> int:
        return PER_CONNECTION if self.in_flight < MANY else PER_CONNECTION_WHEN_MANY
