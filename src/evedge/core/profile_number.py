"""Numbers in registers: how wide they are, and how a raw number becomes a physical one.

`converter` chooses one small function per register, once; reading a register is then one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import cast

from evedge.core.model import Value

Raw = int | float | bytes
"""A register's content before mask, scale and text: the number its type says, or its bytes."""

Convert = Callable[[Raw], Value | None]
"""What raw content means; None: not available."""

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


def is_integer(type_: str) -> bool:
    """Whether a type holds whole numbers."""
    return type_ in NUMBERS and not type_.startswith("float")


def integer_range(type_: str) -> tuple[int, int]:
    """The smallest and the largest number a whole-number type holds."""
    bits = 16 * NUMBERS[type_][1]
    return (0, (1 << bits) - 1) if type_.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)


def divisor(step: float) -> int | None:
    """N for a step of 1/N. Dividing gives 16.001 where multiplying by 0.001 gives 16.001000000000001."""
    if not 0 < step < 1:
        return None
    whole = round(1 / step)
    return whole if math.isclose(step * whole, 1.0, rel_tol=1e-12) else None


def unscaled(value: float, scale: float) -> float:
    """The raw number for a physical one, before rounding."""
    whole = divisor(scale)
    return value * whole if whole else value / scale


def converter(
    type_: str,
    *,
    scale: float = 1.0,
    unit: str | None = None,
    na: Collection[float] = (),
    mask: int | None = None,
    shift: int = 0,
    bit: int | None = None,
) -> Convert:
    """From a raw number to its value: a float where it has a unit, an int where it is a code, a bool for a bit."""
    missing = frozenset(na)
    if not is_integer(type_):
        return _float_converter(scale, missing, short=type_ == "float32")
    if bit is not None:
        return lambda raw: None if raw in missing else bool(int(raw) >> bit & 1)
    scaled = _scaler(scale, unit)
    if mask is not None:
        return lambda raw: None if raw in missing else scaled((int(raw) & mask) >> shift)
    if missing:
        return lambda raw: None if raw in missing else scaled(raw)
    return scaled


def _float_converter(scale: float, missing: frozenset[float], *, short: bool) -> Convert:
    def convert(raw: Raw) -> Value | None:
        number = cast("float", raw)
        value = number * scale
        if value - value != 0 or number in missing:  # NaN and infinities are never values
            return None
        return float(f"{value:.7g}") if short else value  # a float32 holds no more digits: 16.1, not 16.1000003

    return convert


def _scaler(scale: float, unit: str | None) -> Callable[[Raw], Value]:
    whole = divisor(scale)
    to_value: Callable[[float], Value]
    if whole is not None:
        to_value = lambda raw: raw / whole  # noqa: E731 -- one of four functions, chosen once
    elif scale != 1:
        to_value = lambda raw: raw * scale  # noqa: E731
    else:
        to_value = float if unit is not None else int
    return cast("Callable[[Raw], Value]", to_value)  # a number's raw content is never bytes
