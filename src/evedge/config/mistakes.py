"""What is wrong with a configuration, in lines an operator can act on, and never with a secret in them.

One `Mistake` is one line: where, the value as given, what is wrong, what is allowed. The value is left out where its
key holds a secret or might, where it is a whole table, and where it looks like an address with a password in it.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from evedge.core.errors import UsageError

Location: TypeAlias = tuple[str | int, ...]
"""Where a value stands: `("recharge_points", 2, "host")`. Empty: the file as a whole."""

Scalar: TypeAlias = str | int | float | bool | dt.datetime | dt.date | dt.time
Data: TypeAlias = "Scalar | list[Data] | dict[str, Data]"
"""What TOML can hold."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_CHARACTERS = 80
_SECRET_FRAGMENTS = (
    "pass",
    "pw",
    "secret",
    "token",
    "key",
    "cred",
    "hash",
    "auth",
    "priv",
    "salt",
    "bearer",
    "jaas",
    "pin",
)
_SECRET_WORDS = ("password", "passphrase", "passwd", "secret", "token", "credential", "private", "authorization")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to correct.

    value: as given and safe to show; None where it must not or cannot be shown. source: what to name instead of the
    path, such as the environment variable that gave the value. allowed, suggestion: None where there is nothing to say.
    """

    location: Location
    what: str
    value: str | None = None
    allowed: str | None = None
    suggestion: str | None = None
    source: str | None = None

    @property
    def path(self) -> str:
        """As TOML writes it: `recharge_points[2].poll_interval_s`, counted from 0."""
        return toml_path(self.location)

    def __str__(self) -> str:
        where = self.source or self.path
        line = f"{where} = {self.value}: {self.what}" if self.value is not None else f"{where}: {self.what}"
        if self.suggestion is not None:
            return f"{line}; did you mean {self.suggestion}?"
        return line if self.allowed is None else f"{line}; allowed: {self.allowed}"


class ConfigError(UsageError):
    """The configuration cannot be used. Its text is one line per mistake."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


def toml_path(location: Location) -> str:
    """`("a", 2, "b c")` to `a[2]."b c"`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else quoted(part))
    return text


def quoted(text: str) -> str:
    """In double quotes, on one line, without characters a terminal might obey, and not endless."""
    if len(text) > _SHOWN_CHARACTERS:
        text = text[:_SHOWN_CHARACTERS] + "…"
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else json.dumps(c)[1:-1] for c in text) + '"'


def shown(value: Data) -> str | None:
    """A value as TOML would write it, or None where it is better not shown."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return None if "@" in value else quoted(value)  # mqtts://user:password@host
    if isinstance(value, dict):
        return None
    if isinstance(value, list):
        items = [shown(item) for item in value[:10]]
        text = ", ".join(item for item in items if item is not None)
        return None if None in items or len(text) > _SHOWN_CHARACTERS else f"[{text}]"
    if isinstance(value, int) and abs(value) > 10**30:
        return "(a number of many digits)"
    return str(value)


def looks_secret(name: str, known_secrets: Iterable[str] = ()) -> bool:
    """Whether a key of this name might hold a secret: also when it is misspelt. Rather too often than not."""
    name = name.casefold()
    if any(fragment in name for fragment in _SECRET_FRAGMENTS):
        return True
    words = [name, *re.split(r"[^a-z0-9]+", name)]
    return any(difflib.get_close_matches(word, [*_SECRET_WORDS, *known_secrets], 1, 0.65) for word in words)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    found = difflib.get_close_matches(name.casefold(), list(known), 1, 0.6)
    return found[0] if found else None
