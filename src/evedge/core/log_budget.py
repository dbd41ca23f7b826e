"""Keeps a client from filling the log: so many lines per minute and key, and a count of those left out.

Knows no clock: `now` is in seconds of any clock that does not go back.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Window:
    began: float
    written: int = 0
    left_out: int = 0


class LogBudget:
    """Invariant: at most `max_keys` keys are remembered; the one longest unheard goes first."""

    def __init__(self, lines: int = 5, window_s: float = 60.0, max_keys: int = 1000) -> None:
        self._lines = lines
        self._window_s = window_s
        self._max_keys = max_keys
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def take(self, key: str, now: float) -> int | None:
        """None: leave this line out. Else write it, with the number of lines that were left out before it."""
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(began=now)
            if len(self._windows) > self._max_keys:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(key)
        if now - window.began >= self._window_s:
            window.began, window.written = now, 0
        if window.written >= self._lines:
            window.left_out += 1
            return None
        window.written += 1
        left_out, window.left_out = window.left_out, 0
        return left_out
