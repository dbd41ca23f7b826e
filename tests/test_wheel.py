"""The wheel holds everything that the program needs, and the program runs from it and from nothing else."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from evedge import __version__
from evedge.profiles import names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True, timeout=120, cwd=folder)
    (found,) = folder.iterdir()
    return found


def test_the_wheel_is_named_after_the_version_and_runs_anywhere(wheel: Path) -> None:
    assert wheel.name == f"evedge-{__version__}-py3-none-any.whl"


def test_every_file_of_the_package_is_in_it(wheel: Path) -> None:
    package = ROOT / "src" / "evedge"
    files = {
        str(file.relative_to(ROOT / "src"))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert files <= inside
    assert {"evedge/py.typed", "evedge/web/static/index.html", "evedge/profiles/abb-terra-ac.toml"} <= inside
    assert {name.partition("/")[0] for name in inside} == {"evedge", f"evedge-{__version__}.dist-info"}


def test_the_entry_point_and_the_licence_are_in_it(wheel: Path) -> None:
    entry_points = configparser.ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        information = f"evedge-{__version__}.dist-info"
        entry_points.read_string(archive.read(f"{information}/entry_points.txt").decode())
        assert archive.read(f"{information}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        metadata = archive.read(f"{information}/METADATA").decode()
    assert entry_points["console_scripts"]["evedge"] == "evedge.cli.main:run"
    assert "\nRequires-Python: >=3.11\n" in metadata


def test_the_program_runs_from_it(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    environ = {"PYTHONPATH": str(tmp_path)}  # before the source that is installed for development
    where = subprocess.run(
        [sys.executable, "-c", "import evedge; print(evedge.__file__)"], capture_output=True, text=True, env=environ
    )
    assert where.stdout.startswith(str(tmp_path))
    listed = subprocess.run(
        [sys.executable, "-m", "evedge", "profiles"], capture_output=True, text=True, env=environ, cwd=tmp_path
    )
    assert listed.returncode == 0, listed.stderr
    for name in names():
        assert name in listed.stdout
