"""A socket with manners, below MQTT: writes gathered, reading paused for several reasons at once, an end that ends.

Knows bytes and time, no frames. `mqtt_connection` builds on it.

Invariants:
- What one turn of the event loop has to say goes out in one write, in order; `writable` is false while the peer takes
  its bytes too slowly.
- The socket is read while nothing holds it.
- `_end` runs once, however the socket ends; a closed socket is gone within `CLOSE_S`, whatever the peer does.
"""

from __future__ import annotations

import asyncio
from enum import Flag, auto
from typing import cast

from evedge.links.mqtt_listen import watch_peer

HIGH_WATER = 65_536
"""Bytes on their way to one peer beyond which it is not writable."""
MAX_UNREAD = 262_144
"""Bytes on their way to one peer beyond which it is not read either: it talks, and does not listen."""
CLOSE_S = 3.0


class Hold(Flag):
    """Why a socket is not read at present."""

    LOGIN = auto()
    FLOW = auto()
    OUTPUT = auto()
    STOP = auto()
    TURN = auto()


class Socket(asyncio.Protocol):
    """One accepted socket."""

    def __init__(self) -> None:
        self.writable = True
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._holds = Hold(0)
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._ended = False
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None  # one at a time: for CONNECT, for keep-alive, for the end

    @property
    def peer(self) -> str:
        """`host:port` of the other side."""
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        return f"{name[0]}:{name[1]}" if name else "unknown"

    @property
    def ended(self) -> bool:
        """Whether it is over, though bytes may still be on their way out."""
        return self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # a stream's, though uvloop's is no subclass of it
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        watch_peer(transport)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.unhold(Hold.OUTPUT)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- a lost socket is lost
        self._end("lost")
        self._set_timer(None)

    def send(self, data: bytes) -> None:
        """Bytes for the peer, with the others of this turn of the event loop."""
        if self._ended:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes >= HIGH_WATER:
            self._flush()

    def hold(self, why: Hold) -> None:
        """Stop reading. What was read already still comes."""
        if not self._holds and not self._ended and self.transport is not None:
            self.transport.pause_reading()
        self._holds |= why

    def unhold(self, why: Hold) -> None:
        """Read on, where this was the last reason not to."""
        if why not in self._holds:
            return
        self._holds &= ~why
        if not self._holds and not self._ended and self.transport is not None:
            self._heard_at = self._loop.time()
            self.transport.resume_reading()

    def close(self, cause: str) -> None:
        """The end; what is on its way out is given some seconds. May be called twice."""
        if self._ended:
            return
        self._end(cause)
        self._flush()
        if self.transport is not None:
            self._set_timer(self._loop.call_later(CLOSE_S, self.transport.abort))
            self.transport.close()

    def abort(self) -> None:
        """The end, at once."""
        if self.transport is not None:
            self.transport.abort()

    def _hold_if_unread(self) -> None:
        """Does the peer take what it is sent?"""
        if self.transport is not None and self.transport.get_write_buffer_size() + self._out_bytes > MAX_UNREAD:
            self._flush()
            if not self.writable:
                self.hold(Hold.OUTPUT)

    def _flush(self) -> None:
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out = []
        self._out_bytes = 0
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def _end(self, cause: str) -> None:  # noqa: ARG002 -- theirs to report
        """For those who build on this: let go of everything. Called more than once; the first one counts."""
        self._ended = True

    def _set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer
