"""From a profile's TOML to a `Profile`, or to every mistake in it at once.

Each register and section is read by itself, so that a mistake in one hides none in another. What can be wrong with a
register alone is in `profile_register_build`; what can be wrong between them is here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from typing import TypeVar

from pydantic import ValidationError

from evedge.core import profile_spec as spec
from evedge.core.expressions import Expression, compile_expression
from evedge.core.measurands import MEASURANDS, Kind, State
from evedge.core.mistakes import Mistakes, unknown
from evedge.core.profile_limit_build import References, build_failsafe, build_limit, read_for_limit
from evedge.core.profile_register import Group, Register, Scope, Table
from evedge.core.profile_register_build import build_register
from evedge.core.profile_types import (
    AddressRange,
    Connection,
    ConnectorsBy,
    Profile,
    ProfileError,
    Reads,
    StateRule,
    ValueRule,
)

_S = TypeVar("_S", bound=spec.Shape)


def load(text: str, name: str) -> Profile:
    """Read a profile's TOML. Raises ProfileError with every mistake: path, value, and what is allowed."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(name, [f"is not TOML: {error}"]) from None
    mistakes = Mistakes()
    profile = _Builder(name, data, mistakes).build()
    if mistakes:
        raise ProfileError(name, mistakes.lines)
    return profile


class _Builder:
    """Builds one profile. Where something is wrong it notes that and goes on with the nearest thing that works."""

    def __init__(self, name: str, data: Mapping[str, object], mistakes: Mistakes) -> None:
        self._name = name
        self._data = data
        self._mistakes = mistakes
        self._registers: dict[str, Register] = {}
        self._named: frozenset[str] = frozenset()  # every register the file names, broken ones too
        self._needed: set[str] = set()  # registers every poll must read
        self._said_group: set[str] = set()  # registers whose group the file says

    def build(self) -> Profile:
        for key in self._data.keys() - set(spec.SECTIONS):
            self._mistakes.add(key, unknown(key, spec.SECTIONS))
        device = self._section("device", spec.Device) or spec.Device(vendor="?", model="?")
        connection = _connection(self._section("connection", spec.Connection, {}) or spec.Connection())
        self._check_connection()
        reads = _reads(self._section("reads", spec.Reads, {}) or spec.Reads())
        self._read_registers(self._section("defaults", spec.Defaults, {}) or spec.Defaults(), reads)
        state = self._state()
        plugged = self._plugged()
        values = self._values()
        limit_shape = self._section("limit", spec.LimitShape) if "limit" in self._data else None
        self._settle_groups(limit_shape)
        references = References(self._registers, self._named, self._mistakes)
        self._check_between(references, connection, reads)
        failsafe = self._section("failsafe", spec.FailsafeShape, {"kind": "unknown"})
        return Profile(
            name=self._name,
            vendor=device.vendor,
            model=device.model,
            aliases=tuple(device.aliases),
            description=device.description,
            setup=device.setup,
            sources=tuple(device.sources),
            tested=device.tested,
            connection=connection,
            reads=reads,
            registers=MappingProxyType(self._registers),
            state=state,
            plugged=plugged,
            values=MappingProxyType(values),
            measurands=_offered(self._registers, state, plugged, values),
            limit=build_limit(limit_shape, references) if limit_shape else None,
            failsafe=build_failsafe(failsafe or spec.FailsafeShape(kind="unknown"), references),
        )

    # Shapes

    def _section(self, key: str, shape: type[_S], absent: Mapping[str, object] | None = None) -> _S | None:
        data = self._data.get(key, absent)
        if data is None:
            self._mistakes.add(key, f"the section [{key}] is missing")
            return None
        return self._shaped(key, data, shape)

    def _shaped(self, path: str, data: object, shape: type[_S]) -> _S | None:
        if not isinstance(data, Mapping):
            self._mistakes.add_value(path, data, f"must be a table, [{path}]")
            return None
        try:
            return shape.model_validate(data)
        except ValidationError as error:
            self._mistakes.add_shape(path, data, error, _keys(shape))
            return None

    def _list(self, key: str, shape: type[_S]) -> list[tuple[str, _S]]:
        items = self._data.get(key, [])
        if not isinstance(items, list):
            self._mistakes.add(key, f"must be written as [[{key}]]")
            return []
        shaped = ((f"{key}[{index}]", self._shaped(f"{key}[{index}]", item, shape)) for index, item in enumerate(items))
        return [(path, item) for path, item in shaped if item is not None]

    # Registers

    def _read_registers(self, defaults: spec.Defaults, reads: Reads) -> None:
        tables = self._data.get("registers")
        if not isinstance(tables, Mapping) or not tables:
            self._mistakes.add("registers", "there must be at least one register: NAME = { address = … }")
            return
        self._named = frozenset(tables)
        for name, data in tables.items():
            path = f"registers.{name}"
            shape = self._shaped(path, data, spec.RegisterShape)
            register = build_register(path, name, shape, defaults, self._mistakes) if shape else None
            if register is None:
                continue
            if not register.table.is_bits and register.words > reads.max_registers:
                self._mistakes.add(
                    path, f"takes {register.words} registers; reads.max_registers is {reads.max_registers}"
                )
            self._registers[name] = register
            if shape is not None and shape.group is not None:
                self._said_group.add(name)

    def _settle_groups(self, limit: spec.LimitShape | None) -> None:
        """Give each register the group the file says, or that follows from who needs it."""
        if limit is not None:
            self._needed |= read_for_limit(limit, self._registers)
        for name, register in self._registers.items():
            if name in self._said_group:
                continue
            if not register.readable:
                group = Group.WRITE
            elif register.identity is not None:
                group = Group.IDENTITY
            else:
                group = Group.POLL if register.measurand or name in self._needed else Group.CONFIG
            self._registers[name] = replace(register, group=group)

    # Expressions

    def _expression(self, path: str, text: str, kind: Kind) -> Expression | None:
        kinds = {name: register.kind for name, register in self._registers.items() if register.readable}
        broken = dict.fromkeys(self._named - self._registers.keys(), kind)
        try:
            expression = compile_expression(text, kinds | broken)
        except ValueError as error:
            if not broken:  # with a broken register the kinds are a guess
                self._mistakes.add_value(path, text, str(error))
            return None
        if expression.kind is not kind:
            self._mistakes.add_value(path, text, f"gives a {expression.kind}, where a {kind} is needed")
            return None
        self._needed |= expression.names
        return expression

    def _condition(self, path: str, text: str | None) -> Expression | None:
        return self._expression(path, text, Kind.TRUTH) if text is not None else None

    def _state(self) -> tuple[StateRule, ...]:
        rules = [
            StateRule(State(rule.state), self._condition(f"{path}.when", rule.when))
            for path, rule in self._list("state", spec.StateRule)
        ]
        if "state" not in self._data:
            self._mistakes.add("state", "there must be at least one rule: [[state]] when = … is = …")
        return tuple(rules)

    def _plugged(self) -> Expression | None:
        if "plugged" not in self._data:
            return None
        shape = self._section("plugged", spec.Plugged)
        return self._condition("plugged.when", shape.when) if shape else None

    def _values(self) -> dict[str, tuple[ValueRule, ...]]:
        rules: dict[str, list[ValueRule]] = {}
        for path, shape in self._list("values", spec.ValueRule):
            measurand = MEASURANDS.get(shape.measurand)
            if measurand is None or measurand.name in {"state", "plugged"}:
                text = "has a section of its own" if measurand else unknown(shape.measurand, MEASURANDS, "measurand")
                self._mistakes.add_value(f"{path}.measurand", shape.measurand, text)
                continue
            value = self._expression(f"{path}.value", shape.value, measurand.kind)
            when = self._condition(f"{path}.when", shape.when)
            if value is not None:
                rules.setdefault(measurand.name, []).append(ValueRule(value, when, shape.derived))
        return {name: tuple(found) for name, found in rules.items()}

    # Between registers

    def _check_connection(self) -> None:
        data = self._data.get("connection")
        connectors = data.get("connectors") if isinstance(data, Mapping) else None
        if not isinstance(connectors, Mapping):
            return
        if (connectors.get("by") == "address_stride") != ("stride" in connectors):
            self._mistakes.add("connection.connectors.stride", "belongs to by = 'address_stride', and only to that")

    def _check_between(self, references: References, connection: Connection, reads: Reads) -> None:
        for register in self._registers.values():
            if register.readback is not None:
                references.register(f"registers.{register.name}.readback", register.readback, readable=True)
            self._check_denied(register, connection, reads)
        self._check_overlaps()

    def _check_denied(self, register: Register, connection: Connection, reads: Reads) -> None:
        last = register.address + register.words - 1
        reach = (
            last + connection.stride * (connection.connector_count - 1) if register.scope is Scope.CONNECTOR else last
        )
        if reach > 65_535:
            self._mistakes.add(f"registers.{register.name}", f"would reach address {reach}; 65535 is the last there is")
        for forbidden in reads.deny:
            used = {"r"} if register.readable else set()
            used |= {"w"} if register.writable else set()
            here = forbidden.table is register.table and forbidden.touches(register.address, last)
            if here and used & set(forbidden.access):
                self._mistakes.add(f"registers.{register.name}", f"lies in reads.deny: {forbidden.why}")

    def _check_overlaps(self) -> None:
        """Two quantities may share an address (a state and a flag in it), but not half of it: that is a slip."""
        ordered = sorted(self._registers.values(), key=lambda r: (r.table, r.scope, r.address, r.words))
        for one, other in pairwise(ordered):
            same_space = (one.table, one.scope) == (other.table, other.scope)
            same_place = (one.address, one.words) == (other.address, other.words)
            if (
                same_space
                and not same_place
                and other.address < one.address + one.words
                and one.readable
                and other.readable
            ):
                self._mistakes.add(
                    f"registers.{other.name}.address = {other.address}",
                    f"lies inside {one.name} ({one.address} to {one.address + one.words - 1})",
                )


def _keys(shape: type[spec.Shape]) -> list[str]:
    return [field.alias or name for name, field in shape.model_fields.items()]


def _connection(shape: spec.Connection) -> Connection:
    connectors = shape.connectors
    return Connection(
        port=shape.port,
        unit_id=shape.unit_id,
        connectors_by=ConnectorsBy(connectors.by) if connectors else None,
        connector_count=connectors.count if connectors else 1,
        stride=(connectors.stride or 0) if connectors else 0,
        station_unit_id=connectors.station_unit_id if connectors else None,
        max_connections=shape.max_connections,
        max_connection_lifetime_s=shape.max_connection_lifetime_s,
        connect_timeout_s=shape.connect_timeout_s,
        response_timeout_s=shape.response_timeout_s,
        pause_between_requests_s=shape.pause_between_requests_s,
        pause_after_connect_s=shape.pause_after_connect_s,
        poll_interval_s=shape.poll_interval_s,
    )


def _reads(shape: spec.Reads) -> Reads:
    return Reads(
        max_registers=shape.max_registers,
        one_value=shape.one_value,
        spans=tuple(AddressRange(Table(s.table), s.first, s.last, Scope(s.scope)) for s in shape.spans),
        deny=tuple(AddressRange(Table(d.table), d.first, d.last, Scope.STATION, d.access, d.why) for d in shape.deny),
    )


def _offered(
    registers: Mapping[str, Register],
    state: Sequence[StateRule],
    plugged: Expression | None,
    values: Mapping[str, Sequence[ValueRule]],
) -> tuple[str, ...]:
    offered = {name for name, register in registers.items() if register.measurand is not None} | values.keys()
    offered |= ({"state"} if state else set()) | ({"plugged"} if plugged else set())
    return tuple(name for name in MEASURANDS if name in offered)
