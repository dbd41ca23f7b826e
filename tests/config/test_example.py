"""The example that ships: it loads as it is, names every key, and its comments show the real defaults."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from argon2 import PasswordHasher

from evedge.config import Config, load
from evedge.config.schema import keys
from evedge.config.tree import Section

EXAMPLE = Path(__file__).parents[2] / "evedge.toml.example"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example where its one secret file stands beside it."""
    (tmp_path / "plc-1.hash").write_text(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x"))
    return Path(shutil.copy(EXAMPLE, tmp_path / "evedge.toml"))


def test_the_example_loads_as_it_is(example: Path) -> None:
    config = load(example, {})
    assert config.role == "gateway"
    assert [point.id for point in config.recharge_points] == ["rp-01", "rp-07"]
    assert config.recharge_points[0].profile == "abb-terra-ac"


def test_the_example_names_every_key() -> None:
    text = EXAMPLE.read_text()

    def missing(table: type[Section]) -> Iterator[str]:
        for key in keys(table).values():
            if not re.search(rf"(?<![A-Za-z_]){key.name}(?![A-Za-z_])", text):
                yield f"{table.__name__}.{key.name}"
            if key.table is not None:
                yield from missing(key.table)

    assert list(missing(Config)) == []


def test_its_comments_show_the_defaults() -> None:
    """Every commented `key = value` under a section whose default is not None shows that default."""
    lines = EXAMPLE.read_text().splitlines()
    checked = 0
    table: Section | None = None
    sections = {name: Config.model_fields[name].default for name in ("mqtt", "journal", "commands", "web", "log")}
    defaults: dict[str, Section | None] = {
        **sections,
        "gateway": Config.model_validate({"gateway": {"id": "a"}}).gateway,
        "kafka": (kafka := Config.model_validate({"gateway": {"id": "a"}, "kafka": {}}).kafka),
        "kafka.topics": kafka.topics if kafka else None,
    }
    for line in lines:
        if header := re.match(r"(?:# )?\[+([a-z_.]+)\]+$", line):
            table = defaults.get(header[1])
        elif table is not None and (entry := re.match(r"# ([a-z_]+) = .*", line)):
            default = getattr(table, entry[1])
            if default not in {None, ()}:
                given = tomllib.loads(line[2:])[entry[1]]
                assert given == (str(default) if not isinstance(given, (int, float)) else default), line
                checked += 1
    assert checked > 25


def test_it_lists_all_values_of_closed_sets() -> None:
    text = EXAMPLE.read_text()
    values = [
        value
        for section in Section.__subclasses__()
        for key in keys(section).values()
        if get_origin(key.item or key.type) is Literal
        for value in get_args(key.item or key.type)
    ]
    assert len(values) > 20
    assert [value for value in values if value not in text] == []
