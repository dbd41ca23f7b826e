"""What systemd and an operator rely on: notifications, signals, reloading, the unit file."""

from __future__ import annotations

import asyncio
import configparser
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import aiomqtt
import pytest

from evedge.cli.main import COMMANDS
from evedge.profiles import load_profile
from evedge.simulator import SimulatedRechargePoint
from kafka_server import RealKafka
from system.harness import DEADLINE_S, configuration, decoded, distinct, eventually, free_port, gateway, polled

UNIT = Path(__file__).parents[2] / "systemd" / "evedge.service"


async def test_systemd_hears_ready_life_and_stopping(tmp_path: Path) -> None:
    text = configuration(tmp_path, "site-042", mqtt_port=0)
    async with gateway(tmp_path, text, WATCHDOG_USEC="400000") as run:
        assert run.notify.heard[0] == "READY=1"
        assert any(line.startswith("STATUS=") and "127.0.0.1:" in line for line in run.notify.heard)
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(3):
                await run.notify.hear("WATCHDOG=1")
        run.signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            await run.notify.hear("STOPPING=1")
        assert await run.ended() == 0
        assert [event["event"] for event in run.events()][-1] == "gateway_stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_both_signals_stop_it(number: signal.Signals, tmp_path: Path) -> None:
    async with gateway(tmp_path, configuration(tmp_path, "site-042", mqtt_port=0)) as run:
        run.signal(number)
        assert await run.ended() == 0


async def test_without_a_watchdog_nobody_is_fed(tmp_path: Path) -> None:
    async with gateway(tmp_path, configuration(tmp_path, "site-042", mqtt_port=0)) as run:
        assert await run.stop() == 0
        async with asyncio.timeout(DEADLINE_S):
            await run.notify.hear("STOPPING=1")
        assert "WATCHDOG=1" not in run.notify.heard


async def test_a_reload_applies_a_good_file_and_refuses_a_bad_one(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    text = configuration(tmp_path, "site-042", mqtt_port=port)
    async with gateway(tmp_path, text) as run, SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        async with aiomqtt.Client("127.0.0.1", port, timeout=DEADLINE_S) as client:
            run.reconfigure(text.replace("[web]", "[webb]") + '[log]\nlevel = "loud"\n')
            run.signal(signal.SIGHUP)
            mistakes = await eventually(
                lambda: [event["mistake"] for event in run.events("reload_refused")][1:] or None, "the refusal"
            )
            assert len(run.events("reload_refused")) == 2, mistakes
            await client.publish("still/there", b"1", qos=1)  # the connection was never touched

        run.reconfigure(configuration(tmp_path, "site-042", mqtt_port=other, more=polled("rp-01", point)))
        run.signal(signal.SIGHUP)
        async with asyncio.timeout(DEADLINE_S):
            # Not STOPPING=1: systemd would take it for the end and kill what comes after.
            await run.notify.hear("RELOADING=1")
            await run.notify.hear("READY=1")
        assert "STOPPING=1" not in run.notify.heard
        await run.logged("status_changed", recharge_point="rp-01", state="online")
        async with aiomqtt.Client("127.0.0.1", other, timeout=DEADLINE_S) as client:
            await client.publish("new/place", b"1", qos=1)
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", port, timeout=5):
                pass


@pytest.mark.kafka
async def test_seq_goes_on_over_a_reload(real_kafka: RealKafka, tmp_path: Path, unique_name: str) -> None:
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        text = configuration(
            tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=0, more=polled("rp-01", point)
        )
        async with gateway(tmp_path, text) as run:
            await run.records("telemetry", until=lambda found: len(found) >= 2)
            run.signal(signal.SIGHUP)
            async with asyncio.timeout(DEADLINE_S):
                await run.notify.hear("READY=1")
            records = await run.records("telemetry", until=lambda found: len(found) >= 6)
            assert await run.stop() == 0
    assert [value["seq"] for value in decoded(records)] == list(range(1, len(records) + 1))


async def test_a_reload_that_cannot_be_opened_gives_way_to_the_former_configuration(tmp_path: Path) -> None:
    port = free_port()
    async with gateway(tmp_path, configuration(tmp_path, "site-042", mqtt_port=port)) as run:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            run.reconfigure(configuration(tmp_path, "site-042", mqtt_port=taken.getsockname()[1]))
            run.signal(signal.SIGHUP)
            await run.logged("reload_failed")
            async with asyncio.timeout(DEADLINE_S):
                await run.notify.hear("READY=1")
        async with aiomqtt.Client("127.0.0.1", port, timeout=DEADLINE_S) as client:
            await client.publish("local/still", b"here", qos=1)
        assert await run.stop() == 0


async def test_a_stop_during_a_reload_is_a_stop(tmp_path: Path) -> None:
    async with gateway(tmp_path, configuration(tmp_path, "site-042", mqtt_port=0)) as run:
        run.signal(signal.SIGHUP)
        run.signal(signal.SIGTERM)
        assert await run.ended() == 0
        assert len(run.events("gateway_started")) == 1


@pytest.mark.kafka
async def test_a_second_signal_cuts_the_wait_for_kafka_short(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    port = free_port()
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port)
    async with gateway(tmp_path, text) as run:
        await run.records("gateway_status", until=bool)
        real_kafka.pause()
        async with aiomqtt.Client("127.0.0.1", port, timeout=DEADLINE_S) as client:
            await client.publish("factory/a/1", b"not lost", qos=1)
        run.signal(signal.SIGTERM)
        await run.logged("gateway_stopping")
        run.signal(signal.SIGTERM)
        assert await run.ended() == 0
        assert run.events("gateway_not_drained")[0]["waiting_on_disk"] >= 2  # the message, and `offline`
        real_kafka.resume()
        await run.start()
        await run.records("factory", until=lambda found: [each.value for each in distinct(found)] == [b"not lost"])
        statuses = await run.records("gateway_status", until=lambda found: len(distinct(found)) >= 3)
        assert [status["state"] for status in decoded(distinct(statuses))] == ["online", "offline", "online"]


def _unit() -> configparser.ConfigParser:
    class Keys(configparser.ConfigParser):
        def optionxform(self, optionstr: str) -> str:
            return optionstr

    parsed = Keys(strict=False, interpolation=None)
    parsed.read_string(UNIT.read_text())
    return parsed


def test_the_unit_starts_what_exists() -> None:
    unit = _unit()
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "evedge"
    assert arguments == ["--config", "/etc/evedge/evedge.toml"]
    assert arguments[0] not in COMMANDS
    assert unit["Service"]["Type"] == "notify"
    assert "HUP" in unit["Service"]["ExecReload"]
    assert unit["Service"]["RestartPreventExitStatus"] == "2"
    assert float(unit["Service"]["TimeoutStopSec"]) > 25  # the gateway ends a hung stop by itself before
    assert unit["Service"]["StateDirectory"] == "evedge"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "evedge.service"
    unit.write_text(UNIT.read_text().replace("/opt/evedge/bin/evedge", "/bin/true").replace("file:/etc", "file:/tmp"))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=30)
    complaints = [line for line in verified.stderr.splitlines() if "evedge.service" in line]
    assert complaints == []


async def test_a_stop_ends_a_start_that_waits_for_the_disk(tmp_path: Path) -> None:
    async with gateway(tmp_path, configuration(tmp_path, "svc-disk", mqtt_port=free_port())) as site:
        assert await site.stop() == 0
        with closing(sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # as a full disk does it: nothing can be written
            await site.spawn()
            await site.logged("disk_failed")
            assert await site.stop() == 0
        await site.logged("start_cut")
