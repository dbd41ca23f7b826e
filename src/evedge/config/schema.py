"""What the tree says about a key: its kind, whether it holds a secret, and what is allowed in words.

Read from the types, so that neither the environment nor the messages need a second list of keys.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Annotated, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from evedge.config.mistakes import Location
from evedge.config.tree import Config, Section
from evedge.config.values import Allowed


class Kind(StrEnum):
    """What a key holds, as far as reading it from text is concerned."""

    TABLE = "table"
    TABLES = "tables"
    LIST = "list"
    SECRET = "secret"  # noqa: S105 -- the name of a kind
    WHOLE = "whole number"
    NUMBER = "number"
    TRUTH = "true or false"
    TEXT = "text"


class Key:
    """One key of one table."""

    def __init__(self, name: str, field: FieldInfo) -> None:
        self.name = name
        self.is_required = field.is_required()
        self._hints = [*field.metadata]
        self.type = self._bare(field.annotation)
        self.item = self._bare(get_args(self.type)[0]) if get_origin(self.type) is tuple else None
        self.kind = self._kind()

    def _bare(self, hint: object) -> object:
        """The type without `| None` and without what stands beside it, which is collected."""
        while True:
            if get_origin(hint) is Annotated:
                hint, *beside = get_args(hint)
                for item in beside:
                    self._hints += item.metadata if isinstance(item, FieldInfo) else [item]
            elif get_origin(hint) in {Union, types.UnionType}:
                hint = next(part for part in get_args(hint) if part is not type(None))
            else:
                return hint

    def _kind(self) -> Kind:
        if self.item is not None:
            return Kind.TABLES if _section(self.item) else Kind.LIST
        if _section(self.type):
            return Kind.TABLE
        kinds: dict[object, Kind] = {SecretStr: Kind.SECRET, int: Kind.WHOLE, float: Kind.NUMBER, bool: Kind.TRUTH}
        return kinds.get(self.type, Kind.TEXT)

    @property
    def table(self) -> type[Section] | None:
        """What is in the table, or in each of the tables, that this key holds."""
        return _section(self.item) or _section(self.type)

    def allowed(self, *, item: bool = False) -> str | None:
        """In words; `item`: for one item of a list. None where the kind says it all."""
        text = self._allowed()
        return f"a list, of each: {text}" if self.kind is Kind.LIST and not item and text is not None else text

    def _allowed(self) -> str | None:
        for hint in self._hints:
            if isinstance(hint, Allowed):
                return hint.text
        for hint in (self.type, self.item):
            if get_origin(hint) is Literal:
                return ", ".join(map(str, get_args(hint)))
        if self.kind in {Kind.WHOLE, Kind.NUMBER}:
            name = "a whole number" if self.kind is Kind.WHOLE else "a number"
            return f"{name} {self._range()}".strip()
        return "true or false" if self.kind is Kind.TRUTH else None

    def _range(self) -> str:
        low = high = ""
        for hint in self._hints:
            if isinstance(hint, annotated_types.Ge):
                low = f"from {hint.ge}"
            elif isinstance(hint, annotated_types.Gt):
                low = f"above {hint.gt}"
            elif isinstance(hint, annotated_types.Le):
                high = f"to {hint.le}" if low.startswith("from") else f"and up to {hint.le}"
        return f"{low} {high}"


def _section(hint: object) -> type[Section] | None:
    return hint if isinstance(hint, type) and issubclass(hint, Section) else None


@cache
def keys(table: type[Section]) -> Mapping[str, Key]:
    """Every key of a table."""
    return {name: Key(name, field) for name, field in table.model_fields.items()}


def table_at(location: Location) -> type[Section] | None:
    """The table that a location stands in: for `("mqtt", "bind")` the table mqtt. None where there is no such table."""
    table: type[Section] | None = Config
    for part in location[:-1]:
        if isinstance(part, str):
            key = keys(table).get(part) if table is not None else None
            table = key.table if key is not None else None
    return table


def key_at(location: Location) -> Key | None:
    """The key that a location names, or whose item it names; None for an unknown one."""
    while location and isinstance(location[-1], int):
        location = location[:-1]
    table = table_at(location)
    name = location[-1] if location else None
    return keys(table).get(name) if table is not None and isinstance(name, str) else None


@cache
def secret_names() -> frozenset[str]:
    """The name of every key that holds a secret, in any table."""
    names: set[str] = set()
    pending: list[type[Section]] = [Config]
    while pending:
        for key in keys(pending.pop()).values():
            if key.kind is Kind.SECRET:
                names.add(key.name)
            if key.table is not None:
                pending.append(key.table)
    return frozenset(names)
