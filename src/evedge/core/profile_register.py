"""One register of a profile: where it is, and what the words in it mean, both ways.

Words are what Modbus carries: integers of 16 bits from holding and input registers, 0 or 1 from coils and discrete
inputs. A value is a number in the register's unit, a truth value or text. Numbers that have a unit are always floats;
codes and counts are ints. `decode` gives None for what the device marks as not available, and for no other reason.
Knows nothing of connections, connectors or which registers are read together.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from evedge.core.measurands import IDENTITY, MEASURANDS, Kind, Measurand
from evedge.core.model import Value
from evedge.core.profile_number import NUMBERS, Convert, Raw, converter, integer_range, is_integer, unscaled
from evedge.core.profile_text import FORMATS, encode_characters, format_converter, text_converter


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
    _convert: Convert = field(init=False, repr=False, compare=False)

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
    def shown_by(self) -> str | None:
        """The name of the register that shows what was written here: another, itself, or None where nothing does."""
        if self.readback is not None:
            return self.readback
        return self.name if self.readable and not self.self_clearing else None

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

    @property
    def convert(self) -> Convert:
        """What a raw number or bytes mean, as a plain function: for those who unpack many registers at once."""
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
        return integer_range(self.type)[0] * self.scale if self._is_integer else -math.inf

    @property
    def highest(self) -> float:
        """The largest number that may be written: the profile's, or what the type holds."""
        if self.maximum is not None:
            return self.maximum
        return integer_range(self.type)[1] * self.scale if self._is_integer else math.inf

    @property
    def resolution(self) -> float:
        """The step between two values the register can hold, in its unit; a float's is taken as a thousandth."""
        if self.step is not None:
            return self.step
        return self.scale if self._is_integer else 0.001

    # Inside

    @property
    def _is_integer(self) -> bool:
        return is_integer(self.type)

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
        raw = round(unscaled(value, self.scale)) << self.shift
        if self.mask is not None and raw & ~self.mask:
            raise ValueError(f"{self.name} cannot hold {value!r} in the bits it has")
        low, high = integer_range(self.type)
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

    def _converter(self) -> Convert:
        if self.type == "string":
            return text_converter(self.characters, self.prefix)
        if self.format is not None:
            return format_converter(self.format, self.words * 2, parts=self.parts, na=self.na)
        if self.table.is_bits:
            return bool
        return converter(
            self.type, scale=self.scale, unit=self.unit, na=self.na, mask=self.mask, shift=self.shift, bit=self.bit
        )
