"""Every table of a configuration, and the way to put something into it: for tests that try all places."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from evedge.config import Config
from evedge.config.mistakes import Data
from evedge.config.schema import Kind, keys
from evedge.config.tree import Section


def tables(table: type[Section] = Config, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where every kind of table stands; in lists the first one."""
    yield at
    for key in keys(table).values():
        if key.table is not None:
            yield from tables(key.table, (*at, key.name, 0) if key.kind is Kind.TABLES else (*at, key.name))


def place(data: dict[str, Data], at: tuple[str | int, ...], name: str, value: Data) -> dict[str, Data]:
    """A copy of the data with this value in the table that stands there."""
    whole = copy.deepcopy(data)
    table = whole
    for depth, part in enumerate(at, 1):
        following = at[depth] if depth < len(at) else ""
        empty: object = [] if isinstance(following, int) else {}
        if isinstance(table, list):
            if not table or not isinstance(table[0], dict):
                table[:1] = [{}]
            table = table[0]
        else:
            if not isinstance(table.get(part), list if isinstance(following, int) else dict):
                table[part] = empty
            table = table[part]
    table[name] = value
    return whole
