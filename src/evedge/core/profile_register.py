"""One register of a profile: where it is, and what the words in it mean, both ways.

Words are what Modbus carries: integers of 16 bits from holding and input registers, 0 or 1 from coils and discrete
inputs. A value is a number in the register's unit, a truth value or text. Numbers that have a unit are always floats;
codes and counts are ints. `decode` gives None for what the device marks as not available, and for no other reason.
Knows nothing of connections, connectors or which registers are read together.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from evedge.core.measurands import IDENTITY, MEASURANDS, Kind, Measurand
from evedge.core.model import Value
from evedge.core.profile_text import FORMATS, decode_characters, encode_characters

Raw = int | float | bytes
"""A register's content before mask, scale and text: the number its type says, or its bytes."""


class Table(StrEnum):
    """The four address spaces of Modbus."""

    HOLDING = "holding"
    INPUT = "input"
    COIL = "coil"
    DISCRETE = "discrete"

    @property
    def is_bits(self) -> bool:
        """Whether an address holds one bit rather than 16."""
        return self in {Table.COIL, Table.DISCRETE}


class Group(StrEnum):
    """How often a register is read: every poll, once per connection, rarely. `WRITE`: never, it cannot be."""

    POLL = "poll"
    IDENTITY = "identity"
    CONFIG = "config"
    WRITE = "write"


class Scope(StrEnum):
    """Whether each connector has it or the device has it once (perhaps at a unit id of its own)."""

    CONNECTOR = "connector"
    STATION = "station"


NUMBERS: Mapping[str, tuple[str, int]] = {
    "uint16": ("H", 1),
    "int16": ("h", 1),
    "uint32": ("I", 2),
    "int32": ("i", 2),
    "uint64": ("Q", 4),
    "int64": ("q", 4),
    "float32": ("f", 2),
    "float64": ("d", 4),
}
"""Number types: their letter for `struct`, and how many registers they take."""

TYPES = (*NUMBERS, "string", "bytes", "bool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One quantity at one address (zero-based; of connector 1 where connectors are told apart by address).

    words: how many addresses it spans. scale: physical = raw x scale. na: raw numbers that mean "not available".
    mask and shift, or bit: the part of the number that is meant. minimum, maximum, step: what may be written, in the
    unit, and `also` what may be written besides (the 0 of "0 or 6 to 32 A"). parts: how many bytes of a version count,
    the rest are spare. readback: the register that shows what was
    written here, None where it cannot be read back; a register that can be read shows it itself unless self_clearing.
    """

    name: str
    table: Table
    address: int
    type: str
    words: int
    word_order: str = "big"
    byte_order: str = "big"
    scale: float = 1.0
    unit: str | None = None
    mask: int | None = None
    shift: int = 0
    bit: int | None = None
    enum: Mapping[int | str, str] = field(default_factory=dict)
    bits: Mapping[int, str] = field(default_factory=dict)
    na: tuple[float, ...] = ()
    characters: str = "packed"
    format: str | None = None
    parts: int | None = None
    prefix: str = ""
    readable: bool = True
    writable: bool = False
    write_fc: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    also: tuple[float, ...] = ()
    self_clearing: bool = False
    readback: str | None = None
    optional: bool = False
    group: Group = Group.CONFIG
    scope: Scope = Scope.CONNECTOR
    meaning: str = ""
    confidence: str = "medium"
    source: str = ""
    _convert: Callable[[Raw], Value | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_convert", self._converter())

    @property
    def measurand(self) -> Measurand | None:
        """The measurand this register is, by its name."""
        return MEASURANDS.get(self.name)

    @property
    def identity(self) -> str | None:
        """The part of the device's identity this register is, by its name."""
        return self.name if self.name in IDENTITY else None

    @property
    def kind(self) -> Kind:
        """What `decode` gives."""
        if self.type == "string" or self.format is not None:
            return Kind.TEXT
        return Kind.TRUTH if self.type == "bool" or self.bit is not None else Kind.NUMBER

    @property
    def quiet(self) -> bool:
        """Whether a missing value is the device's right and no error."""
        return self.optional or bool(self.na) or self.kind is Kind.TEXT

    # Reading

    def decode(self, words: Sequence[int]) -> Value | None:
        """The value in `words` (as many as `self.words`); None when the device says it is not available."""
        return self._convert(self.raw(words))

    def raw(self, words: Sequence[int]) -> Raw:
        """The number or bytes in `words`, before mask, scale and text. Raises ValueError for words that do not fit."""
        if len(words) != self.words:
            raise ValueError(f"{self.name} takes {self.words} words, not {len(words)}")
        if self.table.is_bits:
            return int(bool(words[0]))
        try:
            data = struct.pack(f">{len(words)}H", *words)
        except struct.error:
            raise ValueError(f"{self.name} takes words of 16 bits, not {list(words)!r}") from None
        data = self._ordered(data)
        if self.type not in NUMBERS:
            return data
        number: int | float = struct.unpack(">" + NUMBERS[self.type][0], data)[0]
        return number

    def convert(self, raw: Raw) -> Value | None:
        """What a raw number or bytes mean: `decode` for those who have unpacked many registers at once."""
        return self._convert(raw)

    @property
    def converter(self) -> Callable[[Raw], Value | None]:
        """`convert` as a plain function, for a loop that calls it a thousand times a second."""
        return self._convert

    def label(self, value: Value) -> str:
        """The value as people write it: its name from `enum`, the names of its bits, or the value itself."""
        if self.bits and isinstance(value, int | float):
            number = int(value)
            set_bits = [bit for bit in range(number.bit_length()) if number >> bit & 1]
            return ", ".join(self.bits.get(bit, f"bit {bit}") for bit in set_bits) or self.enum.get(0, "none")
        if self.enum:
            key = value if isinstance(value, str) else int(value)
            if key in self.enum:
                return self.enum[key]
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) and value == int(value) else str(value)

    # Writing

    def encode(self, value: Value | None) -> tuple[int, ...]:
        """The words that hold `value` (None: "not available"); an enum's name stands for its value.

        Says nothing about whether the device takes it: see `problem`. Raises ValueError for what cannot be held. Where
        mask, shift or bit mean a part of a number, the rest of it is 0: see `insert`.
        """
        return self._words(self._raw_of(value))

    def insert(self, words: Sequence[int], value: Value | None) -> tuple[int, ...]:
        """`words` with this register's part of them set to `value` and the other bits left as they are."""
        raw = self._raw_of(value)
        before = self.raw(words)
        if isinstance(raw, int) and isinstance(before, int):
            if self.bit is not None:
                raw |= before & ~(1 << self.bit)
            elif self.mask is not None:
                raw |= before & ~self.mask
        return self._words(raw)

    def problem(self, value: Value) -> str | None:
        """Why `value` must not be written, in words for an operator; None when it may be."""
        if not self.writable:
            return f"{self.name} is not writable"
        try:
            self.encode(value)
        except ValueError as error:
            return str(error)
        if isinstance(value, str) and value not in self.enum.values():
            return None if self.kind is Kind.TEXT else f"{self.name} takes {self.allowed}, not {value!r}"
        if isinstance(value, str) or value in self.also:
            return None
        if self.enum and self.minimum is None and self.maximum is None and value not in self.enum:
            return f"{self.name} takes {self.allowed}, not {value:g}"
        below = self.minimum is not None and value < self.minimum
        above = self.maximum is not None and value > self.maximum
        return f"{self.name} takes {self.allowed}, not {value:g}" if below or above else None

    @property
    def allowed(self) -> str:
        """What may be written, in words."""
        unit = f" {self.unit}" if self.unit else ""
        parts = [f"{value:g}{unit}" for value in self.also]
        if self.minimum is not None or self.maximum is not None:
            low, high = self.lowest, self.highest
            parts.append(f"{low:g} to {high:g}{unit}" + (f" in steps of {self.step:g}" if self.step else ""))
        elif self.enum:
            parts += [f"{key} ({text})" for key, text in self.enum.items()]
        elif self.kind is Kind.TEXT:
            return f"text of up to {self.words * 2} bytes"
        elif self.kind is Kind.TRUTH:
            return "true or false"
        else:
            parts.append(f"{self.lowest:g} to {self.highest:g}{unit}")
        return " or ".join(parts)

    @property
    def lowest(self) -> float:
        """The smallest number that may be written: the profile's, or what the type holds."""
        if self.minimum is not None:
            return self.minimum
        return _integer_range(self.type)[0] * self.scale if self._is_integer else -math.inf

    @property
    def highest(self) -> float:
        """The largest number that may be written: the profile's, or what the type holds."""
        if self.maximum is not None:
            return self.maximum
        return _integer_range(self.type)[1] * self.scale if self._is_integer else math.inf

    @property
    def resolution(self) -> float:
        """The step between two values the register can hold, in its unit; a float's is taken as a thousandth."""
        if self.step is not None:
            return self.step
        return self.scale if self._is_integer else 0.001

    # Inside

    @property
    def _is_integer(self) -> bool:
        return self.type in NUMBERS and not self.type.startswith("float")

    def _ordered(self, data: bytes) -> bytes:
        """Between the wire's order and plain big-endian; the same swap both ways."""
        if self.word_order == "little" and self.type in NUMBERS:
            data = b"".join(data[start : start + 2] for start in range(len(data) - 2, -1, -2))
        if self.byte_order == "little":
            data = b"".join(data[start : start + 2][::-1] for start in range(0, len(data), 2))
        return data

    def _words(self, raw: Raw) -> tuple[int, ...]:
        if self.table.is_bits:
            return (int(bool(raw)),)
        if isinstance(raw, bytes):
            data = raw
        else:
            try:
                data = struct.pack(">" + NUMBERS[self.type][0], raw)
            except (struct.error, OverflowError):
                raise ValueError(f"{self.name} cannot hold {raw!r} in {self.type}") from None
        return struct.unpack(f">{self.words}H", self._ordered(data))

    def _raw_of(self, value: Value | None) -> Raw:
        if value is None:
            return self._raw_of_nothing()
        if self.type == "string":
            if not isinstance(value, str):
                raise ValueError(f"{self.name} holds text, not {value!r}")
            return encode_characters(self.prefix + value, self.words * 2, self.characters)
        if self.format is not None:
            if not isinstance(value, str):
                raise ValueError(f"{self.name} holds text, not {value!r}")
            missing = self.words * 2 - (self.parts or self.words * 2)
            data = FORMATS[self.format].encode(value + ".0" * missing, self.words * 2)
            return data if self.type == "bytes" else int.from_bytes(data, "big")
        if isinstance(value, str):
            value = self._by_name(value)
        if self.table.is_bits:
            return int(bool(value))
        if self.bit is not None:
            return int(bool(value)) << self.bit
        if not math.isfinite(value):
            raise ValueError(f"{self.name} cannot hold {value!r}")
        if not self._is_integer:
            return value / self.scale
        raw = round(_unscaled(value, self.scale)) << self.shift
        if self.mask is not None and raw & ~self.mask:
            raise ValueError(f"{self.name} cannot hold {value!r} in the bits it has")
        low, high = _integer_range(self.type)
        if not low <= raw <= high:
            raise ValueError(f"{self.name} holds {low * self.scale:g} to {high * self.scale:g}, not {value:g}")
        return raw

    def _raw_of_nothing(self) -> Raw:
        if self.type in {"string", "bytes"}:
            return bytes(self.words * 2)
        if self.na:
            return self.na[0] if not self._is_integer else int(self.na[0])
        if not self._is_integer and not self.table.is_bits:
            return math.nan
        raise ValueError(f"{self.name} has no way to say that it is not available")

    def _by_name(self, name: str) -> float:
        for key, text in self.enum.items():
            if text == name and not isinstance(key, str):
                return key
        raise ValueError(f"{self.name} takes {self.allowed}, not {name!r}")

    def _converter(self) -> Callable[[Raw], Value | None]:
        """The one function that makes a value of raw content, chosen once, so that reading costs one call."""
        if self.type == "string":
            return self._text_converter()
        if self.format is not None:
            return self._format_converter()
        if self.table.is_bits:
            return bool
        if not self._is_integer:
            return self._float_converter()
        return self._integer_converter()

    def _text_converter(self) -> Callable[[Raw], Value | None]:
        style, prefix = self.characters, self.prefix

        def convert(raw: Raw) -> Value | None:
            assert isinstance(raw, bytes)  # noqa: S101 -- the type says so; nothing is checked here
            return decode_characters(raw, style).removeprefix(prefix).strip() or None

        return convert

    def _format_converter(self) -> Callable[[Raw], Value | None]:
        decode, parts = FORMATS[self.format or ""].decode, self.parts
        na, size = frozenset(self.na), self.words * 2

        def convert(raw: Raw) -> Value | None:
            if raw in na:
                return None
            text = decode(raw if isinstance(raw, bytes) else int(raw).to_bytes(size, "big"))
            return text if parts is None else ".".join(text.split(".")[:parts])

        return convert

    def _float_converter(self) -> Callable[[Raw], Value | None]:
        na, scale, short = frozenset(self.na), self.scale, self.type == "float32"

        def convert(raw: Raw) -> Value | None:
            assert isinstance(raw, float)  # noqa: S101 -- the type says so; nothing is checked here
            if raw - raw != 0 or raw in na:  # NaN and infinities are never values
                return None
            value = raw * scale
            return float(f"{value:.7g}") if short else value  # a float32 holds no more digits: 16.1, not 16.1000003

        return convert

    def _integer_converter(self) -> Callable[[Raw], Value | None]:
        na = frozenset(self.na)
        if self.bit is not None:
            bit = self.bit
            return lambda raw: None if raw in na else bool(int(raw) >> bit & 1)
        if self.mask is not None:
            mask, shift, scale_part = self.mask, self.shift, _scaler(self.scale, self.unit)
            return lambda raw: None if raw in na else scale_part((int(raw) & mask) >> shift)
        scaled = _scaler(self.scale, self.unit)
        if na:
            return lambda raw: None if raw in na else scaled(raw)
        return scaled


def _integer_range(type_: str) -> tuple[int, int]:
    bits = 16 * NUMBERS[type_][1]
    return (0, (1 << bits) - 1) if type_.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _divisor(scale: float) -> int | None:
    """N for a scale of 1/N. Dividing gives 16.001 where multiplying by 0.001 gives 16.001000000000001."""
    if not 0 < scale < 1:
        return None
    divisor = round(1 / scale)
    return divisor if math.isclose(scale * divisor, 1.0, rel_tol=1e-12) else None


def _unscaled(value: float, scale: float) -> float:
    divisor = _divisor(scale)
    return value * divisor if divisor else value / scale


def _scaler(scale: float, unit: str | None) -> Callable[[Raw], Value]:
    divisor = _divisor(scale)
    to_value: Callable[[float], Value]
    if divisor is not None:
        to_value = lambda raw: raw / divisor  # noqa: E731 -- one of four functions, chosen once
    elif scale != 1:
        to_value = lambda raw: raw * scale  # noqa: E731
    else:
        to_value = float if unit is not None else int
    return cast("Callable[[Raw], Value]", to_value)  # a number's raw content is never bytes
