"""The main job, end to end: recharge points and MQTT clients on one side, a real Kafka on the other."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from evedge.core.delivery import ConsumedRecord
from evedge.core.measurands import MEASURANDS
from evedge.core.times import from_rfc3339, to_rfc3339
from evedge.profiles import load_profile
from evedge.simulator import ManualClock, SimulatedRechargePoint
from kafka_server import RealKafka
from system.harness import (
    DEADLINE_S,
    Finished,
    GatewayProcess,
    configuration,
    decoded,
    free_port,
    gateway,
    headers,
    of,
    polled,
)

pytestmark = pytest.mark.kafka

PROFILES = {"rp-01": "abb-terra-ac", "rp-02": "alfen-eve-ng9xx", "rp-03": "phoenix-contact-charx-sec-3xxx"}


def client(port: int, name: str = "test", **more: Any) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", port, identifier=name, timeout=DEADLINE_S, **more)


def charging(profile: str, clock: ManualClock, seed: int) -> SimulatedRechargePoint:
    """A recharge point in the middle of a charge, whose time stands still."""
    point = SimulatedRechargePoint(load_profile(profile), seed=seed, clock=clock)
    for _ in range(80):
        clock.advance(0.5)
        point.registers()
    assert point.state == "charging"
    return point


async def test_every_measurand_on_kafka_is_what_the_registers_hold(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    async with AsyncExitStack() as stack:
        points = {}
        for seed, (name, profile) in enumerate(PROFILES.items(), 7):
            points[name] = await stack.enter_async_context(charging(profile, ManualClock(1000.0), seed))
        more = "".join(polled(name, point) for name, point in points.items())
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=0, more=more)
        run = await stack.enter_async_context(gateway(tmp_path, text))
        records = await run.records("telemetry", until=lambda found: _all_told(found, points))
        statuses = await run.records("status", until=lambda found: _all_told(found, points))

        for name, point in points.items():
            telemetry = of(records, name)[0]
            assert telemetry["quality"] == "good", telemetry["errors"]
            assert telemetry["errors"] == {}
            assert telemetry["values"] == _expected(point)
            # The registers are rounded; that they mean what the wire says is for the perfect meter to tell.
            for measurand, value in telemetry["values"].items():
                true = point.measured().get(measurand)
                if isinstance(true, float):
                    assert value == pytest.approx(true, rel=0.01, abs=1.0), measurand
            status = of(statuses, name)[-1]
            assert status["state"] == "online"
            assert status["vendor"] == point.profile.vendor
            assert status["serial_number"] == point.serial_number
            assert status["firmware"]


def _all_told(found: Sequence[ConsumedRecord], points: dict[str, SimulatedRechargePoint]) -> bool:
    return {value["recharge_point"] for value in decoded(found)} >= set(points)


def _expected(point: SimulatedRechargePoint) -> dict[str, object]:
    """The measurands of the profile as the device's registers hold them."""
    offered = {name: value for name, value in point.registers().items() if name in MEASURANDS and value is not None}
    if "error_code" in offered:
        offered["error_code"] = point.profile.registers["error_code"].enum[offered["error_code"]]
    return {**offered, "state": str(point.state), "plugged": point.measured()["plugged"]}


async def test_seq_counts_without_a_gap_over_a_clean_restart(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        more = polled("rp-01", point, poll_interval_s=0.2)
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=0, more=more)
        async with gateway(tmp_path, text) as run:
            await run.records("telemetry", until=lambda found: len(found) >= 10)
            assert await run.stop() == 0
            before = await run.records("telemetry", until=bool)
            assert decoded(await run.records("gateway_status", until=_ends_offline))[-1]["state"] == "offline"
            await run.start()
            await run.records("telemetry", until=lambda found: len(found) >= len(before) + 10)
            assert await run.stop() == 0
            records = await run.records("telemetry", until=lambda found: len(found) >= len(before) + 10)
            statuses = decoded(await run.records("gateway_status", until=lambda found: len(found) >= 4))
            alerts = await _everything(run, "alerts")
    assert [value["seq"] for value in decoded(records)] == list(range(1, len(records) + 1))
    assert [status["state"] for status in statuses] == ["online", "offline"] * 2
    assert not [alert for alert in decoded(alerts) if alert["kind"] == "unclean_restart"]
    times = [from_rfc3339(value["measured_at"]) for value in decoded(records)]
    assert times == [record.timestamp_ms for record in records]
    assert times == sorted(times)
    assert len({headers(record)["ce_id"] for record in records}) == len(records)
    for record, value in zip(records, decoded(records), strict=True):
        assert record.key == f"{unique_name}/rp-01".encode()
        assert headers(record) == {
            "ce_specversion": "1.0",
            "ce_id": headers(record)["ce_id"],
            "ce_source": f"/evedge/{unique_name}/rp-01",
            "ce_subject": "rp-01",
            "ce_type": "evedge.telemetry.v1",
            "ce_time": value["measured_at"],
            "content-type": "application/json",
            "mqtt_topic": f"evedge/{unique_name}/rp/rp-01/telemetry",
            "mqtt_qos": headers(record)["mqtt_qos"],
            "mqtt_retain": "false",
        }


def _ends_offline(found: Sequence[ConsumedRecord]) -> bool:
    return bool(found) and decoded(found)[-1]["state"] == "offline"


async def _everything(run: GatewayProcess, stream: str) -> Sequence[ConsumedRecord]:
    """What is there now; a clean stop left nothing behind."""
    looks = 0

    def twice(_: Sequence[ConsumedRecord]) -> bool:
        nonlocal looks
        looks += 1
        return looks > 3

    return await run.records(stream, until=twice)


PAYLOADS = {
    "binary": bytes(range(256)),
    "empty": b"",
    "large": bytes(range(250)) * 800,
    "text": "Ladepunkt 3: 11 kW, grün ✓".encode(),
}


async def test_messages_arrive_byte_for_byte(real_kafka: RealKafka, tmp_path: Path, unique_name: str) -> None:
    port = free_port()
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port)
    async with gateway(tmp_path, text) as run, client(port) as publisher:
        for qos in (0, 1, 2):
            for name, payload in PAYLOADS.items():
                await publisher.publish(f"factory/{name}/qos/{qos}", payload, qos=qos, retain=name == "text")
        await publisher.publish("elsewhere/1", b"no route takes this", qos=1)
        sent = len(PAYLOADS) * 3
        records = await run.records("factory", until=lambda found: len(found) >= sent)
        assert await run.stop() == 0
        assert len(await _everything(run, "factory")) == sent
    assert len({headers(record)["ce_id"] for record in records}) == sent
    for record in records:
        found = headers(record)
        _, name, _, qos = found["mqtt_topic"].split("/")
        assert record.value == PAYLOADS[name]
        assert record.key == name.encode()
        assert found == {
            "ce_specversion": "1.0",
            "ce_id": found["ce_id"],
            "ce_source": f"/evedge/{unique_name}",
            "ce_type": "evedge.route.v1",
            "ce_time": to_rfc3339(record.timestamp_ms),
            "content-type": "application/x-factory",
            "mqtt_topic": f"factory/{name}/qos/{qos}",
            "mqtt_qos": qos,
            "mqtt_retain": "true" if name == "text" else "false",
        }
    for name in PAYLOADS:  # one client's messages of one key, in the order in which they were sent
        assert [headers(each)["mqtt_qos"] for each in records if each.key == name.encode()] == ["0", "1", "2"]


async def test_local_subscribers_see_what_goes_to_kafka(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    port = free_port()
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        more = polled("rp-01", point)
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port, more=more)
        async with gateway(tmp_path, text) as run, client(port) as local:
            await run.logged("status_changed", recharge_point="rp-01", state="online")
            await local.subscribe(f"evedge/{unique_name}/#", qos=1)
            seen: dict[str, aiomqtt.Message] = {}
            wanted = {f"evedge/{unique_name}/{leaf}" for leaf in ("status", "rp/rp-01/status", "rp/rp-01/telemetry")}
            async with asyncio.timeout(DEADLINE_S):
                async for message in local.messages:
                    seen.setdefault(str(message.topic), message)
                    if wanted <= set(seen):
                        break
            for topic in wanted:
                assert seen[topic].retain == topic.endswith("status")
            telemetry = seen[f"evedge/{unique_name}/rp/rp-01/telemetry"].payload
            await run.records("telemetry", until=lambda found: telemetry in [each.value for each in found])
            status = seen[f"evedge/{unique_name}/rp/rp-01/status"].payload
            await run.records("status", until=lambda found: status in [each.value for each in found])


async def test_a_limit_is_sent_verified_and_in_the_register(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        more = polled("rp-01", point)
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=0, more=more)
        async with gateway(tmp_path, text) as run:

            async def send(*arguments: str) -> Finished:
                return await run.evedge("send", *arguments, "--wait", "25")

            limited = await send("rp-01", "set_current_limit", "current_a=10", "--id", "one", "--lease", "600")
            assert limited.status == 0, limited.stderr
            assert _states(limited)[:2] == ["accepted", "written"]
            assert "verified" in _states(limited)
            assert point.value("current_limit_setpoint") == 10.0

            again = await send("rp-01", "set_current_limit", "current_a=16", "--id", "one")
            assert (again.status, _states(again)) == (1, ["duplicate"])
            late = await send("rp-01", "set_current_limit", "current_a=16", "--expires-in=-1")
            assert (late.status, _states(late)) == (1, ["expired"])
            unknown = await send("rp-99", "set_current_limit", "current_a=16")
            assert (unknown.status, _states(unknown)) == (1, ["rejected"])
            assert "rp-99" in unknown.stdout
            assert point.value("current_limit_setpoint") == 10.0

            paused = await send("rp-01", "pause")
            assert paused.status == 0, paused.stdout
            assert point.value("current_limit_setpoint") == 0.0
            resumed = await send("rp-01", "resume")
            assert resumed.status == 0, resumed.stdout
            assert point.value("current_limit_setpoint") == 10.0

            pinged = await send("-", "ping", "--json")
            assert pinged.status == 0
            ends = [json.loads(line) for line in pinged.stdout.splitlines()]
            assert [end["state"] for end in ends] == ["accepted", "verified"]
            assert ends[-1]["details"]["version"]

            results = decoded(await run.records("command_results", until=lambda found: len(found) >= 13))
            assert set(Counter(result["id"] for result in results if result["final"]).values()) == {1}


def _states(finished: Finished) -> list[str]:
    return [line.split()[1] for line in finished.stdout.splitlines()]


async def test_a_local_user_commands_with_its_name_as_issuer(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    port = free_port()
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        more = polled("rp-01", point)
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port, more=more)
        text += '[[commands.issuers]]\nname = "panel"\npurposes = ["user"]\n'
        async with gateway(tmp_path, text) as run, client(port, "panel") as panel, client(port, "thief") as thief:
            topic = f"evedge/{unique_name}/rp/rp-01/command"
            await panel.subscribe(f"{topic}/result", qos=1)
            await thief.publish(topic, _command(unique_name, "stolen", 6, issuer="panel"), qos=1)
            await panel.publish(topic, _command(unique_name, "mine", 12), qos=1)
            results = []
            async with asyncio.timeout(DEADLINE_S):
                async for message in panel.messages:
                    results.append(json.loads(message.payload))
                    if results[-1]["id"] == "mine" and results[-1]["final"]:
                        break
            assert [(each["id"], each["state"]) for each in results[:2]] == [
                ("stolen", "rejected"),
                ("mine", "accepted"),
            ]
            assert "thief" in results[0]["reason"]
            assert results[-1]["state"] in {"verified", "effective"}
            assert point.value("current_limit_setpoint") == 12.0
            await run.records("command_results", until=lambda found: decoded(found)[: len(results)] == results)


def _command(name: str, command_id: str, current_a: float, **more: object) -> bytes:
    fields = {
        "id": command_id,
        "gateway": name,
        "recharge_point": "rp-01",
        "action": "set_current_limit",
        "arguments": {"current_a": current_a},
        "expires_at": to_rfc3339(time.time_ns() // 1_000_000 + 60_000),
        "purpose": "user",
        **more,
    }
    return json.dumps(fields).encode()


async def test_an_agents_recharge_point_goes_the_same_way(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    port = free_port()
    more = '[[recharge_points]]\nid = "rp-07"\nagent = "plc-1"\n'
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port, more=more)
    place = f"evedge/{unique_name}/rp/rp-07"
    telemetry = (
        f'{{"gateway": "{unique_name}", "recharge_point": "rp-07", "seq": 1, "values": {{"state": "available"}},'
        '\n "measured_at": "2026-11-23T09:00:00.123Z", "quality": "good", "errors": {}, "derived": []}'
    ).encode()
    status = b'{"state":"online","recharge_point":"rp-07"}'
    async with gateway(tmp_path, text) as run:
        async with client(port, "plc-1") as plc:
            await plc.publish(f"{place}/telemetry", telemetry, qos=1)
            await plc.publish(f"{place}/status", status, qos=1, retain=True)
            await plc.publish(f"{place}/alert", b"{not json", qos=1)
            (record,) = await run.records("telemetry", until=bool)
            (letter,) = await run.records("dead_letters", until=bool)
        statuses = await run.records("status", until=lambda found: len(found) >= 3)
        async with client(port) as local:
            await local.subscribe(f"{place}/#")
            retained = await anext(local.messages)
    assert record.value == telemetry
    assert record.key == f"{unique_name}/rp-07".encode()
    assert record.timestamp_ms == from_rfc3339("2026-11-23T09:00:00.123Z")
    found = headers(record)
    assert found["ce_time"] == "2026-11-23T09:00:00.123Z"
    assert (found["ce_type"], found["ce_source"]) == ("evedge.telemetry.v1", f"/evedge/{unique_name}/rp-07")
    assert [value["state"] for value in decoded(statuses)] == ["offline", "online", "offline"]
    assert decoded(statuses)[-1]["reason"] == "agent plc-1 is not connected"
    assert json.loads(retained.payload) == decoded(statuses)[-1]
    assert (letter.value, letter.key) == (b"{not json", f"{unique_name}/rp-07".encode())
    assert headers(letter)["kafka_topic"] == f"{unique_name}.alerts"
    assert {"reason", "error"} <= set(headers(letter))
