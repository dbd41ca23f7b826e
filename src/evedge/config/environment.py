"""The names of environment variables, and what their text means.

Every key outside lists has a variable, `EVEDGE__SECTION__KEY`; the names are read from the tree. No environment is read
here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from evedge.config.mistakes import Data, Location, nearest
from evedge.config.schema import Key, Kind, keys
from evedge.config.tree import Config, Section

PREFIX = "EVEDGE__"
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def variables() -> dict[str, tuple[Location, Key]]:
    """Every variable that can be given, with what it stands for."""
    found: dict[str, tuple[Location, Key]] = {}

    def walk(at: tuple[str, ...], table: type[Section]) -> None:
        for key in keys(table).values():
            location = (*at, key.name)
            found[PREFIX + "__".join(location).upper()] = (location, key)
            if key.kind is Kind.TABLE and key.table is not None:
                walk(location, key.table)

    walk((), Config)
    return found


def nearest_variable(name: str, known: Mapping[str, object]) -> str | None:
    """The variable that was probably meant, in capitals as they are documented."""
    close = nearest(name[len(PREFIX) :], [variable[len(PREFIX) :].casefold() for variable in known])
    return None if close is None else PREFIX + close.upper()


def keys_below(name: str, known: Mapping[str, object]) -> Iterator[str]:
    """The variables of the keys in the table that `name` stands for."""
    return (variable for variable in known if variable.startswith(name.upper() + "__"))


def from_text(text: str, kind: Kind) -> Data:
    """What a variable's text means for a key of this kind; the text itself, to be refused, where it means nothing."""
    if kind is Kind.WHOLE and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if kind is Kind.NUMBER and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?", text):
        return float(text)
    if kind is Kind.TRUTH:
        return _TRUTHS.get(text.casefold(), text)
    if kind is Kind.LIST:
        if text.lstrip().startswith("["):
            try:
                items = json.loads(text)
            except (ValueError, RecursionError):
                return text
            return items if isinstance(items, list) else text
        return [item.strip() for item in text.split(",")] if text.strip() else []
    return text
