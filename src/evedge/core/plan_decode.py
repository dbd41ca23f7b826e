"""How answers become registers, and registers measurands: prepared once per plan, so that a poll only runs through it.

`Decoder` understands one block; `Output` gives one measurand. What passes between them is `Names`: the registers that
have a value, and why others failed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evedge.core.expressions import Missing, Names
from evedge.core.measurands import MEASURANDS, Kind, State
from evedge.core.model import Value
from evedge.core.plan_blocks import Block, Locator
from evedge.core.profile_number import NUMBERS, Convert
from evedge.core.profile_register import Register
from evedge.core.profile_types import Profile, StateRule, ValueRule

# Answers to registers


@dataclass(frozen=True, slots=True)
class Decoder:
    """Understands one block's answer: a single unpack for what is big-endian, a call each for the rest."""

    block: Block
    pack: struct.Struct
    unpack: struct.Struct
    fast: tuple[tuple[int, str, Convert], ...]  # index in the unpacked, name, converter
    slow: tuple[tuple[int, int, str, Callable[[Sequence[int]], Value | None]], ...]  # first, last + 1, name, decode

    @classmethod
    def of(cls, block: Block, profile: Profile, locator: Locator) -> Decoder:
        fast, slow, layout, at = [], [], ">", 0
        index = -1
        before: Register | None = None
        for register in (profile.registers[name] for name in block.registers):
            start = locator.place(register).address - block.address
            if block.table.is_bits or register.type not in NUMBERS or _swapped(register):
                slow.append((start, start + register.words, register.name, register.decode))
                continue
            if before is not None and start < at:
                if before.type != register.type:
                    slow.append((start, start + register.words, register.name, register.decode))
                    continue
            else:
                layout += "xx" * (start - at) + NUMBERS[register.type][0]
                at, index, before = start + register.words, index + 1, register
            fast.append((index, register.name, register.convert))
        layout += "xx" * (block.count - at)
        return cls(block, struct.Struct(f">{block.count}H"), struct.Struct(layout), tuple(fast), tuple(slow))

    def into(self, names: Names, answer: Sequence[int] | str) -> None:
        """Add this block's registers to `names`: those that have a value, or why all failed."""
        if isinstance(answer, str):
            names.failed.update(dict.fromkeys(self.block.registers, answer))
            return
        if len(answer) != self.block.count:
            text = f"the device gave {len(answer)} of {self.block.count} words"
            names.failed.update(dict.fromkeys(self.block.registers, text))
            return
        if self.fast:
            raws = self.unpack.unpack(self.pack.pack(*answer))
            for index, name, convert in self.fast:
                value = convert(raws[index])
                if value is not None:
                    names[name] = value
        for first, end, name, decode in self.slow:
            value = decode(answer[first:end])
            if value is not None:
                names[name] = value


def _swapped(register: Register) -> bool:
    return register.byte_order == "little" or (register.word_order == "little" and register.words > 1)


# Registers to measurands


@dataclass(frozen=True, slots=True)
class Output:
    """How one measurand comes about. quiet: whether it may be missing without that being an error."""

    name: str
    quiet: bool
    give: Callable[[Names], Value]

    @classmethod
    def of(cls, name: str, profile: Profile) -> Output:
        if name == "state":
            return cls(name, True, _state(profile.state))
        if name == "plugged":
            assert profile.plugged is not None  # noqa: S101 -- offered only where the profile has it
            return cls(name, True, profile.plugged.evaluate)
        register = profile.registers.get(name)
        give = _register(register) if register is not None else _nothing
        rules = profile.values.get(name)
        if rules:
            return cls(name, True, _rules(name, rules, give))
        return cls(name, register is None or register.quiet, give)


def _nothing(_: Names) -> Value:
    raise Missing("no rule holds")


def _register(register: Register) -> Callable[[Names], Value]:
    name = register.name
    if MEASURANDS[name].kind is Kind.TEXT:
        label = register.label
        return lambda names: label(names[name])
    return lambda names: names[name]


def _state(rules: Sequence[StateRule]) -> Callable[[Names], Value]:
    pairs = tuple((rule.when.evaluate if rule.when else None, str(rule.state)) for rule in rules)
    unknown = str(State.UNKNOWN)

    def give(names: Names) -> Value:
        for when, state in pairs:
            if when is None or _holds(when, names):
                return state
        return unknown

    return give


def _holds(when: Callable[[Names], Value], names: Names) -> bool:
    try:
        return bool(when(names))
    except Missing:
        return False


def _rules(name: str, rules: Sequence[ValueRule], otherwise: Callable[[Names], Value]) -> Callable[[Names], Value]:
    def give(names: Names) -> Value:
        for rule in rules:
            if rule.when is not None and not _holds(rule.when.evaluate, names):
                continue
            try:
                value = rule.value.evaluate(names)
            except Missing:
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                if not math.isfinite(value):
                    continue
                value = float(value)
            if rule.derived:
                names.derived.add(name)
            return value
        return otherwise(names)

    return give
