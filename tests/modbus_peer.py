"""A Modbus TCP peer for tests, as rude as the real ones: it does with each request what its `behave` says."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    transaction: int
    unit_id: int
    pdu: bytes

    @property
    def function(self):
        return self.pdu[0]

    @property
    def address(self):
        return int.from_bytes(self.pdu[1:3], "big")

    @property
    def count(self):
        return int.from_bytes(self.pdu[3:5], "big")

    def answer(self, pdu, *, transaction=None, unit_id=None):
        transaction = self.transaction if transaction is None else transaction
        unit_id = self.unit_id if unit_id is None else unit_id
        return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit_id) + pdu

    def words(self, words):
        """An answer with these registers, or what this request wrote when it was a write."""
        if self.function in {5, 6, 15, 16}:
            return self.answer(self.pdu[:5])
        data = b"".join(word.to_bytes(2, "big") for word in words)
        return self.answer(bytes([self.function, len(data)]) + data)

    def exception(self, code):
        return self.answer(bytes([self.function | 0x80, code]))


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


async def counting(request, writer):
    """Answers register n with n, and takes every write."""
    writer.write(request.words(range(request.address, request.address + request.count)))


async def silent(request, writer):
    """Takes requests and says nothing."""


class Peer:
    """`async with Peer(behave) as peer:` listens on `peer.port`; `peer.requests` are what came, in order."""

    def __init__(self, behave: Behaviour = counting, *, port: int = 0):
        self.behave = behave
        self.port = port
        self.requests: list[Request] = []
        self.connections = 0
        self.closed = asyncio.Event()  # set when a connection ended
        self.asked = asyncio.Event()  # set when a request came
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()

    def hang_up(self):
        """Cuts every connection there is."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                header = await reader.readexactly(7)
                transaction, _, length, unit_id = struct.unpack(">HHHB", header)
                request = Request(transaction, unit_id, await reader.readexactly(length - 1))
                self.requests.append(request)
                self.asked.set()
                await self.behave(request, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            self.closed.set()
            writer.close()
