"""`evedge check` as a program: what it prints where, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """
[gateway]
id = "site-042"
state_dir = "state"
[mqtt]
bind = "127.0.0.1:0"
[kafka]
[web]
bind = ""
[[recharge_points]]
id = "rp-01"
host = "192.0.2.10"
profile = "abb-terra-ac"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "evedge.toml"
    path.write_text(GOOD)
    return path


def check(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "evedge", "check", "--config", str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={},
        check=False,
    )


def test_a_good_configuration_is_summed_up(path: Path) -> None:
    done = check(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{path}: no mistakes",
        "  gateway          site-042",
        "  role             gateway: forwards to Kafka and takes commands from there",
        "  broker           in this process on 127.0.0.1:0, users: none",
        "  recharge points  1 x abb-terra-ac",
        "  Kafka            127.0.0.1:9092 (PLAINTEXT, gzip)",
        (
            "  Kafka topics     evedge.telemetry, evedge.alerts, evedge.status, evedge.gateway-telemetry,"
            " evedge.gateway-status, evedge.commands, evedge.command-results, evedge.dead-letters"
        ),
        f"  journal          {path.parent}/state, up to 1,073,741,824 bytes, then publishers wait",
        "  web              switched off",
    ]
    assert not (path.parent / "state").exists(), "checking leaves no trace"


def test_mistakes_go_to_standard_error_one_line_each(path: Path) -> None:
    path.write_text(GOOD + 'poll_interval_s = 0\ntimout_s = 3\n[log]\nlevel = "loud"')
    done = check(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "recharge_points[0].poll_interval_s = 0: is too small; allowed: a number from 0.1 to 86400",
        "recharge_points[0].timout_s = 3: is not a known key; did you mean timeout_s?",
        'log.level = "loud": is not known; allowed: debug, info, warning, error',
    ]


def test_an_unknown_profile_comes_with_the_other_mistakes(path: Path) -> None:
    path.write_text(GOOD.replace("abb-terra-ac", "abb-tera-ac") + '[log]\nlevel = "loud"')
    done = check(path)
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        'recharge_points[0].profile = "abb-tera-ac"',
        'log.level = "loud"',
    ]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = check(tmp_path / "no.toml")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{tmp_path}/no.toml: does not exist\n")


def test_a_local_broker_is_called_one(path: Path) -> None:
    path.write_text(GOOD.replace("[kafka]\n", ""))
    done = check(path)
    assert done.returncode == 0
    assert "note: no [kafka]: a local broker and poller, nothing leaves the site" in done.stdout.splitlines()


def test_json_is_one_document_either_way(path: Path) -> None:
    good = json.loads(check(path, "--json").stdout)
    assert (good["ok"], good["role"], good["mistakes"]) == (True, "gateway", [])
    assert good["recharge_points"] == [{"recharge_point": "rp-01", "profile": "abb-terra-ac", "agent": None}]
    path.write_text(GOOD + "port = 0")
    bad = check(path, "--json")
    assert bad.returncode == 2
    assert json.loads(bad.stdout)["mistakes"] == [
        {
            "path": "recharge_points[0].port",
            "source": None,
            "value": "0",
            "what": "is too small",
            "allowed": "a port from 1 to 65535",
            "suggestion": None,
            "text": "recharge_points[0].port = 0: is too small; allowed: a port from 1 to 65535",
        }
    ]


def test_connect_that_fails_ends_with_1(path: Path) -> None:
    path.write_text(GOOD.replace("[kafka]", '[kafka]\nbootstrap_servers = ["127.0.0.1:1"]').split("[[rech")[0])
    done = check(path, "--connect")
    assert done.returncode == 1
    assert "FAILED: kafka.bootstrap_servers: 127.0.0.1:1: connection refused" in done.stdout.splitlines()
    assert "ok: mqtt.bind: 127.0.0.1:0 is free" in done.stdout.splitlines()
    report = json.loads(check(path, "--connect", "--json").stdout)
    assert report["ok"] is False
    assert report["tried"][-1] == {
        "subject": "kafka.bootstrap_servers",
        "ok": False,
        "seen": "127.0.0.1:1: connection refused",
    }


def test_no_secret_is_printed(path: Path) -> None:
    login = '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'
    for text in (
        f'{login}sasl_password = "hunter2"',
        f'{login}sasl_pasword = "hunter2"',
        '[kafka]\nsasl_password = "hunter2"',
    ):
        path.write_text(GOOD.replace("[kafka]", text))
        for arguments in ([], ["--json"]):
            done = check(path, *arguments)
            assert "hunter2" not in done.stdout + done.stderr
