"""One register from its TOML: the defaults filled in, and everything that can be wrong with it alone."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping

from evedge.core.measurands import IDENTITY, MEASURANDS, Kind
from evedge.core.mistakes import Mistakes
from evedge.core.profile_number import NUMBERS, is_integer
from evedge.core.profile_register import Group, Register, Scope, Table
from evedge.core.profile_spec import Defaults, RegisterShape

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED = {"state", "plugged", "known", "first", "total", "limit"}
_WRITE_FCS = {Table.HOLDING: (6, 16), Table.COIL: (5, 15), Table.INPUT: (), Table.DISCRETE: ()}


def build_register(
    path: str, name: str, shape: RegisterShape, defaults: Defaults, mistakes: Mistakes
) -> Register | None:
    """The register, or None when `mistakes` has grown by what is wrong with it."""
    before = len(mistakes.lines)
    table = Table(shape.table or defaults.table)
    type_ = shape.type or ("bool" if table.is_bits else defaults.type)
    words = _words(path, shape, type_, mistakes)
    _check_name(path, name, shape, mistakes)
    _check_place(path, shape, table, type_, words, mistakes)
    _check_meaning(path, shape, type_, words, mistakes)
    _check_writing(path, shape, table, words, mistakes)
    enum = _enum(path, shape, type_, mistakes)
    bits = _bits(path, shape, mistakes)
    if len(mistakes.lines) > before:
        return None
    return Register(
        name=name,
        table=table,
        address=shape.address,
        type=type_,
        words=words,
        word_order=shape.word_order or defaults.word_order,
        byte_order=shape.byte_order or defaults.byte_order,
        scale=shape.scale,
        unit=shape.unit,
        mask=shape.mask,
        shift=shape.shift,
        bit=shape.bit,
        enum=enum,
        bits=bits,
        na=tuple(math.nan if na == "NaN" else math.inf if na == "Inf" else float(na) for na in shape.na),
        characters=shape.characters,
        format=shape.format or ("hex" if type_ == "bytes" else None),
        parts=shape.parts,
        prefix=shape.prefix,
        readable="r" in shape.access,
        writable="w" in shape.access,
        write_fc=_write_fc(shape, defaults, table, words),
        minimum=shape.min,
        maximum=shape.max,
        step=shape.step,
        also=tuple(shape.also),
        self_clearing=shape.self_clearing,
        readback=shape.readback,
        optional=shape.optional,
        group=Group(shape.group or "config"),
        scope=Scope(shape.scope or defaults.scope),
        meaning=shape.meaning,
        confidence=shape.confidence or defaults.confidence,
        source=shape.source if shape.source is not None else defaults.source,
    )


def _words(path: str, shape: RegisterShape, type_: str, mistakes: Mistakes) -> int:
    if type_ in {"string", "bytes"}:
        if shape.count is None:
            mistakes.add(f"{path}.count", f"is missing: a {type_} needs the number of its registers")
        return shape.count or 1
    if shape.count is not None:
        mistakes.add_value(f"{path}.count", shape.count, f"belongs to string and bytes; {type_} has its own length")
    return NUMBERS[type_][1] if type_ in NUMBERS else 1


def _check_name(path: str, name: str, shape: RegisterShape, mistakes: Mistakes) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        mistakes.add(path, "a register's name is lower case letters, digits and underscores, and begins with a letter")
    if name in _RESERVED:
        mistakes.add(path, "this name is taken: call the register after what it holds, as mode3_state or socket_state")
    measurand = MEASURANDS.get(name)
    if measurand is not None and measurand.kind is Kind.NUMBER and shape.unit != measurand.unit:
        mistakes.add_value(f"{path}.unit", shape.unit, f"must be {measurand.unit!r}, as {name} is")
    if (measurand is not None or name in IDENTITY) and "r" not in shape.access:
        mistakes.add_value(f"{path}.access", shape.access, f"{name} is read: give what is written another name")


def _check_place(path: str, shape: RegisterShape, table: Table, type_: str, words: int, mistakes: Mistakes) -> None:
    if table.is_bits != (type_ == "bool"):
        mistakes.add_value(f"{path}.type", type_, "bool belongs to coils and discrete inputs, and nothing else does")
    if shape.address + words > 65_536:
        mistakes.add_value(f"{path}.address", shape.address, f"with {words} registers it goes beyond 65535")


def _check_meaning(path: str, shape: RegisterShape, type_: str, words: int, mistakes: Mistakes) -> None:
    integer = is_integer(type_)
    unsigned = integer and type_.startswith("u")
    for key in ("mask", "bit"):
        value = getattr(shape, key)
        if value is None:
            continue
        if not unsigned:
            mistakes.add_value(f"{path}.{key}", value, "belongs to unsigned whole numbers")
        elif (value.bit_length() if key == "mask" else value + 1) > 16 * words:
            mistakes.add_value(f"{path}.{key}", value, f"{type_} has {16 * words} bits")
    if shape.mask is not None and shape.bit is not None:
        mistakes.add(f"{path}.bit", "and mask exclude each other")
    if shape.shift and shape.mask is None:
        mistakes.add_value(f"{path}.shift", shape.shift, "belongs to mask")
    if shape.format is not None and not (unsigned or type_ == "bytes"):
        mistakes.add_value(f"{path}.format", shape.format, "belongs to unsigned whole numbers and bytes")
    if shape.format is not None and (shape.scale != 1 or shape.mask is not None or shape.bit is not None):
        mistakes.add_value(f"{path}.format", shape.format, "makes text of the whole number: no scale, mask or bit")
    if shape.parts is not None and (shape.format not in {"version_bytes", "version_bcd"} or shape.parts > words * 2):
        mistakes.add_value(
            f"{path}.parts", shape.parts, f"belongs to version_bytes and version_bcd, at most {words * 2}"
        )
    if type_ not in NUMBERS and shape.scale != 1:
        mistakes.add_value(f"{path}.scale", shape.scale, "belongs to numbers")
    if type_ not in NUMBERS and shape.na:
        mistakes.add_value(f"{path}.na", shape.na, "belongs to numbers; empty text is not available by itself")
    if integer and any(not isinstance(na, int | float) or na != int(na) for na in shape.na):
        mistakes.add_value(f"{path}.na", shape.na, f"must be whole numbers, as {type_} holds")
    if type_ != "string" and (shape.prefix or shape.characters != "packed"):
        mistakes.add(f"{path}.{'prefix' if shape.prefix else 'characters'}", "belongs to strings")
    if shape.bits and not integer:
        mistakes.add(f"{path}.bits", "belongs to whole numbers")


def _check_writing(path: str, shape: RegisterShape, table: Table, words: int, mistakes: Mistakes) -> None:
    if "w" not in shape.access:
        for key in ("write_fc", "min", "max", "step", "also", "self_clearing", "readback"):
            if getattr(shape, key) not in {None, False} if key != "also" else shape.also:
                mistakes.add(f"{path}.{key}", 'belongs to registers with access "w" or "rw"')
        return
    allowed = _WRITE_FCS[table]
    if not allowed:
        mistakes.add_value(f"{path}.access", shape.access, f"nothing in table {table} can be written")
    elif shape.write_fc is not None and (shape.write_fc not in allowed or (shape.write_fc == 6 and words > 1)):
        wanted = " or ".join(str(fc) for fc in allowed if fc != 6 or words == 1)
        mistakes.add_value(f"{path}.write_fc", shape.write_fc, f"must be {wanted} for {words} of table {table}")
    if shape.mask is not None or shape.bit is not None:
        mistakes.add_value(f"{path}.access", shape.access, "a part of a register cannot be written without the rest")
    if shape.min is not None and shape.max is not None and shape.min > shape.max:
        mistakes.add_value(f"{path}.min", shape.min, f"is above max, {shape.max:g}")


def _write_fc(shape: RegisterShape, defaults: Defaults, table: Table, words: int) -> int | None:
    if "w" not in shape.access:
        return None
    if shape.write_fc is not None:
        return shape.write_fc
    if table is Table.COIL:
        return 5
    if defaults.write_fc in {6, 16} and (words == 1 or defaults.write_fc == 16):
        return defaults.write_fc
    return 6 if words == 1 else 16


def _enum(path: str, shape: RegisterShape, type_: str, mistakes: Mistakes) -> Mapping[int | str, str]:
    enum: dict[int | str, str] = {}
    if type_ in {"string", "bytes"} or shape.format is not None:
        enum.update(shape.enum)
        return enum
    for key, text in shape.enum.items():
        number = _integer(key)
        if number is None:
            mistakes.add_value(f"{path}.enum", key, "must be a whole number")
        else:
            enum[number] = text
    return enum


def _bits(path: str, shape: RegisterShape, mistakes: Mistakes) -> Mapping[int, str]:
    bits: dict[int, str] = {}
    for key, text in shape.bits.items():
        number = _integer(key)
        if number is None or not 0 <= number <= 63:
            mistakes.add_value(f"{path}.bits", key, "must be the number of a bit, 0 to 63")
        else:
            bits[number] = text
    return bits


def _integer(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None
