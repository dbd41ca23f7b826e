"""What the configuration's tests share: a small file to start from, and the lines that a wrong one prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from evedge.config import Config, ConfigError, load

MINIMAL = '[gateway]\nid = "site-042"\n'

Write = Callable[[str], Path]
Lines = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file."""

    def file(text: str) -> Path:
        path = tmp_path / "evedge.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return file


@pytest.fixture
def lines(write: Write) -> Lines:
    """The lines of mistakes of a file that holds a valid [gateway] and this text; [] when nothing is wrong."""

    def of(text: str, environ: Mapping[str, str] | None = None, *, start: str = MINIMAL) -> list[str]:
        try:
            load(write(start + text), environ or {})
        except ConfigError as error:
            return str(error).splitlines()
        return []

    return of


@pytest.fixture
def loaded(write: Write) -> Callable[..., Config]:
    """The configuration in a file that holds a valid [gateway] and this text."""

    def of(text: str = "", environ: Mapping[str, str] | None = None) -> Config:
        return load(write(MINIMAL + text), environ or {})

    return of
