from __future__ import annotations

import os
import pty
import subprocess
import sys

import argon2
import pytest
from click.testing import CliRunner

from evedge.cli.hash_password import command
from evedge.core.errors import UsageError


@pytest.mark.parametrize("line", ["päss word", "päss word\n", "päss word\r\n", "päss word\nnext line\n"])
def test_one_line_from_standard_input_becomes_a_hash_and_nothing_else(line):
    result = CliRunner().invoke(command, input=line)
    assert result.exit_code == 0
    assert result.output.count("\n") == 1
    assert argon2.PasswordHasher().verify(result.stdout.strip(), "päss word")


@pytest.mark.parametrize("line", [b"", b"\n", b"caf\xe9\n", b"x" * 2000])
def test_what_is_no_password_is_said_in_one_line(line):
    result = CliRunner().invoke(command, input=line)
    assert isinstance(result.exception, UsageError)


def test_a_terminal_is_asked_twice_and_shows_nothing():
    main, terminal = pty.openpty()
    program = "from evedge.cli.hash_password import command; command()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    shown = b""
    for prompt in (b"Password: ", b"Again: "):
        while not shown.endswith(prompt):
            shown += os.read(main, 100)
        os.write(main, b"secret\n")
    out, _ = process.communicate(timeout=20)
    os.close(main)
    assert process.returncode == 0
    assert b"secret" not in shown
    assert argon2.PasswordHasher().verify(out.decode().strip(), "secret")
