"""One Modbus TCP endpoint: one connection, one request at a time, and the device's manners.

pymodbus frames and decodes. What it leaves to its user is here: connecting (its own reconnecting is off, since whoever
polls knows better when to try again), seeing at once that a connection went away or that what came is not Modbus, the
pauses a device needs, and one translation of everything that can go wrong into `Outage` (try again later) and
`ModbusException` (the device answered, and said no).

Knows nothing of profiles, schedules or retries. Nothing is ever sent twice.

Invariants:
- A connection on which a request was left without its answer is thrown away, so a late answer meets nobody.
- Every wait has a deadline: `connect_timeout_s` or `timeout_s`, and the device's pauses.
- `close()` is immediate and may be called twice; the endpoint can be connected again after it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Self, cast

from pymodbus import ModbusException as PymodbusError
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu import bit_message as bits
from pymodbus.pdu import register_message as registers

from evedge.core.errors import Outage
from evedge.core.plan import Block
from evedge.core.profile import Table
from evedge.core.reading import ModbusException, NoAnswer

logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # what it would say in hex, our errors say in words

_READS: dict[Table, type[ModbusPDU]] = {
    Table.HOLDING: registers.ReadHoldingRegistersRequest,
    Table.INPUT: registers.ReadInputRegistersRequest,
    Table.COIL: bits.ReadCoilsRequest,
    Table.DISCRETE: bits.ReadDiscreteInputsRequest,
}
_BIT_READS = {1, 2}
_READ_FUNCTIONS = {1, 2, 3, 4}
_LONGEST_ADU = 254  # what the length field can say: unit id and a PDU of 253 bytes

_CONNECT_REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by the device",
    errno.EHOSTUNREACH: "no route to the device",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "no answer to the connection attempt",
}


class ModbusEndpoint:
    """A host and port that serve one or more unit ids. `async with` it, or call `connect` and `close`.

    connect_timeout_s, timeout_s: for a connection, for an answer. pause_between_requests_s: from an answer to the next
    request; pause_after_connect_s: from the connection to the first one.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_timeout_s: float = 3.0,
        timeout_s: float = 3.0,
        pause_between_requests_s: float = 0.0,
        pause_after_connect_s: float = 0.0,
    ) -> None:
        self.host = host
        self.port = port
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._pause_between_requests_s = pause_between_requests_s
        self._pause_after_connect_s = pause_after_connect_s
        self._connection: _Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._quiet_until = 0.0

    @property
    def connected(self) -> bool:
        """Whether there is a connection that a request can go on. False as soon as the device closes it."""
        return self._connection is not None and self._connection.alive

    async def connect(self) -> None:
        """Opens a new connection in place of any old one. Raises Outage."""
        async with self._one_at_a_time:
            self.close()
            connection = _Connection(self.host, self.port, self._timeout_s)
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    await connection.open()
            except TimeoutError:
                raise NoAnswer(f"no connection within {self._connect_timeout_s:g} s") from None
            except OSError as error:
                raise Outage(_connect_reason(error, self.host)) from error
            self._connection = connection
            self._quiet_until = asyncio.get_running_loop().time() + self._pause_after_connect_s

    def close(self) -> None:
        """Drops the connection now; a request that is under way fails with Outage."""
        if self._connection is not None:
            self._connection.close("connection closed")
            self._connection = None

    async def read(self, block: Block) -> Sequence[int]:
        """The block's words (for coils and discrete inputs: 0 or 1 each). Raises Outage or ModbusException."""
        request = _READS[block.table](address=block.address, count=block.count, dev_id=block.unit_id)
        response = await self._execute(request)
        if request.function_code in _BIT_READS:
            return [int(bit) for bit in response.bits[: block.count]]
        return response.registers

    async def write(self, unit_id: int, function: int, address: int, words: Sequence[int]) -> None:
        """Writes with function code 5, 6, 15 or 16 (coils: one word each, 0 is off). Raises Outage or ModbusException.

        After an Outage nobody knows whether the device took the write: read back before writing again.
        """
        request: ModbusPDU
        if function == registers.WriteMultipleRegistersRequest.function_code:
            request = registers.WriteMultipleRegistersRequest(address=address, registers=words, dev_id=unit_id)
        elif function == registers.WriteSingleRegisterRequest.function_code and len(words) == 1:
            request = registers.WriteSingleRegisterRequest(address=address, registers=words, dev_id=unit_id)
        elif function == bits.WriteMultipleCoilsRequest.function_code:
            request = bits.WriteMultipleCoilsRequest(address=address, bits=[bool(w) for w in words], dev_id=unit_id)
        elif function == bits.WriteSingleCoilRequest.function_code and len(words) == 1:
            request = bits.WriteSingleCoilRequest(address=address, bits=[bool(words[0])], dev_id=unit_id)
        else:
            raise ValueError(f"function code {function} does not write {len(words)} words")
        await self._execute(request)

    async def _execute(self, request: ModbusPDU) -> ModbusPDU:
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:
            if (pause := self._quiet_until - loop.time()) > 0:
                await asyncio.sleep(pause)
            connection = self._connection
            if connection is None:
                raise Outage("not connected")
            try:
                response = await connection.execute(request)
            except (
                BaseException
            ):  # whatever it was, cancellation too: the answer may still come, so it must meet nobody
                connection.close("connection closed")
                raise
            self._quiet_until = loop.time() + self._pause_between_requests_s
        if response.isError():
            raise ModbusException(response.exception_code)
        return response

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ModbusEndpoint {self.host}:{self.port}, {'connected' if self.connected else 'not connected'}>"


class _Connection:
    """One TCP connection, used until the first thing goes wrong on it. pymodbus' client lives exactly as long."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._client = AsyncModbusTcpClient(
            host,
            port=port,
            timeout=timeout_s,
            retries=0,  # a repeated write is a second write
            reconnect_delay=0,
            trace_packet=self._packet,
            trace_connect=self._connect_changed,
        )
        self._timeout_s = timeout_s
        self._sent = b""
        self._strays = 0
        self._broken: str | None = None  # why this connection is of no use any more
        self.alive = False

    async def open(self) -> None:
        """Raises OSError. pymodbus' own `connect` keeps the reason for itself, so its protocol is connected here."""
        params = self._client.comm_params
        await asyncio.get_running_loop().create_connection(lambda: self._client.ctx, params.host, params.port)
        self.alive = True

    async def execute(self, request: ModbusPDU) -> ModbusPDU:
        if not self.alive:
            raise Outage(self._broken or "not connected")
        self._strays = 0
        try:
            return await _cancellable(self._client.execute(no_response_expected=False, request=request))
        except ModbusIOException:
            but = ", only answers to other requests" if self._strays else ""
            raise NoAnswer(f"no answer within {self._timeout_s:g} s{but}") from None
        except PymodbusError as error:
            raise Outage(self._broken or str(error)) from error
        finally:
            self._sent = b""

    def close(self, reason: str) -> None:
        if not self.alive:
            return
        self.alive = False
        self._broken = reason
        transport = cast(asyncio.Transport | None, self._client.ctx.transport)
        self._client.close()
        if transport is not None:
            transport.abort()  # nothing is worth sending any more; a close would wait for a dead peer to take it
        self._fail_request(reason)

    def _connect_changed(self, connected: bool) -> None:
        """Called by pymodbus when a connection is made and when the other side ends it (not for our own close)."""
        if not connected:
            self.alive = False
            self._broken = self._broken or "the device closed the connection"
            self._fail_request(self._broken)

    def _packet(self, sending: bool, data: bytes) -> bytes:
        """Every packet passes here: each request, and all bytes since it as they gather.

        What pymodbus is given back, it decodes. It would wait out the time-out on garbage, or raise inside the event
        loop where nobody can catch it; so it is given answers that it can decode, or nothing.
        """
        if sending:
            self._sent = data
            return data
        if not self._sent:
            return b""  # nobody asked; dropped with the next request
        problem, self._strays = _inspect(data, self._sent)
        if problem is None:
            return data
        self.close(problem)
        return b""

    def _fail_request(self, reason: str) -> None:
        """Left to itself, a request on a lost connection waits for its time-out."""
        waiting = self._client.ctx.response_future
        if self._sent and not waiting.done():
            waiting.set_exception(Outage(reason))


async def _cancellable(call: Awaitable[ModbusPDU]) -> ModbusPDU:
    """Its answers are waited for with `wait_for`, which on Python 3.11 loses a cancellation that comes in the moment of
    the answer (python/cpython issue 86296): the poller would go on polling while everybody waits for its end.
    """
    task = asyncio.current_task()
    cancelling = task.cancelling() if task is not None else 0
    try:
        return await call
    finally:
        if task is not None and task.cancelling() > cancelling:
            raise asyncio.CancelledError


def _inspect(received: bytes, request: bytes) -> tuple[str | None, int]:
    """Why these bytes cannot be the answer to a request (None: they may be), and how many whole answers to other
    requests came before. Both sides are Modbus TCP frames: transaction id, protocol id 0, length, unit id, PDU.
    """
    strays = 0
    at = 0
    while len(received) - at >= 4:
        if received[at + 2 : at + 4] != b"\0\0":
            return "the answer is not Modbus", strays
        if len(received) - at < 8:
            break
        length = int.from_bytes(received[at + 4 : at + 6], "big")
        if not 2 <= length <= _LONGEST_ADU:
            return "the answer is not Modbus", strays
        transaction = received[at : at + 2]
        if transaction not in (request[:2], b"\0\0") or (request[6] and received[at + 6] != request[6]):  # 0: pymodbus
            if len(received) - at < length + 6:
                break
            strays += 1
            at += length + 6
            continue
        return _answer_problem(received[at + 6 :], length, request[7:]), strays
    return None, strays


def _answer_problem(received: bytes, length: int, asked: bytes) -> str | None:
    """As `_inspect`, for what follows the length field, and the PDU that was asked with."""
    function = received[1]
    if function & 0x7F != asked[0]:
        return f"the answer is to function {function & 0x7F}, asked was {asked[0]}"
    if function & 0x80:
        usual = length == 3 or (length == 2 and len(received) == 3)  # some devices miscount; pymodbus bears with them
        return None if usual else "the answer is not Modbus"
    if asked[0] not in _READ_FUNCTIONS:
        return None if length == 6 else "the answer is not Modbus"
    count = int.from_bytes(asked[3:5], "big")
    size = (count + 7) // 8 if asked[0] in _BIT_READS else count * 2
    if length != size + 3 or (len(received) > 2 and received[2] != size):
        return f"the answer has another size than the {count} values asked for"
    return None


def _connect_reason(error: OSError, host: str) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name {host} is unknown"
    number = error.errno
    if number is None and (found := re.search(r"\[Errno (\d+)\]", str(error))):
        number = int(found[1])  # a name with several addresses: asyncio joins the texts and drops the numbers
    if number is None:
        return str(error) or type(error).__name__
    return _CONNECT_REASONS.get(number, os.strerror(number).lower())
