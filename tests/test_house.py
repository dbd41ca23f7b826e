"""The house's directions, read from the imports: who may know whom. ARCHITECTURE says why; this holds it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from evedge.cli.main import COMMANDS, main

SOURCE = Path(__file__).parents[1] / "src"
MODULES = sorted((SOURCE / "evedge").rglob("*.py"))
MAX_LINES = 600

ROOMS = ("cli", "web", "flows", "links", "simulator", "config", "profiles", "core")
MAY_KNOW = {
    "cli": {"app", *ROOMS} - {"flows"},
    "app": {"app", *ROOMS} - {"cli"},  # app.py, build.py, demo.py …: the modules that stand beside the rooms
    "web": {"core"},
    "flows": {"core"},
    "links": {"core"},
    "simulator": {"core"},
    "config": {"core"},
    "profiles": {"core"},
    "core": set(),
}
"""What a room may import beside itself."""

SUBJECTS = (
    {"mqtt", "broker", "passwords"},
    {"kafka", "mock"},
    {"journal", "database"},
    {"state", "database"},
    {"machine"},
    {"modbus"},
    {"lock"},
    {"systemd"},
)
"""The links' subjects, by the first word of a module's name. Helpers are shared within one, nothing between two."""

FOREIGN_TO_CORE = {"asyncio", "socket", "sqlite3", "structlog", "logging", "pathlib", "os", "time", "threading"}


@dataclass(frozen=True)
class Import:
    """`module` names a module of ours in full where it is one of ours, else the first part of a foreign one's name."""

    by: str
    module: str
    line: int

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.module}"


def _name(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {_name(file) for file in MODULES}


def _imports(file: Path) -> Iterator[Import]:
    """Every import of a module, those inside functions and under TYPE_CHECKING too."""
    name = _name(file)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import hides where things come from"
            module = node.module or ""
            found = [f"{module}.{alias.name}" if f"{module}.{alias.name}" in NAMES else module for alias in node.names]
        else:
            continue
        for module in found:
            yield Import(name, module if module.startswith("evedge") else module.partition(".")[0], node.lineno)


def _room(module: str) -> str | None:
    """`core` for evedge.core.model, `app` for what stands beside the rooms; None for the package itself."""
    parts = module.split(".")
    if len(parts) == 1:
        return None  # `from evedge import __version__`
    if parts[1] == "__main__":
        return "cli"
    return parts[1] if parts[1] in ROOMS else "app"


IMPORTS = [each for file in MODULES for each in _imports(file)]
OURS = [each for each in IMPORTS if each.module.startswith("evedge")]


def test_there_is_something_to_hold() -> None:
    assert len(MODULES) > 80
    assert {_room(name) for name in NAMES} == {None, "app", *ROOMS}


@pytest.mark.parametrize("room", sorted(MAY_KNOW))
def test_rooms_know_only_those_below_them(room: str) -> None:
    wrong = [
        str(each)
        for each in OURS
        if _room(each.by) == room and (to := _room(each.module)) not in {room, None} and to not in MAY_KNOW[room]
    ]
    assert wrong == []


def test_links_know_only_helpers_of_their_own_subject() -> None:
    def first_word(module: str) -> str:
        return module.split(".")[2].partition("_")[0]

    wrong = [
        str(each)
        for each in OURS
        if _room(each.by) == "links" == _room(each.module)
        and not any({first_word(each.by), first_word(each.module)} <= subject for subject in SUBJECTS)
    ]
    assert wrong == []


def test_core_knows_no_input_no_output_and_no_clock() -> None:
    wrong = [str(each) for each in IMPORTS if _room(each.by) == "core" and each.module in FOREIGN_TO_CORE]
    assert wrong == []


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_a_module_is_small_and_says_what_it_is_for(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert not text or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_there_and_helps(name: str) -> None:
    command = importlib.import_module(f"evedge.cli.{name.replace('-', '_')}").command
    assert isinstance(command, click.Command)
    with click.Context(command, info_name=name) as context:
        text = command.get_help(context)
    assert text.splitlines()[0].startswith(f"Usage: {name}")
    assert command.help or command.callback.__doc__
    assert f"  {name} " in main.get_help(click.Context(main))


def test_every_command_module_is_a_command_or_helps_one() -> None:
    """A file that nobody asks for is a command that was forgotten in the table."""
    with_command = {
        file.stem.replace("_", "-")
        for file in (SOURCE / "evedge" / "cli").glob("*.py")
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "command"
            for node in ast.walk(ast.parse(file.read_text()))
        )
    }
    assert with_command <= set(COMMANDS), with_command - set(COMMANDS)
