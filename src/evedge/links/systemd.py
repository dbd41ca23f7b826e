"""What systemd is told: ready, reloading, stopping, and that the watchdog may stay calm. See sd_notify(3).

Without `NOTIFY_SOCKET` nothing is sent. A message that cannot be sent is no reason to stop.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import structlog

log = structlog.get_logger()

USEC = 1_000_000


class Systemd:
    """`environ` is the process environment, which systemd set."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ)
        """The time without a sign of life after which systemd restarts the process; None: it does not watch."""

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """`ready` follows. Not `stopping`: systemd would count the time to the end, and kill what came after."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.connect(address)
                sender.send(message.encode())
        except OSError as error:
            log.warning("systemd_unreachable", error=str(error))


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID") not in {None, str(os.getpid())}:
        return None
    try:
        return int(environ["WATCHDOG_USEC"]) / USEC
    except (KeyError, ValueError):
        return None
