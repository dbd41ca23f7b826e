"""What is wrong from outside gets one clear line, or a record that says so, and everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import aiomqtt
import pytest
from argon2 import PasswordHasher

from evedge.core.delivery import ConsumedRecord
from evedge.core.times import to_rfc3339
from evedge.profiles import load_profile
from evedge.simulator import SimulatedRechargePoint
from kafka_server import RealKafka
from system.harness import (
    DEADLINE_S,
    configuration,
    decoded,
    distinct,
    evedge,
    eventually,
    free_port,
    gateway,
    headers,
    of,
    polled,
)

# What keeps it from starting: exit status 2 and a line for each mistake, before anything is opened.


async def _refused(file: Path, status: int) -> list[str]:
    """The lines on standard error of a gateway that does not start."""
    finished = await evedge("--config", str(file))
    assert finished.status == status, finished
    assert not finished.stdout
    assert "Traceback" not in finished.stderr
    return finished.stderr.splitlines()


async def test_a_missing_file(tmp_path: Path) -> None:
    file = tmp_path / "nowhere.toml"
    (line,) = await _refused(file, 2)
    assert line.startswith("evedge: ")
    assert str(file) in line
    assert "does not exist" in line


async def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "evedge.toml"
    file.write_text('[gateway]\nid = "site-042\n')
    (line,) = await _refused(file, 2)
    assert str(file) in line
    assert "line 2" in line


async def test_every_mistake_has_a_line(tmp_path: Path) -> None:
    file = tmp_path / "evedge.toml"
    file.write_text(
        '[gateway]\nid = "site 042"\ncolour = "red"\n[mqtt]\nbindd = "127.0.0.1:0"\n[log]\nlevel = "loud"\n'
    )
    lines = await _refused(file, 2)
    for mistake in ("gateway.id", "gateway.colour", "mqtt.bindd", "log.level"):
        assert len([line for line in lines if mistake in line]) == 1, lines
    assert len(lines) == 4, lines
    assert not (tmp_path / "state").exists()


async def test_a_profile_with_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[device]\nvendor = "V"\nmodel = "M"\n[registers]\ncurrent_l1_a = { address = 1, type = "int17", unit = "A" }\n'
    )
    file = tmp_path / "evedge.toml"
    point = '[[recharge_points]]\nid = "rp-01"\nhost = "127.0.0.1"\nprofile = "mine.toml"\n'
    file.write_text(configuration(tmp_path, "site-042", mqtt_port=0, more=point))
    lines = await _refused(file, 2)
    assert len([line for line in lines if "int17" in line]) == 1, lines
    assert all("mine.toml" in line for line in lines)


async def test_an_mqtt_port_that_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "evedge.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file.write_text(configuration(tmp_path, "site-042", mqtt_port=port))
        event = await _failed(file)
    assert f"127.0.0.1:{port}" in event
    assert "another program listens there" in event


async def test_a_state_directory_that_is_taken(tmp_path: Path) -> None:
    text = configuration(tmp_path, "site-042", mqtt_port=0)
    async with gateway(tmp_path, text) as run:
        other = tmp_path / "other.toml"
        other.write_text(text)
        event = await _failed(other)
        assert str(tmp_path / "state") in event
        assert run.process is not None
        assert f"pid {run.process.pid}" in event


async def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "evedge.toml"
    file.write_text(configuration(tmp_path, "site-042", mqtt_port=0))
    (tmp_path / "state").write_text("")
    assert str(tmp_path / "state") in await _failed(file)


async def _failed(file: Path) -> str:
    """The one error that a gateway tells which gives up at its start."""
    events = [json.loads(line) for line in await _refused(file, 1)]
    (error,) = [event for event in events if event["level"] == "error"]
    assert error["event"] == "gateway_failed"
    assert "\n" not in error["error"]
    return str(error["error"])


# What comes while it runs.


async def test_a_wrong_password_gets_nowhere(tmp_path: Path) -> None:
    port = free_port()
    hashed = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("right")
    users = f'[[mqtt.users]]\nname = "plc-1"\npassword_hash = "{hashed}"\nsubscribe = ["a"]\n'
    text = configuration(tmp_path, "site-042", mqtt_port=port, mqtt=users)
    async with gateway(tmp_path, text) as run:
        bad = "Bad user name or password"  # the same for a user that exists and one that does not
        for user, password, answer in (
            ("plc-1", "wrong", bad),
            ("plc-2", "right", bad),
            (None, None, "Not authorized"),
        ):
            with pytest.raises(aiomqtt.MqttError, match=answer):
                async with aiomqtt.Client("127.0.0.1", port, username=user, password=password, timeout=DEADLINE_S):
                    pass
        async with aiomqtt.Client("127.0.0.1", port, username="plc-1", password="right", timeout=DEADLINE_S) as client:
            await client.subscribe("a")
        assert "wrong" not in run.said()


BAD_BYTES = {
    "http": b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "tls": bytes.fromhex("16030100f8010000f40303") + bytes(200),
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "endless length": b"\x10\xff\xff\xff\xff\xff\xff",
    "huge length": b"\x10\xff\xff\xff\x7f",
    "wrong protocol": b"\x10\x10\x00\x04MQTX\x04\x02\x00\x3c\x00\x04abcd",
    "publish before connect": b"\x30\x05\x00\x01ahi",
    "cut short": b"\x10\x20\x00\x04MQTT",
    "connected, then nonsense": b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04odd1" + b"\xf7\x02zz",
    "connected, then a wildcard": b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04odd2" + b"\x32\x07\x00\x01#\x00\x01hi",
    "connected, then no UTF-8": b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04odd3" + b"\x30\x05\x00\x02\xc3\x28x",
}


@pytest.mark.kafka
async def test_bytes_that_are_no_mqtt_disturb_nobody(real_kafka: RealKafka, tmp_path: Path, unique_name: str) -> None:
    port = free_port()
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port)
    async with gateway(tmp_path, text) as run, aiomqtt.Client("127.0.0.1", port, timeout=DEADLINE_S) as neighbour:
        sent = []
        for name, raw in BAD_BYTES.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            if name == "cut short":
                writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(DEADLINE_S):  # it is closed, whatever may have been said before
                    await reader.read()
            writer.close()
            sent.append(name.encode())
            await neighbour.publish("factory/neighbour/1", sent[-1], qos=1)
        records = await run.records("factory", until=lambda found: len(found) >= len(sent))
        assert [record.value for record in records] == sent


def _command(name: str, **fields: object) -> bytes:
    whole = {"gateway": name, "expires_at": to_rfc3339(time.time_ns() // 1_000_000 + 60_000), **fields}
    return json.dumps(whole).encode()


@pytest.mark.kafka
async def test_commands_that_make_no_sense(real_kafka: RealKafka, tmp_path: Path, unique_name: str) -> None:
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=0)
    point = '[[recharge_points]]\nid = "rp-01"\nagent = "plc-1"\n'
    ours, foreign = unique_name.encode(), b"another/rp-01"
    values: list[tuple[bytes, bytes | None]] = [
        (ours, b"{not json"),
        (ours + b"/rp-01", b"\xff\xfe"),
        (ours, None),
        (ours, b"[]"),
        (foreign, b"{not json"),
        (foreign, _command("another", id="theirs", action="ping")),
        (ours, _command("another", id="theirs too", action="ping")),
        (ours, _command(unique_name, id="odd", action="dance", recharge_point="rp-01")),
        (ours, _command(unique_name, id="typed", action="set_current_limit", recharge_point="rp-01", arguments=[])),
        (ours, _command(unique_name, id="last", action="ping")),
    ]
    async with gateway(tmp_path, text + point) as run:
        for key, value in values:
            await run.produce("commands", value, key=key)
        results = await run.records(
            "command_results", until=lambda found: "last" in [result["id"] for result in decoded(found)]
        )
        letters = await run.records("dead_letters", until=lambda found: len(found) >= 5)
        assert await run.stop() == 0
    final = {result["id"]: result["state"] for result in decoded(results) if result["final"]}
    assert final == {"odd": "rejected", "typed": "rejected", "last": "verified"}
    assert all(result["reason"] for result in decoded(results) if result["state"] == "rejected")
    expected = [values[index] for index in (0, 1, 2, 3, 6)]  # null is an empty value: headers tell what is wrong
    assert sorted((letter.key, letter.value or b"") for letter in letters) == sorted(
        (key, value or b"") for key, value in expected
    )
    assert all(headers(letter)["kafka_topic"] == f"{unique_name}.commands" for letter in letters)
    assert all(headers(letter)["reason"] and headers(letter)["error"] for letter in letters)


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_without_kafka_the_site_works_and_the_cloud_learns_it_all(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    port = free_port()
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        more = polled("rp-01", point, poll_interval_s=0.2)
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port, more=more)
        async with gateway(tmp_path, text) as run:
            await run.kill()
            real_kafka.kill()
            await run.start()
            await run.logged("lane_blocked")
            async with aiomqtt.Client("127.0.0.1", port, timeout=DEADLINE_S) as client:
                await client.subscribe(f"evedge/{unique_name}/rp/rp-01/telemetry")
                await client.publish("factory/a/1", b"first", qos=1)
                await client.publish("factory/a/1", b"second", qos=2)
                seen: list[dict[str, object]] = []
                async with asyncio.timeout(DEADLINE_S):
                    async for message in client.messages:
                        seen.append(json.loads(message.payload))
                        if len(seen) == 20:
                            break
            first, last = int(str(seen[0]["seq"])), int(str(seen[-1]["seq"]))
            assert last - first == 19
            await asyncio.to_thread(real_kafka.start)
            await run.records("factory", until=lambda found: [each.value for each in found] == [b"first", b"second"])
            telemetry = await run.records("telemetry", until=lambda found: seen[-1] in decoded(found))
            arrived = of(distinct(telemetry), "rp-01")
            assert [value for value in arrived if first <= value["seq"] <= last] == seen
            await run.logged("alert_cleared", kind="kafka_lost")
            kinds = [
                (alert["kind"], alert["state"]) for alert in decoded(await run.records("alerts", until=_kafka_back))
            ]
            assert ("kafka_lost", "raised") in kinds


def _kafka_back(found: Sequence[ConsumedRecord]) -> bool:
    return ("kafka_lost", "cleared") in [(each["kind"], each["state"]) for each in decoded(found)]


@pytest.mark.kafka
async def test_a_wrong_kafka_password_is_told_and_the_site_works(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    port = free_port()
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port).replace(
        f'bootstrap_servers = ["{real_kafka.bootstrap}"]',
        f'bootstrap_servers = ["{real_kafka.sasl_bootstrap}"]\nsecurity_protocol = "SASL_PLAINTEXT"\n'
        'sasl_mechanism = "PLAIN"\nsasl_username = "gateway"\nsasl_password = "hunter2"',
    )
    async with gateway(tmp_path, text, topics=False) as run:
        told = await run.logged("alert_raised", kind="kafka_lost")
        assert "uthentication" in told["message"]
        async with aiomqtt.Client("127.0.0.1", port, timeout=DEADLINE_S) as client:
            await client.publish("factory/a/1", b"kept", qos=1)
        assert "hunter2" not in run.said()
        run.signal(signal.SIGTERM)
        await run.logged("gateway_stopping")
        run.signal(signal.SIGTERM)  # nobody waits for a Kafka that will not have us
        assert await run.ended() == 0


@pytest.mark.kafka
@pytest.mark.parametrize("fault", ["silent", "reset", "garbage", "busy"])
async def test_a_dead_recharge_point_is_told_and_slows_nobody(
    fault: str, real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    profile = load_profile("abb-terra-ac")
    async with SimulatedRechargePoint(profile) as dead, SimulatedRechargePoint(profile, seed=2) as alive:
        more = polled("rp-01", dead, poll_interval_s=0.5, timeout_s=0.5)
        more += polled("rp-02", alive, poll_interval_s=0.5)
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=0, more=more)
        async with gateway(tmp_path, text) as run:
            await run.logged("status_changed", recharge_point="rp-01", state="online")
            dead.set_faults(fault)
            told = await run.logged("status_changed", recharge_point="rp-01", state="offline")
            assert told["reason"]
            bad = await run.records("telemetry", until=lambda found: len(_bad(of(found, "rp-01"))) >= 6)
            dead.set_faults()
            await eventually(lambda: _last_state(run.events("status_changed"), "rp-01") == "online", "it to come back")
            assert await run.stop() == 0
            telemetry = await run.records("telemetry", until=lambda found: len(found) >= len(bad))
            statuses = of(await run.records("status", until=lambda found: len(of(found, "rp-01")) >= 3), "rp-01")
    for value in _bad(of(telemetry, "rp-01")):
        assert value["values"] == {}
        assert value["errors"]
    assert [status["state"] for status in statuses][-3:] == ["online", "offline", "online"]
    assert statuses[-2]["reason"] == told["reason"]
    for name in ("rp-01", "rp-02"):
        values = of(telemetry, name)
        assert [value["seq"] for value in values] == list(range(1, len(values) + 1))
    healthy = of(telemetry, "rp-02")
    assert {value["quality"] for value in healthy} == {"good"}
    # One reading an interval for both of them, whatever the other does.
    assert abs(len(healthy) - len(of(telemetry, "rp-01"))) <= 3


def _bad(values: list[dict[str, object]]) -> list[dict[str, object]]:
    return [value for value in values if value["quality"] == "bad"]


def _last_state(events: list[dict[str, object]], recharge_point: str) -> object:
    return [event["state"] for event in events if event["recharge_point"] == recharge_point][-1]
