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
            where, value = _walk(path, data, detail["loc"])
            if detail["type"] == "extra_forbidden":
                where, text = f"{where}.{detail['loc'][-1]}", unknown(str(detail["loc"][-1]), keys)
            elif detail["type"] == "missing":
                where, text = f"{where}.{detail['loc'][-1]}", "is missing"
            else:
                values[where] = value
                text = _said(detail["type"], detail["msg"], detail.get("ctx", {}))
            found.setdefault(where, []).append(text)
        for where, texts in found.items():
            text = " or ".join(dict.fromkeys(texts))
            if where in values:
                self.add_value(where, values[where], text)
            else:
                self.add(where, text)


def unknown(key: str, known: Iterable[str]) -> str:
    """What to say about a key that does not exist, with the nearest that does."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return "there is no such key" + (f"; did you mean {near[0]}?" if near else "")


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


def _said(kind: str, message: str, context: Mapping[str, object]) -> str:
    if kind == "literal_error":
        return f"must be {context['expected']}"
    return message.removeprefix("Input should be ").removeprefix("Input ").replace("valid ", "").strip() or message
