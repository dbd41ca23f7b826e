"""One evedge to a state directory: SQLite files must not be opened by two processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from evedge.core.errors import Refused


class StateLock:
    """A context manager: inside, this process alone works in the directory, which is made where it is missing.

    Raises Refused, in one line, when another process has it or the directory cannot be used.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "lock"
        self._file: int | None = None

    def __enter__(self) -> Self:
        directory = self._path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.geteuid() == 0:  # an administrator's `evedge journal` must not leave a file the service cannot open
                owner = directory.stat()
                os.fchown(file, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise Refused(f"gateway.state_dir {directory} cannot be used: {error.strerror or error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.read(file, 32).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise Refused(f"gateway.state_dir {directory} is used by another evedge (pid {pid})") from error
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let a third process lock a file that the second one still waits for.
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)
