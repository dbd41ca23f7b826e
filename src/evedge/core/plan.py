"""From a profile to requests, and from their answers to telemetry.

    plan = make_plan(profile, connector=2)
    results = {block: read(block) for block in plan.poll}      # words, or the text of what went wrong
    reading = plan.decode(results)                             # values, errors, derived

A plan is made once per recharge point; everything that can be decided before the first poll is decided then, so that a
poll costs one unpack per block and one call per value. A plan never changes: a device that refuses optional registers
gets another one (`after_refusal`).

A value is in `values`, or in `errors` with its reason, or (when the device lacks it, or says it is not available, and
the profile lets it) in neither. It is never a guess: what rests on a failed read fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from evedge.core.expressions import Failed, Missing, Names
from evedge.core.measurands import IDENTITY
from evedge.core.model import Value
from evedge.core.plan_blocks import Block, Locator, blocks_for
from evedge.core.plan_decode import Decoder, Output
from evedge.core.profile_limit import Write
from evedge.core.profile_register import Group, Register
from evedge.core.profile_types import Profile

__all__ = ["Block", "Plan", "Reading", "RegisterReading", "Results", "WireWrite", "make_plan", "plan"]

Results = Mapping[Block, Sequence[int] | str]
"""What came back for each block: its words, or why there are none."""

_NOT_ASKED = "was not read"
_NOT_A_NUMBER = "the device gave no number"


@dataclass(frozen=True, slots=True)
class Reading:
    """One poll. values and errors are by measurand; derived names what was computed; registers holds what was read."""

    values: dict[str, Value]
    errors: dict[str, str]
    derived: list[str]
    registers: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class RegisterReading:
    """One register for a person: its value (None: not available), its unit, how people write it, or why it failed."""

    name: str
    value: Value | None
    unit: str | None
    label: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class WireWrite:
    """One Modbus write: the function code the device wants, the zero-based address, the words (a coil's is 0 or 1)."""

    unit_id: int
    function: int
    address: int
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests for one connector of one device, and how to understand their answers.

    poll, identity and config: what to read every poll, once per connection, rarely. absent: registers the device turned
    out to lack; alone: those that must be asked for one by one until it is known.
    """

    profile: Profile
    connector: int
    unit_id: int
    poll: tuple[Block, ...]
    identity: tuple[Block, ...]
    config: tuple[Block, ...]
    absent: frozenset[str]
    alone: frozenset[str]
    _locator: Locator = field(repr=False)
    _decoders: Mapping[Block, Decoder] = field(repr=False, compare=False)
    _outputs: tuple[Output, ...] = field(repr=False, compare=False)
    _read_before: frozenset[str] = field(repr=False, compare=False)  # what rules need beside a poll's registers

    def decode(self, results: Results, known: Mapping[str, Value] | None = None) -> Reading:
        """Telemetry from the answers to `poll`. `known`: values of registers read before, such as the firmware.

        A block that is missing in `results` counts as failed, and so does what a rule needs to know and `known` lacks.
        """
        names = Names(known)
        for name in self._read_before:
            if known is None or name not in known:
                names.failed[name] = f"{name} is not known yet"
        for block in self.poll:
            self._decoders[block].into(names, results.get(block, _NOT_ASKED))
        values: dict[str, Value] = {}
        errors: dict[str, str] = {}
        derived: list[str] = []
        for output in self._outputs:
            try:
                value = output.give(names)
            except Missing:
                if not output.quiet:
                    errors[output.name] = _NOT_A_NUMBER
                continue
            except Failed as failure:
                errors[output.name] = str(failure.args[0])
                continue
            values[output.name] = value
            if output.name in names.derived:
                derived.append(output.name)
        return Reading(values, errors, derived, names)

    def decode_registers(self, results: Results) -> dict[str, RegisterReading]:
        """Every register in the given blocks (of any group), by name in the profile's order."""
        names = Names()
        asked: set[str] = set()
        for block, answer in results.items():
            self._decoders[block].into(names, answer)
            asked.update(block.registers)
        readings = {}
        for name, register in self.profile.registers.items():
            if name not in asked:
                continue
            value = names.get(name)
            label = register.label(value) if value is not None else "-"
            readings[name] = RegisterReading(name, value, register.unit, label, names.failed.get(name))
        return readings

    def decode_identity(self, results: Results) -> dict[str, str]:
        """Who the device says it is: `vendor`, `model`, `serial_number`, `firmware`, as far as it says so.

        Vendor and model are the profile's where the device gives none.
        """
        identity = {"vendor": self.profile.vendor, "model": self.profile.model}
        for name, reading in self.decode_registers(results).items():
            if name in IDENTITY and reading.value is not None:
                identity[name] = str(reading.label)
        return {name: identity[name] for name in IDENTITY if name in identity}

    def block_of(self, name: str) -> Block:
        """A request for one register alone, to read it back. Raises KeyError for a name the profile does not have."""
        register = self.profile.registers[name]
        place = self._locator.place(register)
        return Block(place.unit_id, place.table, place.address, register.words, (name,), register.optional)

    def value_of(self, name: str, words: Sequence[int]) -> Value | None:
        """What the answer to `block_of(name)` means; None: not available. Raises ValueError for a wrong length."""
        return self.profile.registers[name].decode(words)

    def wire_write(self, write: Write) -> WireWrite:
        """The same write as it goes to this connector: unit id, function code, address and words."""
        register = write.register
        if register.write_fc is None:
            raise ValueError(f"{register.name} is not writable")
        place = self._locator.place(register)
        return WireWrite(place.unit_id, register.write_fc, place.address, write.words)

    def after_refusal(self, block: Block) -> Plan | None:
        """The plan to go on with after the device refused `block` (exception 2 or 3); None: the refusal stands.

        First the block's optional registers are asked for one by one, then the one that is refused alone is given up
        for good. So whatever the device has is found, in a few polls and without a list of firmware versions.
        """
        optional = {name for name in block.registers if self.profile.registers[name].optional}
        if not optional:
            return None
        if len(block.registers) == 1:
            return make_plan(
                self.profile,
                connector=self.connector,
                unit_id=self.unit_id,
                absent=self.absent | optional,
                alone=self.alone - optional,
            )
        return make_plan(
            self.profile,
            connector=self.connector,
            unit_id=self.unit_id,
            absent=self.absent,
            alone=self.alone | optional,
        )


def make_plan(
    profile: Profile,
    *,
    connector: int = 1,
    unit_id: int | None = None,
    absent: frozenset[str] = frozenset(),
    alone: frozenset[str] = frozenset(),
) -> Plan:
    """Plan the reading of one connector (from 1). `unit_id` None: the profile's for that connector.

    Raises ValueError with one line when the device has no such connector. Recharge points that are alike share a plan.
    """
    return _make(profile, connector, unit_id, absent, alone)


@lru_cache(maxsize=256)  # a site has many recharge points and few kinds; a plan never changes
def _make(profile: Profile, connector: int, unit_id: int | None, absent: frozenset[str], alone: frozenset[str]) -> Plan:
    locator = Locator.of(profile.connection, connector, unit_id)
    readable = [
        register for register in profile.registers.values() if register.readable and register.name not in absent
    ]
    blocks = {
        group: blocks_for((r for r in readable if r.group is group), profile.reads, locator, alone)
        for group in (Group.POLL, Group.IDENTITY, Group.CONFIG)
    }
    decoders = {
        block: Decoder.of(block, profile, locator) for group_blocks in blocks.values() for block in group_blocks
    }
    return Plan(
        profile,
        connector,
        locator.unit_id,
        blocks[Group.POLL],
        blocks[Group.IDENTITY],
        blocks[Group.CONFIG],
        absent,
        alone,
        locator,
        decoders,
        tuple(Output.of(name, profile) for name in profile.measurands),
        frozenset(name for name in _named_in_rules(profile) if _is_read_before(profile.registers[name])),
    )


def _named_in_rules(profile: Profile) -> frozenset[str]:
    """Every register that a rule of this profile looks at."""
    expressions = [profile.plugged, *(rule.when for rule in profile.state)]
    for rules in profile.values.values():
        for rule in rules:
            expressions += [rule.when, rule.value]
    return frozenset[str]().union(*(expression.names for expression in expressions if expression is not None))


def _is_read_before(register: Register) -> bool:
    """Whether a rule gets this register from before, and cannot do without: a firmware that decides on a scale."""
    return register.group is not Group.POLL and not register.quiet


plan = make_plan  # for those who have no variable of that name
