"""The command as a user meets it: a process with output, signals and an exit status."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest


def evedge(*arguments: str, **options):
    command = [sys.executable, "-m", "evedge", "simulate", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_each_listens_and_ends_cleanly_on_a_signal(number):
    process = evedge("--profile", "abb-terra-ac", "--count", "2", "--port", "0", "--fault", "busy")
    lines = [process.stdout.readline() for _ in range(2)]
    assert all("ABB Terra AC" in line and "unit id 1" in line and "busy" in line for line in lines)
    for line in lines:
        host, port = line.split()[0].split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--profile", "nope-9000"], 2, "there is no profile 'nope-9000'"),
        (["--profile", "abb-terra-ac", "--fault", "tired"], 2, "unknown fault 'tired': choose from silent"),
        (["--profile", "abb-terra-ac", "--count", "9", "--port", "65530"], 2, "ports beyond 65535"),
    ],
)
def test_wrong_usage_is_one_clear_line(arguments, status, words):
    process = evedge(*arguments)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (status, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_port_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = evedge("--profile", "abb-terra-ac", "--port", str(port))
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err == f"evedge: cannot listen on 127.0.0.1:{port}: address already in use\n"
