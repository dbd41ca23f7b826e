"""What is kept of a command while it lives, and of its results on their way."""

from __future__ import annotations

from dataclasses import dataclass

from evedge.core.commands import Action, Command, Step


@dataclass(frozen=True, slots=True)
class OpenCommand:
    """A command that has not ended. `intent`: its write was about to be made, or was made."""

    command: Command
    step: Step
    intent: bool


@dataclass(frozen=True, slots=True)
class CommandChange:
    """A command's new place in its life. `forget_at_ms`: from when on its id cannot be taken again anyway."""

    id: str
    forget_at_ms: int
    recharge_point: str | None
    step: Step
    final: bool
    intent: bool = False
    command: Command | None = None


@dataclass(frozen=True, slots=True)
class PendingResult:
    """A result on its way into the journal; `mark` names it (command id and step)."""

    mark: str
    result: bytes


def supersedes(command: Command, older: Command) -> bool:
    """Whether a newer command makes an older one that has not ended pointless."""
    if command.action is Action.SET_CURRENT_LIMIT:
        return older.action is Action.SET_CURRENT_LIMIT and older.purpose is command.purpose
    return older.action in {Action.PAUSE, Action.RESUME}
