"""What is known of a device that is kept at a target, and when it bears or wants the next write.

A device has a pace (seconds between writes, minutes between pauses), and some want to be told again and again what
holds. Others are only looked at now and then, as they may have restarted. Does not read or write, decides when.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from evedge.core.backoff import Backoff
from evedge.core.desired import Target
from evedge.core.profile import Failsafe, Limit, Write
from evedge.flows.clock import Clock

LOOK_EVERY_S = 30.0
"""How often a device is asked whether it still holds what it was told."""
NEVER_S = 3600.0


@dataclass(slots=True)
class Rhythm:
    """One device's. `applied` is what it was seen to hold; None: not known, or a write is under way."""

    limit: Limit
    failsafe: Failsafe | None
    clock: Clock
    applied: Target | None = None
    _written_s: float = -math.inf
    _paused_s: float = -math.inf
    _looked_s: float = -math.inf
    _not_before_s: float = -math.inf
    _backoff: Backoff = field(default_factory=lambda: Backoff(first_s=5.0, longest_s=300.0))

    # What happened.

    def wrote(self, target: Target) -> None:
        """A write towards the target was made; whether the device holds it is not known."""
        self.applied = None
        self._written_s = self.clock.monotonic_s()
        if target.pauses:
            self._paused_s = self._written_s

    def holds(self, target: Target) -> None:
        """The device was seen to hold the target."""
        self.applied = target
        self._looked_s = self.clock.monotonic_s()
        self._backoff.succeeded()

    def does_not_hold(self, chance: float) -> None:
        """The device answers, and will not be brought to the target: some devices bear a limited number of writes."""
        self.applied = None
        self._not_before_s = self.clock.monotonic_s() + self._backoff.failed(chance)

    def target_changed(self) -> None:
        """What failed before may be taken now."""
        self._not_before_s = -math.inf

    # What follows.

    def is_at(self, target: Target) -> bool:
        """Whether the device was seen to hold the target."""
        return self.applied is not None and self.applied.current_a == target.current_a

    def writes(self, target: Target, *, resumes: bool) -> tuple[Write, ...]:
        """What brings the device to the target. resumes: a command asks for it, whatever is known."""
        if target.current_a is None:
            return self.limit.pause_writes()
        if resumes or self.applied is None or self.applied.pauses:
            return self.limit.resume_writes(target.current_a)
        return self.limit.writes_for(target.current_a)

    def pace_s(self, target: Target) -> float:
        """Seconds until the device bears the next write."""
        pause_s = -math.inf if target.pauses else self._paused_s + self.limit.min_pause_interval_s
        return max(self._written_s + self.limit.min_write_interval_s, pause_s) - self.clock.monotonic_s()

    def refresh_s(self) -> float:
        """Seconds until the device wants to be told again what holds."""
        if self.failsafe is None or not self.failsafe.refreshed_by_limit or self.limit.wears_out:
            return NEVER_S
        interval_s = self.failsafe.refresh_interval_s()
        return NEVER_S if interval_s is None else self._written_s + interval_s - self.clock.monotonic_s()

    def upkeep_s(self, target: Target) -> float:
        """Seconds until the device is to be written to or looked at although no command waits."""
        now_s = self.clock.monotonic_s()
        due_s = min(self.refresh_s(), self._looked_s + LOOK_EVERY_S - now_s) if self.is_at(target) else 0.0
        return max(due_s, self._not_before_s - now_s)
