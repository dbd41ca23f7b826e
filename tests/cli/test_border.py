"""What a shell does to a command, and what a user gets wrong: plain lines, the right status, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EVEDGE = [sys.executable, "-m", "evedge"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["--nosuch"], "No such option"),
        (["check"], "Missing option '--config'"),
        (["journal"], "evedge journal needs a command: dead-letters, stat"),
        (["demo", "--recharge-points", "0"], "0 is not in the range"),
        (["status", "--url", "http://[::1"], "http://[::1 is no URL"),
    ],
)
def test_wrong_usage_is_one_line_and_perhaps_where_to_look(arguments, words):
    done = subprocess.run([*EVEDGE, *arguments], capture_output=True, text=True, timeout=30, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert not done.stdout
    assert words in lines[0]
    assert lines[0].startswith("evedge: ")
    assert all(line.startswith("Try 'evedge") for line in lines[1:])
    assert len(lines) <= 2


def test_a_reader_that_has_had_enough_is_no_failure():
    shell = f"'{sys.executable}' -m evedge profiles show abb-terra-ac | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("closed", "status"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 1)], ids=str
)
def test_closed_and_full_outputs_are_no_defects(closed, status, tmp_path: Path):
    said = tmp_path / "said"
    shell = f"exec 2>'{said}'; '{sys.executable}' -m evedge profiles {closed}"
    done = subprocess.run(["bash", "-c", shell], stdout=subprocess.DEVNULL, timeout=30, check=False)
    assert done.returncode == status
    assert "defect" not in said.read_text()
    assert "Traceback" not in said.read_text()
