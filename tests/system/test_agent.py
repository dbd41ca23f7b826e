"""A gateway and its agent as two processes, a recharge point behind the agent, a real Kafka behind the gateway."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from evedge.core.delivery import ConsumedRecord
from evedge.core.times import to_rfc3339
from evedge.links.passwords import hash_password
from evedge.profiles import load_profile
from evedge.simulator import SimulatedRechargePoint
from kafka_server import RealKafka
from links.raw_mqtt import Broker
from system.harness import (
    DEADLINE_S,
    GatewayProcess,
    configuration,
    decoded,
    distinct,
    end,
    eventually,
    free_port,
    gateway,
    headers,
    of,
    polled,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PASSWORD = "correct horse"
HASH = hash_password(PASSWORD)
OWNED = '[[recharge_points]]\nid = "rp-07"\nagent = "plc-1"\n'


@dataclass
class Site:
    """The two processes and the recharge point. `port` is the broker's, over restarts too."""

    name: str
    port: int
    gateway: GatewayProcess
    agent: GatewayProcess
    point: SimulatedRechargePoint

    async def seqs(self, at_least: int) -> list[int]:
        """The recharge point's numbers as Kafka has them, once that many different ones are there."""
        records = await self.gateway.records("telemetry", until=lambda found: len(_seqs(found)) >= at_least)
        return _seqs(records)

    async def results(self, command_id: str) -> list[dict[str, Any]]:
        """A command's steps, once its end is there."""

        def ended(found: Sequence[ConsumedRecord]) -> bool:
            return any(each["id"] == command_id and each["final"] for each in decoded(found))

        records = await self.gateway.records("command_results", until=ended)
        return [each for each in decoded(records) if each["id"] == command_id]

    async def watch(self, stack: AsyncExitStack, topic: str) -> aiomqtt.Client:
        """A user of the gateway's broker that may see everything."""
        watcher = aiomqtt.Client(
            "127.0.0.1", self.port, username="watcher", password=PASSWORD, protocol=aiomqtt.ProtocolVersion.V311
        )
        client = await stack.enter_async_context(watcher)
        await client.subscribe(topic, qos=1)
        return client


@asynccontextmanager
async def site(folder: Path, name: str, kafka: RealKafka) -> AsyncIterator[Site]:
    port = free_port()
    users = f"""
[[mqtt.users]]
name = "plc-1"
password_hash = "{HASH}"
publish = ["evedge/{name}/rp/rp-07/#", "evedge/{name}/agent/plc-1/status"]
subscribe = ["evedge/{name}/rp/rp-07/command"]
[[mqtt.users]]
name = "watcher"
password_hash = "{HASH}"
publish = ["evedge/{name}/rp/+/command"]
subscribe = ["#"]
"""
    (folder / "gateway").mkdir()
    (folder / "agent").mkdir()
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        text = configuration(folder / "gateway", name, kafka=kafka.bootstrap, mqtt_port=port, mqtt=users, more=OWNED)
        process = GatewayProcess(folder / "gateway", text)
        agent_text = _agent(name, port, folder / "agent", point)
        agent = GatewayProcess(folder / "agent", agent_text)
        try:
            await process.create_topics()
            await process.start()
            await agent.start()
            yield Site(name, port, process, agent, point)
            for each in (agent, process):
                if each.process is not None and each.process.returncode is None:
                    assert await each.stop() == 0, each.said()
                each.check_log()
        finally:
            await end(agent)
            await end(process)


def _agent(name: str, port: int, folder: Path, point: SimulatedRechargePoint) -> str:
    """An agent's configuration: the gateway's id, its broker, and the recharge point to poll."""
    return f"""
[gateway]
id = "{name}"
state_dir = "{folder / "state"}"
[mqtt]
url = "mqtt://127.0.0.1:{port}"
username = "plc-1"
password = "{PASSWORD}"
[web]
bind = ""
{polled("rp-07", point, poll_interval_s=0.5)}
"""


def _command(name: str, command_id: str, current_a: float, **more: str) -> bytes:
    fields = {
        "id": command_id,
        "gateway": name,
        "recharge_point": "rp-07",
        "action": "set_current_limit",
        "arguments": {"current_a": current_a},
        "expires_at": to_rfc3339(time.time_ns() // 1_000_000 + 60_000),
        "issuer": "dr-service",
        **more,
    }
    return json.dumps(fields).encode()


def _seqs(records: Sequence[ConsumedRecord]) -> list[int]:
    """Each number where it came first: what an agent sent again after a lost acknowledgement is left out."""
    return list(dict.fromkeys(each["seq"] for each in of(records, "rp-07")))


async def test_telemetry_counts_without_a_gap_whatever_restarts(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    async with site(tmp_path, unique_name, real_kafka) as here:
        await here.seqs(4)
        await here.gateway.kill()  # what was acknowledged is on its disk, what was not is the agent's
        await here.agent.logged("lane_blocked")
        await asyncio.sleep(2)  # polls go on meanwhile
        await here.gateway.start()
        seen = await here.seqs(10)
        assert await here.agent.stop() == 0
        await here.agent.start()
        seen = await here.seqs(len(seen) + 4)
        assert await here.gateway.stop() == 0
        await here.gateway.start()
        seen = await here.seqs(len(seen) + 4)
        assert await here.agent.stop() == 0
        seen = await here.seqs(len(seen))
        assert seen == list(range(1, len(seen) + 1))
        records = await here.gateway.records("telemetry", until=bool)
        (record, *_) = records
        assert record.key == f"{unique_name}/rp-07".encode()
        assert headers(record)["mqtt_topic"] == f"evedge/{unique_name}/rp/rp-07/telemetry"
        assert headers(record)["ce_time"] == json.loads(record.value or b"")["measured_at"]
        alerts = decoded(await here.gateway.records("alerts", until=bool))
        assert not [each for each in alerts if each["kind"] == "unclean_restart"]


async def test_a_recharge_point_is_offline_while_its_agent_is_away(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    place = f"evedge/{unique_name}"
    async with site(tmp_path, unique_name, real_kafka) as here, AsyncExitStack() as stack:
        watcher = await here.watch(stack, f"{place}/+/+/status")
        told: dict[str, list[dict[str, Any]]] = {}

        async def until(topic: str, state: str) -> dict[str, Any]:
            async with asyncio.timeout(DEADLINE_S):
                async for message in watcher.messages:
                    value = json.loads(message.payload)
                    told.setdefault(str(message.topic), []).append(value)
                    if str(message.topic) == topic and value["state"] == state:
                        return value
            raise AssertionError

        agent_topic, rp_topic = f"{place}/agent/plc-1/status", f"{place}/rp/rp-07/status"
        online = await until(rp_topic, "online")
        assert online["vendor"] == here.point.profile.vendor
        assert await here.agent.stop() == 0
        offline = await until(rp_topic, "offline")
        assert offline["reason"] == "agent plc-1 is not connected"
        assert told[agent_topic][-1]["state"] == "offline"
        await here.agent.start()
        await until(rp_topic, "online")
        assert told[agent_topic][-1]["state"] == "online"
        await here.agent.kill()
        await until(rp_topic, "offline")
        assert told[agent_topic][-1]["state"] == "offline"  # its last will

        def both(found: Sequence[ConsumedRecord]) -> bool:
            return len([each for each in of(found, "rp-07") if each["state"] == "offline"]) >= 3

        states = [each["state"] for each in of(await here.gateway.records("status", until=both), "rp-07")]
        assert states[-3:] == ["offline", "online", "offline"]
        gateway_status = decoded(await here.gateway.records("gateway_status", until=bool))
        assert [each["state"] for each in gateway_status] == ["online"]  # an agent tells nothing of the gateway's


async def test_a_limit_for_an_agents_recharge_point_ends_once(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    async with site(tmp_path, unique_name, real_kafka) as here:
        await here.agent.logged("mqtt_connected")
        await here.agent.logged("status_changed", state="online")
        limited = await here.gateway.evedge(
            "send", "rp-07", "set_current_limit", "current_a=10", "--id", "one", "--wait", "25"
        )
        assert limited.status == 0, limited.stdout + limited.stderr + here.gateway.said() + here.agent.said()
        assert here.point.value("current_limit_setpoint") == 10.0
        steps = await here.results("one")
        assert [each["state"] for each in steps][:3] == ["accepted", "written", "verified"]
        assert Counter(each["final"] for each in steps)[True] == 1
        assert steps[-1]["recharge_point"] == "rp-07"

        again = await here.gateway.evedge(
            "send", "rp-07", "set_current_limit", "current_a=16", "--id", "one", "--wait", "25"
        )
        assert again.stdout.split()[1] == "duplicate"
        assert here.point.value("current_limit_setpoint") == 10.0
        assert len(here.point.writes) == 1


async def test_an_agent_executes_a_command_once_however_often_it_comes(tmp_path: Path) -> None:
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point, Broker() as broker:
        text = _agent("site-042", broker.port, tmp_path, point)
        command = _command("site-042", "one", 12)

        def results() -> list[dict[str, Any]]:
            found = [json.loads(one.payload) for one in broker.intake.accepted if one.topic.endswith("command/result")]
            return [each for each in found if each["id"] == "one"]

        async with gateway(tmp_path, text) as agent:
            await agent.logged("status_changed", state="online")
            await agent.logged("mqtt_connected")
            topic = "evedge/site-042/rp/rp-07/command"
            for _ in range(3):
                broker.router.publish(topic, command, 1, False)
            await eventually(lambda: any(each["final"] for each in results()), "the end")
            assert await agent.stop() == 0
            await agent.start()
            await eventually(lambda: len(agent.events("mqtt_connected")) == 2, "the second connection")
            broker.router.publish(topic, command, 1, False)
            broker.router.publish(topic, _command("site-042", "two", 9), 1, False)
            await eventually(lambda: point.value("current_limit_setpoint") == 9.0, "the next command")
        assert [each["state"] for each in results()][:3] == ["accepted", "written", "verified"]
        assert Counter(each["final"] for each in results())[True] == 1
        assert len(point.writes) == 2


async def test_a_command_waits_for_an_agent_that_is_away_and_is_executed_once(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    async with site(tmp_path, unique_name, real_kafka) as here:
        await here.agent.logged("status_changed", state="online")
        assert await here.agent.stop() == 0
        send = ("send", "rp-07", "set_current_limit")
        await here.gateway.evedge(*send, "current_a=8", "--id", "late", "--wait", "0")
        await here.gateway.evedge(*send, "current_a=6", "--id", "lost", "--expires-in", "2", "--wait", "0")
        lost = await here.results("lost")
        assert [(each["state"], each["final"]) for each in lost] == [("expired", True)]
        await here.gateway.kill()
        await here.gateway.start()
        await here.agent.start()
        late = await here.results("late")
        assert [each["state"] for each in late][:3] == ["accepted", "written", "verified"]
        assert here.point.value("current_limit_setpoint") == 8.0
        assert len(here.point.writes) == 1
        records = await here.gateway.records("command_results", until=bool)
        assert set(Counter(each["id"] for each in decoded(records) if each["final"]).values()) == {1}


async def test_every_command_ends_once_whoever_is_killed(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    chance = random.Random(7)
    async with site(tmp_path, unique_name, real_kafka) as here:
        await here.agent.logged("status_changed", state="online")
        ids = []
        for victims in ([here.agent], [here.gateway], [here.gateway, here.agent]) * 2:
            for purpose in ("market", "grid", "user"):
                ids.append(f"c-{len(ids)}")
                value = _command(unique_name, ids[-1], 6 + len(ids), purpose=purpose)
                await here.gateway.produce("commands", value, key=f"{unique_name}/rp-07".encode())
            await asyncio.sleep(chance.random())
            for each in victims:
                await each.kill()
            for each in victims:
                await each.start()

        def ended(found: Sequence[ConsumedRecord]) -> bool:
            return {each["id"] for each in decoded(found) if each["final"]} >= set(ids)

        await here.gateway.records("command_results", until=ended)
        assert await here.agent.stop() == 0  # nothing is on its way any more
        records = await here.gateway.records("command_results", until=ended)
        ends = Counter(each["id"] for each in decoded(distinct(records)) if each["final"])
        assert ends == dict.fromkeys(ids, 1)
