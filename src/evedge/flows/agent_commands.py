"""Passes commands on to agents, and follows what becomes of them.

An agent may use a clean session, so nothing is left to MQTT's memory: a command is published now, again whenever its
agent subscribes, and every few seconds until the first result comes back or it expires. The agent removes duplicates by
id and tells every step, `accepted` too; its results go to Kafka as they are.

Knows nothing of sockets or of what a command means.

Invariants:
- A command is on disk before it is published, and its offset is committed after that.
- Exactly one final result of a command goes to Kafka: the agent's; or, where the agent said nothing in time or never
  will, one of ours. What comes after it is dropped and counted, a final that the agent sends a second time too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog
from msgspec.structs import replace

from evedge.core.commands import Command, CommandResult, Step, encode_command
from evedge.core.life import CommandChange, OpenCommand, supersedes
from evedge.core.topics import Leaf, OwnTopics, matches
from evedge.flows.clock import Clock
from evedge.flows.lives import Lives, Told

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
REPEAT_EVERY_S = 5.0
"""How long an agent has to answer until a command is published again."""
EXPIRY_GRACE_S = 5.0
"""How long beyond `expires_at` an answer may still be on its way: the agent ends what it takes too late by itself."""
MAX_ENDED = 20_000
"""Ids of ended commands that are remembered here, the youngest."""
UNANSWERED = "the agent did not answer before expires_at"
NEVER_ENDED = "the agent never told how it ended"
OVERTAKEN = "a newer command was taken first"


class Router(Protocol):
    """Hands a message to the local subscribers: the agent among them."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None: ...


@dataclass(slots=True)
class _Open:
    """answered: a result came back. published_s: when it was published last."""

    command: Command
    payload: bytes
    forget_at_ms: int
    answered: bool = False
    published_s: float = float("-inf")


class AgentCommands:
    """`run` is its task. `agents`: each agent's name and its recharge points. `opened`, `ended`: what is on disk."""

    def __init__(
        self,
        agents: Mapping[str, Iterable[str]],
        *,
        own: OwnTopics,
        router: Router,
        lives: Lives,
        clock: Clock,
        max_age_s: float,
        opened: Sequence[OpenCommand] = (),
        ended: Iterable[str] = (),
    ) -> None:
        self.late_finals = 0
        """Finals that were dropped because the command had ended."""
        self._agent_of = {name: agent for agent, names in agents.items() for name in names}
        self._own = own
        self._router = router
        self._lives = lives
        self._clock = clock
        self._max_age_ms = round(max_age_s * 1000)
        self._open: dict[str, _Open] = {}  # in the order of their acceptance
        self._ended: dict[str, None] = dict.fromkeys(ended)
        self._ending: dict[str, asyncio.Future[None]] = {}  # ends that are not on disk yet
        for one in sorted(opened, key=lambda one: one.command.accepted_at_ms or 0):
            if one.command.recharge_point in self._agent_of:
                self._open[one.command.id] = self._opened(one.command, answered=one.intent)

    def __repr__(self) -> str:
        answered = sum(one.answered for one in self._open.values())
        return f"<AgentCommands {len(self._open)} open, {answered} answered, {self.late_finals} late finals>"

    # What the commander asks.

    async def accept(self, command: Command) -> None:
        """Keep it and pass it on. The agent tells that it is accepted."""
        # When it came orders the commands that a restart finds; the agent counts a lease from its own acceptance.
        one = self._opened(replace(command, accepted_at_ms=self._clock.wall_ms()), answered=False)
        await self._lives.keep([_change(one, Step.ACCEPTED)])
        self._open[command.id] = one
        self._publish(one)

    # What the broker tells.

    def subscribed(self, agent: str, topic_filter: str) -> None:
        """The agent is there: what it has not answered goes out again, the oldest first."""
        now_ms = self._clock.wall_ms()
        for one in self._open.values():
            if one.answered or now_ms >= one.command.expires_at_ms:
                continue
            if self._agent_of.get(one.command.recharge_point or "") == agent and matches(
                topic_filter, self._topic(one)
            ):
                self._publish(one)

    def heard(
        self, result: CommandResult, recharge_point: str
    ) -> tuple[bool, Callable[[], asyncio.Future[None]] | None]:
        """An agent told a step. False: it is not to be passed on. What is returned beside is to be called when the
        result is kept, and resolves when the command's new place is on disk: only then it may be acknowledged.
        """
        if result.final and result.id in self._ended:
            self.late_finals += 1
            ending = self._ending.get(result.id)
            log.warning(
                "result_dropped",
                id=result.id,
                recharge_point=recharge_point,
                state=str(result.state),
                reason="it ended",
            )
            return False, None if ending is None else lambda: ending
        self._lives.count(result.action, result.state)
        one = self._open.get(result.id)
        if one is not None and one.command.recharge_point != recharge_point:
            return True, None  # somebody else's id: not this recharge point's to end
        if result.final:
            return True, self._close(result, recharge_point, one)
        if one is None or one.answered:
            return True, None
        one.answered = True
        log.info("command_answered", id=result.id, recharge_point=recharge_point, state=str(result.state))
        return True, partial(self._lives.keep, [_change(one, result.state, intent=True)])

    # By the clock.

    async def run(self) -> None:
        """Publish again and end what has run out, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """One look at everything that is open."""
        now_ms, now_s = self._clock.wall_ms(), self._clock.monotonic_s()
        ends: list[Told] = []
        for one in list(self._open.values()):
            command = one.command
            if one.answered:
                if now_ms >= one.forget_at_ms:
                    ends.append(self._told(one, Step.FAILED, NEVER_ENDED))
            elif now_ms >= command.expires_at_ms + EXPIRY_GRACE_S * 1000:
                ends.append(self._told(one, Step.EXPIRED, UNANSWERED))
            elif self._is_overtaken(one):
                ends.append(self._told(one, Step.SUPERSEDED, OVERTAKEN))
            elif now_ms < command.expires_at_ms and now_s - one.published_s >= REPEAT_EVERY_S:
                self._publish(one)
        if ends:
            for told in ends:  # before the wait: a final that comes meanwhile is late
                self._end(told.id)
            await self._lives.tell(ends)

    # Inside.

    def _is_overtaken(self, older: _Open) -> bool:
        """Whether its agent took a newer one instead: executed now, it would undo that."""
        ids = list(self._open)
        return any(
            one.answered
            and one.command.recharge_point == older.command.recharge_point
            and supersedes(one.command, older.command)
            for one in (self._open[name] for name in ids[ids.index(older.command.id) + 1 :])
        )

    def _opened(self, command: Command, *, answered: bool) -> _Open:
        forget_at_ms = command.expires_at_ms + self._max_age_ms
        return _Open(command, encode_command(command), forget_at_ms, answered)

    def _topic(self, one: _Open) -> str:
        return self._own.recharge_point(one.command.recharge_point or "", Leaf.COMMAND)

    def _publish(self, one: _Open) -> None:
        one.published_s = self._clock.monotonic_s()
        self._router.publish(self._topic(one), one.payload, 1, False)
        log.debug("command_published", id=one.command.id, recharge_point=one.command.recharge_point)

    def _close(
        self, result: CommandResult, recharge_point: str, one: _Open | None
    ) -> Callable[[], asyncio.Future[None]]:
        if one is None:  # not given by us, or by a run whose memory was lost: once is enough all the same
            forget_at_ms = self._clock.wall_ms() + self._max_age_ms
            change = CommandChange(result.id, forget_at_ms, recharge_point, result.state, final=True)
        else:
            change = _change(one, result.state, intent=True, final=True)
        self._end(result.id)
        # The same final that comes again before this one is kept is not acknowledged earlier.
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending[result.id] = ending

        def kept(done: asyncio.Future[None]) -> None:
            del self._ending[result.id]
            if not done.cancelled() and done.exception() is None:
                ending.set_result(None)

        def keep() -> asyncio.Future[None]:
            done = self._lives.keep([change])
            done.add_done_callback(kept)
            return done

        return keep

    def _end(self, command_id: str) -> None:
        self._open.pop(command_id, None)
        self._ended[command_id] = None
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def _told(self, one: _Open, step: Step, reason: str) -> Told:
        command = one.command
        return Told(
            step,
            command.id,
            command.action,
            command.recharge_point,
            # Kept on: the agent may still tell its own end.
            forget_at_ms=max(one.forget_at_ms, self._clock.wall_ms() + self._max_age_ms),
            reason=reason,
            command=command,
        )


def _change(one: _Open, step: Step, *, intent: bool = False, final: bool = False) -> CommandChange:
    command = one.command
    return CommandChange(
        command.id,
        one.forget_at_ms,
        command.recharge_point,
        step,
        final=final,
        intent=intent,
        command=command,
    )
