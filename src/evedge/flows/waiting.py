"""The commands that wait at one recharge point, and what is settled beneath them.

A command that ends well becomes part of what is settled; one that fails, expires or is superseded leaves nothing
behind, so that what held before holds again. Every change is on disk before it is told.

Does not know the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from evedge.core import desired as wish
from evedge.core.commands import Command, Step
from evedge.core.desired import Bounds, Desired, OnLapse
from evedge.core.life import CommandChange, OpenCommand, supersedes
from evedge.core.model import Value
from evedge.flows.lives import Lives, Told


@dataclass(slots=True)
class Open:
    """A command that has not ended. `intent`: its write was about to be made, or was made."""

    command: Command
    step: Step
    intent: bool


class WaitingCommands:
    """One recharge point's, in the order of their acceptance."""

    def __init__(
        self,
        recharge_point: str,
        lives: Lives,
        *,
        forget_after_ms: int,
        settled: Desired,
        opened: Sequence[OpenCommand],
    ) -> None:
        self.settled = settled
        self._recharge_point = recharge_point
        self._lives = lives
        self._forget_after_ms = forget_after_ms
        in_order = sorted(opened, key=lambda one: one.command.accepted_at_ms or 0)
        self._open = {one.command.id: Open(one.command, one.step, one.intent) for one in in_order}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, one: Open) -> bool:
        return one.command.id in self._open

    # Looking.

    def all(self) -> list[Open]:
        return list(self._open.values())

    def cut(self) -> list[Open]:
        """Those whose write was begun, and is not under way any more when this is asked between two rounds."""
        return [one for one in self._open.values() if one.intent]

    def late(self, now_ms: int) -> list[Open]:
        """Those that were not written and may not be any more."""
        return [one for one in self._open.values() if not one.intent and one.command.write_before_ms <= now_ms]

    def next_end_ms(self) -> int | None:
        """When the next lease ends, or the next command that was not written expires; None: neither."""
        ends = [one.command.write_before_ms for one in self._open.values() if not one.intent]
        lease = wish.next_end_ms(self.settled)
        return min([*ends, *([] if lease is None else [lease])], default=None)

    def desired(self, commands: Iterable[Open] | None = None) -> Desired:
        """What is settled with what these (by default all) ask for on top of it."""
        chosen = self._open.values() if commands is None else commands
        return wish.apply_all(self.settled, (one.command for one in chosen))

    # Changing. Each is on disk when it returns.

    async def accept(self, command: Command, now_ms: int, *, limit_before_a: float | None) -> None:
        """One more, in the place of those it supersedes."""
        command = msgspec.structs.replace(command, accepted_at_ms=now_ms)
        replaced = [one for one in self._open.values() if supersedes(command, one.command)]
        for one in replaced:
            del self._open[one.command.id]
        self._open[command.id] = Open(command, Step.ACCEPTED, intent=False)
        self.settled = wish.remember(self.settled, limit_before_a)
        reason = f"{command.action} {command.id} came first"
        await self._lives.tell(
            [
                self._told(command, Step.ACCEPTED),
                *(self._told(one.command, Step.SUPERSEDED, reason=reason) for one in replaced),
            ],
            [(self._recharge_point, self.settled)],
        )

    async def save_intent(self, commands: Sequence[Open]) -> None:
        """Their write is about to be made."""
        changes = [
            CommandChange(
                id=one.command.id,
                forget_at_ms=self._forget_at_ms(one.command),
                recharge_point=self._recharge_point,
                step=one.step,
                final=False,
                intent=True,
                command=one.command,
            )
            for one in commands
            if one in self
        ]
        await self._lives.save(changes)

    async def step(self, commands: Sequence[Open], step: Step) -> None:
        """They came on, and are not at their end."""
        still = [one for one in commands if one in self]
        for one in still:
            one.step = step
        await self._lives.tell([self._told(one.command, step, final=False, intent=True) for one in still])

    async def end(
        self,
        commands: Sequence[Open],
        step: Step,
        reason: Callable[[Command], str | None],
        *,
        details: Mapping[str, Value] | None = None,
        settle: bool = False,
    ) -> None:
        """End those that were not superseded meanwhile. settle: what they ask for holds from now on."""
        still = [one for one in commands if self._open.pop(one.command.id, None) is not None]
        if not still:
            return
        if settle:
            self.settled = self.desired(still)
        told = [self._told(one.command, step, final=True, reason=reason(one.command), details=details) for one in still]
        await self._lives.tell(told, [(self._recharge_point, self.settled)] if settle else ())

    async def lapse(self, bounds: Bounds, now_ms: int) -> bool:
        """End the leases that ran out. Whether there were any."""
        before = self.settled
        settled, lapsed = wish.lapse(before, bounds, now_ms)
        if not lapsed:
            return False
        self.settled = settled
        actions = {hold.command_id: hold.action for hold in before.holds()}
        target = wish.target(self.desired(), bounds)
        why = target.why if target is not None else "nothing to restore"
        told = [self._lapsed(command_id, actions[command_id], follows, why) for command_id, follows in lapsed]
        await self._lives.tell(told, [(self._recharge_point, settled)])
        return True

    def _lapsed(self, command_id: str, action: str, follows: OnLapse, why: str) -> Told:
        reason = f"the lease ran out; on_lapse is {follows}: {why}"
        return Told(Step.LAPSED, command_id, action, self._recharge_point, 0, final=False, reason=reason)

    def _told(
        self,
        command: Command,
        step: Step,
        *,
        final: bool | None = None,
        reason: str | None = None,
        details: Mapping[str, Value] | None = None,
        intent: bool = False,
    ) -> Told:
        return Told(
            step,
            command.id,
            command.action,
            self._recharge_point,
            self._forget_at_ms(command),
            final=final,
            reason=reason,
            details=details or {},
            command=command,
            intent=intent,
        )

    def _forget_at_ms(self, command: Command) -> int:
        return command.expires_at_ms + self._forget_after_ms
