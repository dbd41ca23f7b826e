"""One Modbus TCP endpoint: sockets, frames, and the faults that a network or a worn device shows.

Knows nothing of registers: a frame goes to `answer`, what comes back is sent. It is an `asyncio.Protocol` of its own
and not pymodbus' server because pipelined frames must all be answered, because half of the faults live below the level
where that server lets one in, and because hundreds of endpoints share a process: one here is a listening socket and a
few small objects, no task.

Invariants: answers leave in the order of their requests, one request at a time; while an answer is owed (the slow
fault) or the peer does not read, the socket is not read, so that memory is bounded whatever a client sends.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from evedge.core.errors import EvedgeError
from evedge.simulator.faults import Fault
from evedge.simulator.wire import Exceptional, Frame, NotModbus, answer_refusal, split

Answer = Callable[[Frame], bytes | None]
"""A request's PDU answered; None where the device stays silent (another unit's request)."""

_SEAT_WAIT_S = 0.05  # a client that comes back at once may be seen before its old connection's end
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time: the peer gets RST, not FIN


@dataclass(slots=True)
class Requests:
    """What came and what became of it: received = answered + refused + unanswered, and one that is worked on."""

    received: int = 0
    answered: int = 0
    refused: int = 0
    unanswered: int = 0


class ModbusServer:
    """Listens between `start` and `close`. `faults` may be changed at any time and holds from the next request on."""

    def __init__(self, answer: Answer, *, max_connections: int | None = None, slow_s: float = 2.0) -> None:
        self.faults: set[Fault] = set()
        self.slow_s = slow_s
        self.requests = Requests()
        self.answer = answer
        self.connections: set[_Connection] = set()
        self.max_connections = max_connections
        self._server: asyncio.Server | None = None

    @property
    def is_full(self) -> bool:
        """Whether no further client may come."""
        return self.max_connections is not None and len(self.connections) >= self.max_connections

    @property
    def is_over_full(self) -> bool:
        """Whether a client that came last must go."""
        return self.max_connections is not None and len(self.connections) > self.max_connections

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (which the system chose if it was 0). Raises EvedgeError when that cannot be."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), host, port)
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            raise EvedgeError(f"cannot listen on {host}:{port}: {reason}") from error
        return cast("int", self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Cut every connection and stop listening. May be called twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self.disconnect()
        await server.wait_closed()
        await asyncio.sleep(0)  # before 3.12 that returns before the aborted sockets are gone

    def disconnect(self) -> None:
        """Cut every connection, as a restart of the device does."""
        for connection in list(self.connections):
            connection.reset()


class _Connection(asyncio.Protocol):
    """One client's socket."""

    def __init__(self, server: ModbusServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._frames: deque[Frame] = deque()
        self._transport: asyncio.Transport | None = None
        self._owed: asyncio.TimerHandle | None = None
        self._waits_for_seat: asyncio.TimerHandle | None = None
        self._peer_is_slow = False

    # -- what asyncio calls -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        full = self._server.is_full
        self._server.connections.add(self)
        if full:
            loop = asyncio.get_running_loop()
            self._waits_for_seat = loop.call_later(_SEAT_WAIT_S, self._take_seat)

    def _take_seat(self) -> None:
        self._waits_for_seat = None
        if self._server.is_over_full:
            self.reset()
        else:
            self._work()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- why it ended makes no difference
        self._server.connections.discard(self)
        self._forget()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._frames.extend(split(self._buffer))
        except NotModbus:
            self.reset()
            return
        self._work()

    def pause_writing(self) -> None:
        self._peer_is_slow = True

    def resume_writing(self) -> None:
        self._peer_is_slow = False
        self._work()

    # -- the requests, one after the other --------------------------------------------------------------------------

    def _work(self) -> None:
        """Answer what waits until an answer is owed or the peer does not read; then leave the socket alone."""
        while self._frames and self._is_free:
            frame = self._frames.popleft()
            self._server.requests.received += 1
            if Fault.SLOW in self._server.faults:
                loop = asyncio.get_running_loop()
                self._owed = loop.call_later(self._server.slow_s, self._answer_late, frame)
            else:
                self._answer(frame)
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_free:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    @property
    def _is_free(self) -> bool:
        """Whether the next request may be worked on."""
        busy = self._owed is not None or self._waits_for_seat is not None or self._peer_is_slow
        return self._transport is not None and not busy

    def _answer_late(self, frame: Frame) -> None:
        self._owed = None
        self._answer(frame)
        self._work()

    def _answer(self, frame: Frame) -> None:
        faults, requests = self._server.faults, self._server.requests
        if Fault.RESET in faults:
            requests.unanswered += 1
            self.reset()
        elif Fault.SILENT in faults:
            requests.unanswered += 1
        elif Fault.GARBAGE in faults:
            requests.unanswered += 1
            self._send(_garbage(frame))
        elif Fault.BUSY in faults:
            requests.refused += 1
            self._send(bytes(Frame(frame.transaction_id, frame.unit_id, answer_refusal(frame.pdu, Exceptional.BUSY))))
        elif (pdu := self._server.answer(frame)) is None:
            requests.unanswered += 1
        else:
            if pdu[0] & 0x80:
                requests.refused += 1
            else:
                requests.answered += 1
            self._send(bytes(Frame(frame.transaction_id, frame.unit_id, pdu)))

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def reset(self) -> None:
        """End the connection at once; the client's next read or write fails."""
        transport = self._transport
        self._server.connections.discard(self)
        self._forget()
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and not transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    def _forget(self) -> None:
        self._transport = None
        self._frames.clear()
        for timer in (self._owed, self._waits_for_seat):
            if timer is not None:
                timer.cancel()
        self._owed = self._waits_for_seat = None


def _garbage(frame: Frame) -> bytes:
    """Bytes as a mistuned serial converter sends them: never a Modbus TCP header, not the same each time."""
    noise = (frame.transaction_id * 40503 + 0x9E37) & 0xFFFF
    return bytes((noise >> shift ^ 17 * n) & 0xFF or 0xA5 for n, shift in enumerate((8, 0, 5, 3, 9, 1, 6, 2, 4, 7, 0)))
