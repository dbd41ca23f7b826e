"""Collecting what is wrong with a file, all of it, one line each: where, what stands there, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

_MOST = 60  # characters of a value that are shown


class Mistakes:
    """A list of mistakes that grows while a file is read on. A line is `path = value: what is allowed`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.lines)

    def add(self, path: str, text: str) -> None:
        """One mistake, said in words. The same line is kept once."""
        line = f"{path}: {text}"
        if line not in self.lines:
            self.lines.append(line)

    def add_value(self, path: str, value: object, text: str) -> None:
        """One mistake about a value that stands in the file."""
        self.add(f"{path} = {shown(value)}", text)

    def add_shape(self, path: str, data: object, error: ValidationError, keys: Iterable[str]) -> None:
        """Every mistake pydantic found in `data`, which stands at `path`; `keys` are the keys that exist there."""
        found: dict[str, list[str]] = {}
        values: dict[str, object] = {}
        for detail in error.errors(include_url=False, include_context=True):
            if detail["type"] in {"extra_forbidden", "missing"}:
                key = str(detail["loc"][-1])
                where = f"{_walk(path, data, detail['loc'][:-1])[0]}.{key}"
                text = "is missing" if detail["type"] == "missing" else unknown(key, keys)
            else:
                where, value = _walk(path, data, detail["loc"])
                values[where] = value
                text = _said(detail["type"], detail["msg"], detail.get("ctx", {}))
            found.setdefault(where, []).append(text)
        for where, texts in found.items():
            text = " or ".join(dict.fromkeys(texts))
            if where in values:
                self.add_value(where, values[where], text)
            else:
                self.add(where, text)


def unknown(key: str, known: Iterable[str], what: str = "key") -> str:
    """What to say about a key (or another thing) that does not exist, with the nearest that does."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"there is no such {what}" + (f"; did you mean {near[0]}?" if near else "")


def shown(value: object) -> str:
    """A value as it is shown in a mistake: short, on one line."""
    text = repr(value)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"


def _walk(path: str, data: object, loc: tuple[int | str, ...]) -> tuple[str, object]:
    """Follow pydantic's location as far as it exists in the file: it also names branches of unions, which do not."""
    for step in loc:
        if isinstance(data, Mapping) and step in data:
            path, data = f"{path}.{step}", data[step]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            path, data = f"{path}[{step}]", data[step]
    return path, data


_SAID = {
    "literal_error": "must be {expected}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""What is allowed, by pydantic's name of the mistake."""


def _said(kind: str, message: str, context: Mapping[str, object]) -> str:
    return _SAID[kind].format(**context) if kind in _SAID else message
