"""`evedge --help` answers at once: it brings none of the libraries that only a command needs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("pydantic", "pydantic_settings", "asyncio", "structlog", "aiokafka", "pymodbus", "amqtt", "rich")


def test_help_imports_no_library_but_click() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "evedge", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        env={},
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in imported
    assert imported & set(HEAVY) == set()
