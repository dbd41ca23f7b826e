"""Every step of every command's life: on disk first, then told.

A step and what it changes are written in one transaction, with the result that tells of it. The result is published
after that, and struck off when the journal keeps it: a crash in between publishes it after the restart.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from evedge.core.commands import ENDS, Command, CommandResult, Step
from evedge.core.desired import Desired
from evedge.core.errors import Outage
from evedge.core.histogram import Histogram
from evedge.core.life import CommandChange, PendingResult
from evedge.core.model import Value
from evedge.core.times import to_rfc3339
from evedge.flows.clock import Clock

BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""From a write that is read back at once to one that waits for a device to come back."""


class Store(Protocol):
    """What survives a restart."""

    def record(
        self,
        changes: Sequence[CommandChange],
        results: Sequence[PendingResult],
        desired: Sequence[tuple[str, Desired]] = (),
    ) -> asyncio.Future[None]: ...

    def results_kept(self, marks: Sequence[str]) -> None: ...

    async def pending_results(self) -> list[PendingResult]: ...


class Results(Protocol):
    """Where results are told. The future resolves when the result is kept; None: at once."""

    def result(self, result: CommandResult, now_ms: int) -> asyncio.Future[None] | None: ...


@dataclass(frozen=True, slots=True)
class Told:
    """A step to record and tell. `final` None: as the step says by itself. `intent`: a write is about to be made."""

    step: Step
    id: str
    action: str
    recharge_point: str | None
    forget_at_ms: int
    final: bool | None = None
    reason: str | None = None
    details: Mapping[str, Value] = field(default_factory=dict)
    command: Command | None = None
    intent: bool = False

    @property
    def ends(self) -> bool:
        return self.step in ENDS if self.final is None else self.final


class Lives:
    """Records steps. `counts` is what `evedge_commands_total` shows: (action, state) to how often.

    seconds: how long commands took from their acceptance to their end, those that this process accepted.
    """

    def __init__(self, store: Store, results: Results, *, gateway: str, clock: Clock) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.seconds = Histogram(BUCKETS_S)
        self._accepted_s: dict[str, float] = {}  # bounded: an accepted command ends
        self._store = store
        self._results = results
        self._gateway = gateway
        self._clock = clock

    async def tell(self, steps: Sequence[Told], desired: Sequence[tuple[str, Desired]] = ()) -> None:
        """Record the steps with the desired states that they changed, then publish a result for each."""
        now_ms = self._clock.wall_ms()
        results: list[tuple[str, CommandResult]] = []
        changes: list[CommandChange] = []
        for told in steps:
            result = CommandResult(
                id=told.id,
                gateway=self._gateway,
                recharge_point=told.recharge_point,
                action=told.action,
                state=told.step,
                final=told.ends,
                at=to_rfc3339(now_ms),
                reason=told.reason,
                details=dict(told.details),
            )
            outside = told.step in {Step.DUPLICATE, Step.LAPSED}
            results.append((_mark(told, now_ms if outside else None), result))
            if not outside:
                changes.append(
                    CommandChange(
                        id=told.id,
                        forget_at_ms=told.forget_at_ms,
                        recharge_point=told.recharge_point,
                        step=told.step,
                        final=told.ends,
                        intent=told.intent,
                        command=told.command,
                    )
                )
            self._count(told)
        await self._store.record(
            changes, [PendingResult(mark, msgspec.json.encode(result)) for mark, result in results], desired
        )
        for mark, result in results:
            self._publish(mark, result)

    async def save(self, changes: Sequence[CommandChange], desired: Sequence[tuple[str, Desired]] = ()) -> None:
        """Record what is nobody's news: an intent, or a desired state that changed by itself."""
        await self._store.record(changes, (), desired)

    def keep(self, changes: Sequence[CommandChange]) -> asyncio.Future[None]:
        """Record steps that somebody else tells. The future resolves when they are on disk."""
        return self._store.record(changes, ())

    async def publish_pending(self) -> None:
        """After a start: publish the results that the last run recorded and may not have published."""
        for pending in await self._store.pending_results():
            self._publish(pending.mark, msgspec.json.decode(pending.result, type=CommandResult))

    def _publish(self, mark: str, result: CommandResult) -> None:
        kept = self._results.result(result, self._clock.wall_ms())
        if kept is None:
            self._strike_off(mark)
            return

        def struck_off(kept: asyncio.Future[None]) -> None:
            if not kept.cancelled() and kept.exception() is None:
                self._strike_off(mark)

        kept.add_done_callback(struck_off)

    def _strike_off(self, mark: str) -> None:
        with contextlib.suppress(Outage):  # the store is closed: the next start publishes it again
            self._store.results_kept([mark])

    def count(self, action: str, step: Step) -> None:
        """One more of these steps."""
        key = (action, str(step))
        if key not in self.counts and len(self.counts) >= 1000:
            key = ("other", str(step))  # actions are other people's words
        self.counts[key] = self.counts.get(key, 0) + 1

    def _count(self, told: Told) -> None:
        self.count(told.action, told.step)
        if told.step is Step.ACCEPTED:
            self._accepted_s[told.id] = self._clock.monotonic_s()
        elif told.ends and (accepted_s := self._accepted_s.pop(told.id, None)) is not None:
            self.seconds.observe(self._clock.monotonic_s() - accepted_s)


def _mark(told: Told, at_ms: int | None) -> str:
    """A name for one result. A step can be told twice, the second time as the end; `at_ms` for those that can recur."""
    return f"{told.id}/{told.step}{'/final' if told.ends else ''}{'' if at_ms is None else f'/{at_ms}'}"
