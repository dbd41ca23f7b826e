"""What the gateway's own socket is called and what can be asked there: for both ends, without either's imports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET_NAME = "control.sock"
"""In `state_dir`."""
STAT_PATH = "/journal/stat"
DEAD_LETTERS_PATH = "/journal/dead-letters"


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for a socket that `sun_path` holds (107 bytes), however deep its directory lies: by way of a descriptor.

    Raises OSError when the directory cannot be opened.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
