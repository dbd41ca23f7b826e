"""Modbus TCP on the server's side: bytes to requests, answers to bytes. Pure, without sockets or registers.

Written from the Modbus specifications (application protocol V1.1b3, messaging on TCP/IP V1.0b) rather than on
pymodbus' classes. Its server answers only the first of several pipelined frames, and its decoder swallows a request
with a bad count where the standard asks for exception 3. And a peer that shares no code with the client under test
finds mistakes that both would make the same way.

Invariants: `split` never keeps more than one incomplete frame (260 bytes); `parse` returns a request whose count and
payload agree, or raises the exception a device would answer with.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from evedge.core.errors import EvedgeError

_HEADER = struct.Struct(">HHHB")
_TWO = struct.Struct(">HH")
_MAX_LENGTH = 254  # unit id and a PDU of at most 253 bytes
_MAX_WORDS_READ = 125
_MAX_WORDS_WRITTEN = 123
_MAX_BITS_READ = 2000
_MAX_BITS_WRITTEN = 1968
_COIL_ON = 0xFF00


class Exceptional(IntEnum):
    """Modbus exception codes a recharge point answers with."""

    FUNCTION = 1
    ADDRESS = 2
    VALUE = 3
    FAILURE = 4
    BUSY = 6


class ModbusRefusal(EvedgeError):  # noqa: N818 -- an answer, not a mistake of ours
    """The request gets an exception instead of an answer."""

    def __init__(self, code: Exceptional) -> None:
        super().__init__(f"modbus exception {code.value} ({code.name.lower()})")
        self.code = code


class NotModbus(EvedgeError):  # noqa: N818 -- it names what came, not a mistake of ours
    """What came on the socket cannot be Modbus TCP; there is no way to find the next frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One request's or answer's envelope."""

    transaction_id: int
    unit_id: int
    pdu: bytes

    def __bytes__(self) -> bytes:
        return _HEADER.pack(self.transaction_id, 0, len(self.pdu) + 1, self.unit_id) + self.pdu


@dataclass(frozen=True, slots=True)
class Read:
    """`table` is coil, discrete, holding or input."""

    function: int
    table: str
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """Words for the holding table; 0 and 1 for coils."""

    function: int
    table: str
    address: int
    words: tuple[int, ...]


Request = Read | Write


def split(buffer: bytearray) -> list[Frame]:
    """Take every whole frame off the front of the buffer and leave the rest. Raises NotModbus."""
    frames = []
    start = 0
    while len(buffer) - start >= _HEADER.size:
        transaction_id, protocol_id, length, unit_id = _HEADER.unpack_from(buffer, start)
        if protocol_id != 0 or not 2 <= length <= _MAX_LENGTH:
            raise NotModbus(f"not Modbus TCP: protocol {protocol_id}, length {length}")
        end = start + 6 + length
        if end > len(buffer):
            break
        frames.append(Frame(transaction_id, unit_id, bytes(buffer[start + 7 : end])))
        start = end
    del buffer[:start]
    return frames


_READS = {
    1: ("coil", _MAX_BITS_READ),
    2: ("discrete", _MAX_BITS_READ),
    3: ("holding", _MAX_WORDS_READ),
    4: ("input", _MAX_WORDS_READ),
}


def parse(pdu: bytes) -> Request:
    """A request's meaning. Raises ModbusRefusal: 1 for a function that is not spoken here, 3 for a bad count."""
    function, body = pdu[0], pdu[1:]
    if function in _READS:
        address, count = _pair(body, 4)
        table, most = _READS[function]
        if not 1 <= count <= most:
            raise ModbusRefusal(Exceptional.VALUE)
        _check_end(address, count)
        return Read(function, table, address, count)
    if function == 5:
        address, value = _pair(body, 4)
        if value not in {0, _COIL_ON}:
            raise ModbusRefusal(Exceptional.VALUE)
        return Write(function, "coil", address, (value and 1,))
    if function == 6:
        address, value = _pair(body, 4)
        return Write(function, "holding", address, (value,))
    if function in {15, 16}:
        return _parse_multiple(function, body)
    raise ModbusRefusal(Exceptional.FUNCTION)


def _parse_multiple(function: int, body: bytes) -> Write:
    address, count = _pair(body)
    bits = function == 15
    most = _MAX_BITS_WRITTEN if bits else _MAX_WORDS_WRITTEN
    size = (count + 7) // 8 if bits else 2 * count
    if not 1 <= count <= most or len(body) != 5 + size or body[4] != size:
        raise ModbusRefusal(Exceptional.VALUE)
    _check_end(address, count)
    if bits:
        return Write(function, "coil", address, tuple(body[5 + n // 8] >> n % 8 & 1 for n in range(count)))
    return Write(function, "holding", address, struct.unpack_from(f">{count}H", body, 5))


def _pair(body: bytes, size: int | None = None) -> tuple[int, int]:
    if len(body) < 4 or (size is not None and len(body) != size):
        raise ModbusRefusal(Exceptional.VALUE)
    first, second = _TWO.unpack_from(body)
    return first, second


def _check_end(address: int, count: int) -> None:
    if address + count > 0x10000:
        raise ModbusRefusal(Exceptional.ADDRESS)


def answer_read(request: Read, words: Sequence[int]) -> bytes:
    """The PDU that carries what was read: words, or 0 and 1 for bits."""
    if request.table in {"holding", "input"}:
        return struct.pack(f">BB{len(words)}H", request.function, 2 * len(words), *words)
    packed = bytearray((len(words) + 7) // 8)
    for n, bit in enumerate(words):
        packed[n // 8] |= bit << n % 8
    return bytes((request.function, len(packed), *packed))


def answer_write(pdu: bytes) -> bytes:
    """The PDU that acknowledges a write: function, address, and value or count, as they came."""
    return pdu[:5]


def answer_refusal(pdu: bytes, code: Exceptional) -> bytes:
    """The PDU of an exception. (A function above 0x7F is answered as it came: there is no bit left to set.)"""
    return bytes((pdu[0] | 0x80, code))
