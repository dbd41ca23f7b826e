"""What the gateway's own socket is called and what can be asked there: for both ends, without either's imports."""

from __future__ import annotations

SOCKET_NAME = "control.sock"
"""In `state_dir`."""
STAT_PATH = "/journal/stat"
DEAD_LETTERS_PATH = "/journal/dead-letters"
