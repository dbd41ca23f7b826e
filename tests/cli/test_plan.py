"""`evedge plan` as a program: what it prints where, its exit status, and that `evedge check` says the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = '[gateway]\nid = "site-042"\nstate_dir = "state"\n[mqtt]\nbind = "127.0.0.1:0"\n[web]\nbind = ""\n'
KAFKA = "[kafka]\n"
POINT = '[[recharge_points]]\nid = "rp-{0:02}"\nhost = "192.0.2.{1}"\nprofile = "{2}"\n'
ABB = POINT.format(1, 10, "abb-terra-ac")
KEBA = POINT.format(2, 11, "keba-kecontact-p40")
CHARX = "".join(
    POINT.format(n, 12, "phoenix-contact-charx-sec-3xxx") + f"connector = {n}\n" for n in range(1, 13)
)  # 24 requests on one connection
KEBA_LINE = (
    "recharge_points[0].poll_interval_s = 1: a poll every 1 s cannot be kept by 192.0.2.11:502: 14 requests take"
    " 7.7 s, with 0.5 s pause and an assumed 0.05 s for the answer to each; allowed: 7.7 s or more"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evedge.toml"


def run(path: Path, text: str, *arguments: str, command: str = "plan") -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "evedge", command, "--config", str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={},
        check=False,
    )


def test_a_plan_shows_requests_connections_and_streams(path: Path) -> None:
    done = run(path, HEAD + KAFKA + ABB + KEBA)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    abb = ["rp-01", "abb-terra-ac", "every", "1", "s", "holding", "16390", "to", "16419", "at", "unit", "1"]
    assert [*abb, "3", "30", "12+69", "1"] in lines
    assert sum(line[:5] == ["rp-02", "keba-kecontact-p40", "every", "10", "s"] for line in lines) == 14
    assert ["192.0.2.10:502", "1", "1", "81", "0.05", "5%"] in lines
    assert ["192.0.2.11:502", "1", "1.4", "35", "7.2", "77%"] in lines
    assert any(line[:2] == ["evedge.telemetry", "95,040"] for line in lines)
    assert any(line.startswith("MQTT: 1.133 messages/s, ") for line in done.stdout.splitlines())
    assert any(line.startswith("assumed: a device answers in 0.05 s") for line in done.stdout.splitlines())
    assert not (path.parent / "state").exists(), "planning leaves no trace"


def test_a_device_that_cannot_keep_up_is_refused_with_the_interval_it_could_keep(path: Path) -> None:
    text = HEAD + KAFKA + KEBA
    done = run(path, text + "poll_interval_s = 1.0")
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (2, "", [KEBA_LINE])
    assert run(path, text + "poll_interval_s = 7.7").returncode == 0


def test_recharge_points_that_share_a_connection_are_one_line(path: Path) -> None:
    done = run(path, HEAD + KAFKA + CHARX)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("recharge_points[0].poll_interval_s: a poll every 1 s cannot be kept by 192.0.2.12:502: 24 ")
    assert line.endswith("rp-01 to rp-12 share it; allowed: 1.2 s or more for each of these 12")


def test_every_endpoint_that_cannot_keep_up_is_a_line(path: Path) -> None:
    done = run(path, HEAD + KEBA + "poll_interval_s = 1\n" + KEBA.replace("02", "03").replace("11", "13") + ABB)
    assert len(done.stderr.splitlines()) == 1
    done = run(
        path, HEAD + KEBA + "poll_interval_s = 1\n" + POINT.format(3, 13, "keba-kecontact-p40") + "poll_interval_s = 2"
    )
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == [
        "recharge_points[0].poll_interval_s",
        "recharge_points[1].poll_interval_s",
    ]


def test_a_measured_answer_time_replaces_the_assumed_one(path: Path) -> None:
    assert run(path, HEAD + KAFKA + CHARX, "--answer-time-s", "0.02").returncode == 0


def test_check_notes_what_plan_refuses(path: Path) -> None:
    done = run(path, HEAD + KAFKA + KEBA + "poll_interval_s = 1.0", command="check")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"note: {KEBA_LINE}" in done.stdout.splitlines()


def test_faster_than_the_profile_recommends_is_a_note(path: Path) -> None:
    done = run(path, HEAD + KAFKA + ABB + "poll_interval_s = 0.25")
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if line.startswith("note: ")] == [
        "note: recharge_points[0].poll_interval_s = 0.25: profile abb-terra-ac recommends 1 s",
        "note: recharge_points[0].poll_interval_s = 0.25: polls start on a grid of 0.1 s, so every 0.3 s",
    ]


def test_mistakes_of_the_configuration_come_first(path: Path) -> None:
    done = run(path, HEAD + KEBA + 'poll_interval_s = 1\n[log]\nlevel = "loud"')
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'log.level = "loud": is not known; allowed: debug, info, warning, error\n'


def test_json_is_one_document_either_way(path: Path) -> None:
    good = json.loads(run(path, HEAD + KAFKA + ABB, "--json").stdout)
    (point,) = good["recharge_points"]
    assert (good["ok"], point["recharge_point"], point["requests_per_s"], point["bytes_per_poll"]) == (
        True,
        "rp-01",
        1.0,
        81,
    )
    assert good["endpoints"][0]["occupancy"] == 0.05
    assert good["mqtt"]["messages_per_s"] == pytest.approx(1 + 1 / 30)
    assert good["kafka"]["records_per_day"] == pytest.approx(86_400 + 2_880)
    assert 0 < good["kafka"]["bytes_per_day"] < good["kafka"]["uncompressed_bytes_per_day"]

    bad = json.loads(run(path, HEAD + KEBA + "poll_interval_s = 1", "--json").stdout)
    assert (bad["ok"], bad["mqtt"], bad["kafka"]) == (False, None, None)
    assert [mistake["text"] for mistake in bad["mistakes"]] == [KEBA_LINE]
    assert bad["endpoints"][0]["lowest_poll_interval_s"] == 7.7

    wrong = json.loads(run(path, HEAD + "[webb]", "--json").stdout)
    assert (wrong["ok"], wrong["mistakes"][0]["path"]) == (False, "webb")


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_estimated(path: Path, compression: str) -> None:
    kafka = json.loads(run(path, HEAD + f'[kafka]\ncompression = "{compression}"\n' + ABB, "--json").stdout)["kafka"]
    assert kafka["compression"] == compression
    assert (kafka["bytes_per_day"] == kafka["uncompressed_bytes_per_day"]) == (compression == "none")


def test_without_kafka_and_recharge_points_there_is_still_a_plan(path: Path) -> None:
    done = run(path, HEAD)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Kafka: none; nothing leaves the site" in done.stdout.splitlines()
    assert json.loads(run(path, HEAD, "--json").stdout)["kafka"] is None
