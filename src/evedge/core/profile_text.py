"""Text in registers: the ways devices pack characters, and the ways they write versions, times and numbers as text.

Each format is a pair of functions, bytes to text and text to bytes of the register's length, big-endian as they stood
on the wire. A format refuses text it cannot hold with a ValueError of one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from evedge.core.model import Value
from evedge.core.profile_number import Convert, Raw

CHARACTERS = ("packed", "utf16", "low_byte")
"""How a string sits in its registers: two characters each, one UTF-16 character each, one character in the low byte."""


def decode_characters(data: bytes, style: str) -> str:
    """Up to the first NUL, without the padding around it (some devices pad on the left). "" when there is nothing."""
    if style == "utf16":
        text = data.decode("utf-16-be", errors="replace")
    elif style == "low_byte":
        text = data[1::2].decode("latin-1")
    else:
        text = data.decode("utf-8", errors="replace")
    text = text.split("\0", 1)[0].strip()
    return "".join(character for character in text if character.isprintable())


def encode_characters(text: str, size: int, style: str) -> bytes:
    """`size` bytes, padded with NUL. Raises ValueError for text that is too long or not of this style."""
    try:
        if style == "utf16":
            data = text.encode("utf-16-be")
        elif style == "low_byte":
            data = b"".join(b"\0" + bytes((byte,)) for byte in text.encode("latin-1"))
        else:
            data = text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} has characters this register cannot hold") from None
    if len(data) > size:
        raise ValueError(f"{text!r} is longer than the register's {size} bytes")
    return data.ljust(size, b"\0")


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write bytes as text, both directions. `encode` takes the number of bytes to fill."""

    decode: Callable[[bytes], str]
    encode: Callable[[str, int], bytes]


def _digits(text: str, base: int = 10) -> int:
    allowed = r"[0-9]+" if base == 10 else r"[0-9A-Fa-f]+"
    if not re.fullmatch(allowed, text):
        raise ValueError(f"{text!r} holds something else than digits")
    return int(text, base)


def _number_bytes(number: int, size: int, text: str) -> bytes:
    try:
        return number.to_bytes(size, "big")
    except OverflowError:
        raise ValueError(f"{text!r} does not fit into {size} bytes") from None


def _from_decimal(data: bytes) -> str:
    return str(int.from_bytes(data, "big"))


def _to_decimal(text: str, size: int) -> bytes:
    return _number_bytes(_digits(text), size, text)


def _to_hex(text: str, size: int) -> bytes:
    if len(text) != 2 * size:
        raise ValueError(f"{text!r} must be {2 * size} hexadecimal digits")
    return _number_bytes(_digits(text, 16), size, text)


def _dotted(width: int, base: int) -> Format:
    """A version of equal parts, `width` bytes each, decimal or (base 16, as BCD) by its hexadecimal digits."""

    def decode(data: bytes) -> str:
        parts = [int.from_bytes(data[start : start + width], "big") for start in range(0, len(data), width)]
        return ".".join(f"{part:x}" if base == 16 else str(part) for part in parts)

    def encode(text: str, size: int) -> bytes:
        parts = text.split(".")
        if len(parts) * width != size:
            raise ValueError(f"{text!r} must have {size // width} parts between dots")
        return b"".join(_number_bytes(_digits(part, base), width, text) for part in parts)

    return Format(decode, encode)


def _from_nibbles(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    return f"{number >> 8}.{number >> 4 & 15}.{number & 15}"


def _to_nibbles(text: str, size: int) -> bytes:
    parts = [_digits(part) for part in text.split(".")]
    if len(parts) != 3 or parts[1] > 15 or parts[2] > 15:
        raise ValueError(f"{text!r} must be three parts between dots, the last two at most 15")
    return _number_bytes(parts[0] << 8 | parts[1] << 4 | parts[2], size, text)


def _from_pairs(separator: str, *, pad: bool) -> Format:
    """A decimal number whose digits are read in pairs: 10203 is 1.2.3, 73005 is 07:30:05."""

    def decode(data: bytes) -> str:
        number = int.from_bytes(data, "big")
        parts = (number // 10_000, number // 100 % 100, number % 100)
        return separator.join(f"{part:02d}" if pad else str(part) for part in parts)

    def encode(text: str, size: int) -> bytes:
        parts = [_digits(part) for part in text.split(separator)]
        if len(parts) != 3 or parts[1] > 99 or parts[2] > 99:
            raise ValueError(f"{text!r} must be three parts, each of two digits, with {separator!r} between")
        return _number_bytes(parts[0] * 10_000 + parts[1] * 100 + parts[2], size, text)

    return Format(decode, encode)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "decimal": Format(_from_decimal, _to_decimal),  # a serial number that is a number
        "hex": Format(lambda data: data.hex().upper(), _to_hex),  # a card's UID
        "version_bytes": _dotted(1, 10),  # 01 02 13 is 1.2.19
        "version_bcd": _dotted(1, 16),  # 01 02 13 is 1.2.13
        "version_words": _dotted(2, 10),  # one register a part
        "version_nibbles": Format(_from_nibbles, _to_nibbles),  # 0x0108 is 1.0.8
        "version_pairs": _from_pairs(".", pad=False),  # decimal 10203 is 1.2.3
        "hhmmss": _from_pairs(":", pad=True),  # decimal 73005 is 07:30:05
        "yymmdd": _from_pairs("-", pad=True),  # decimal 261123 is 26-11-23
    }
)
"""How a number or bytes are given as text. The first comment of each shows what it makes of what."""


def text_converter(style: str, prefix: str) -> Convert:
    """From a string's bytes to its text; None when there is none."""

    def convert(raw: Raw) -> Value | None:
        return decode_characters(cast("bytes", raw), style).removeprefix(prefix).strip() or None

    return convert


def format_converter(name: str, size: int, *, parts: int | None, na: Collection[float]) -> Convert:
    """From a number or bytes, `size` of them, to the text a format makes of it; `parts` of a version are kept."""
    decode, missing = FORMATS[name].decode, frozenset(na)

    def convert(raw: Raw) -> Value | None:
        if raw in missing:
            return None
        text = decode(raw if isinstance(raw, bytes) else int(raw).to_bytes(size, "big"))
        return text if parts is None else ".".join(text.split(".")[:parts])

    return convert
