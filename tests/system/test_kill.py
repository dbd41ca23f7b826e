"""kill -9 at any moment: what was acknowledged reaches Kafka after the next start, in order for each key.

EVEDGE_KILL_MESSAGES sets how many messages a test publishes; 10,000 is the full size.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from evedge.core.delivery import ConsumedRecord
from evedge.core.times import to_rfc3339
from evedge.profiles import load_profile
from evedge.simulator import SimulatedRechargePoint
from kafka_server import RealKafka
from system.harness import (
    GatewayProcess,
    configuration,
    decoded,
    distinct,
    end,
    eventually,
    free_port,
    headers,
    of,
    polled,
)
from system.publisher import Publisher

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

MESSAGES = int(os.environ.get("EVEDGE_KILL_MESSAGES", "3000"))
CLIENTS = ("c-1", "c-2", "c-3")
EACH = MESSAGES // len(CLIENTS)


@asynccontextmanager
async def killable(folder: Path, text: str) -> AsyncIterator[GatewayProcess]:
    """A running gateway that may be killed and started again."""
    run = GatewayProcess(folder, text)
    try:
        await run.create_topics()
        yield await run.start()
        assert await run.stop() == 0, run.said()
        run.check_log()
    finally:
        await end(run)


def publishers(stack: ExitStack, port: int, qos: int, *, resume: bool) -> list[Publisher]:
    """A few clients that publish all they have, as fast as they are acknowledged."""
    found = [Publisher(port, name, qos=qos, resumes=resume) for name in CLIENTS]
    for publisher in found:
        publisher.start()
        stack.callback(publisher.stop)
    for publisher in found:
        publisher.publish(EACH)
    return found


async def acknowledged(found: Sequence[Publisher], at_least: int) -> None:
    await eventually(lambda: sum(len(each.acknowledged) for each in found) >= at_least, f"{at_least} acknowledgements")


def per_client(records: Sequence[ConsumedRecord]) -> dict[str, list[int]]:
    """The numbers that arrived, in their order, repetitions by the gateway (the same `ce_id`) left out."""
    arrived: dict[str, list[int]] = {name: [] for name in CLIENTS}
    for record in distinct(records):
        name, number = (record.value or b"").decode().split()
        assert record.key == name.encode()
        arrived[name].append(int(number))
    return arrived


def first_times(numbers: Sequence[int]) -> list[int]:
    """Each number where it came first: what a client sent again is left out."""
    return list(dict.fromkeys(numbers))


def all_there(found: Sequence[Publisher], records: Sequence[ConsumedRecord]) -> bool:
    arrived = per_client(records)
    return all(set(each.acknowledged) <= set(arrived[each.name]) for each in found)


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_acknowledged_survives_a_kill(
    qos: int, real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    """Clients that never come back: only what the gateway had on disk can arrive."""
    port = free_port()
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port)
    with ExitStack() as stack:
        async with killable(tmp_path, text) as run:
            found = publishers(stack, port, qos, resume=False)
            await acknowledged(found, MESSAGES // 3)
            await run.kill()
            await run.start()
            records = await run.records("factory", until=lambda records: all_there(found, records))
    assert sum(len(each.acknowledged) for each in found) < MESSAGES, "the kill came too late to show anything"
    for name, numbers in per_client(records).items():
        assert numbers == list(range(len(numbers))), name  # in order, none twice, none left out in between


@pytest.mark.parametrize("qos", [1, 2])
async def test_clients_that_come_back_lose_nothing(
    qos: int, real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    port = free_port()
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port)
    with ExitStack() as stack:
        async with killable(tmp_path, text) as run:
            found = publishers(stack, port, qos, resume=True)
            for part in (1, 2):
                await acknowledged(found, MESSAGES * part // 3)
                await run.kill()
                await run.start()
            await acknowledged(found, EACH * len(CLIENTS))
            records = await run.records("factory", until=lambda records: all_there(found, records))
    for name, numbers in per_client(records).items():
        assert first_times(numbers) == list(range(EACH)), name
        if qos == 2:
            assert len(numbers) == EACH, "exactly once, over two kills"


async def test_a_kill_while_kafka_does_not_answer(real_kafka: RealKafka, tmp_path: Path, unique_name: str) -> None:
    port = free_port()
    text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port)
    with ExitStack() as stack:
        async with killable(tmp_path, text) as run:
            real_kafka.pause()
            found = publishers(stack, port, 1, resume=True)
            await acknowledged(found, MESSAGES // 2)
            await run.kill()
            await run.start()  # Kafka is no reason not to be ready
            await acknowledged(found, EACH * len(CLIENTS))
            real_kafka.resume()
            records = await run.records("factory", until=lambda records: all_there(found, records))
    for name, numbers in per_client(records).items():
        assert first_times(numbers) == list(range(EACH)), name


async def test_two_kills_before_kafka_was_ever_there(real_kafka: RealKafka, tmp_path: Path, unique_name: str) -> None:
    port, nowhere = free_port(), free_port()
    right = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=port)
    with ExitStack() as stack:
        async with killable(tmp_path, right) as run:
            await run.kill()
            run.reconfigure(right.replace(real_kafka.bootstrap, f"127.0.0.1:{nowhere}"))
            await run.start()
            found = publishers(stack, port, 1, resume=True)
            await acknowledged(found, MESSAGES // 2)
            await run.kill()
            await run.start()
            await acknowledged(found, EACH * len(CLIENTS))
            await run.kill()
            run.reconfigure(right)
            await run.start()
            records = await run.records("factory", until=lambda records: all_there(found, records))
    for name, numbers in per_client(records).items():
        assert first_times(numbers) == list(range(EACH)), name


async def test_seq_jumps_forward_over_a_kill_and_an_alert_names_the_gap(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        more = polled("rp-01", point, poll_interval_s=0.2)
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=0, more=more)
        async with killable(tmp_path, text) as run:
            before = await run.records("telemetry", until=lambda found: len(found) >= 5)
            await run.kill()
            await run.start()
            last = max(value["seq"] for value in decoded(before))
            records = await run.records(
                "telemetry", until=lambda found: any(value["seq"] > last + 100 for value in decoded(found))
            )
            alerts = await run.records(
                "alerts", until=lambda found: "unclean_restart" in [alert["kind"] for alert in decoded(found)]
            )
    sequence = [value["seq"] for value in decoded(distinct(records))]
    assert sequence == sorted(set(sequence))
    (gap,) = [alert for alert in decoded(distinct(alerts)) if alert["kind"] == "unclean_restart"]
    first, last = gap["details"]["first"], gap["details"]["last"]
    missing = set(range(1, sequence[-1])) - set(sequence)
    assert missing
    assert missing <= set(range(first, last + 1))


def _command(name: str, command_id: str, current_a: float) -> bytes:
    now_ms = time.time_ns() // 1_000_000
    return json.dumps(
        {
            "id": command_id,
            "gateway": name,
            "recharge_point": "rp-01",
            "action": "set_current_limit",
            "arguments": {"current_a": current_a},
            "issued_at": to_rfc3339(now_ms),
            "expires_at": to_rfc3339(now_ms + 60_000),
        }
    ).encode()


async def test_a_command_cut_between_write_and_result_ends_once_and_is_written_once(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    async with SimulatedRechargePoint(load_profile("abb-terra-ac")) as point:
        # The device acknowledges the write and does not show it, so the gateway goes on reading it back: time to kill.
        point.set_faults("ignore-writes")
        more = polled("rp-01", point)
        text = configuration(tmp_path, unique_name, kafka=real_kafka.bootstrap, mqtt_port=0, more=more)
        async with killable(tmp_path, text) as run:
            await run.logged("status_changed", recharge_point="rp-01", state="online")
            await run.produce("commands", _command(unique_name, "cut", 10), key=f"{unique_name}/rp-01".encode())
            await eventually(lambda: point.writes, "the write")
            await run.kill()
            written = len(point.writes)
            await run.start()
            results = await run.records("command_results", until=_ended("cut"))
            await run.produce("commands", _command(unique_name, "cut", 10), key=f"{unique_name}/rp-01".encode())
            results = await run.records("command_results", until=_duplicate_told)
            assert len(point.writes) == written == 1
            # And it still obeys.
            point.set_faults()
            await run.produce("commands", _command(unique_name, "next", 12), key=f"{unique_name}/rp-01".encode())
            results = await run.records("command_results", until=_ended("next"))
            assert point.value("current_limit_setpoint") == 12.0
    told = of(distinct(results), "rp-01")
    assert Counter(result["id"] for result in told if result["final"]) == {"cut": 1, "next": 1}
    (end_of_cut,) = [result for result in told if result["id"] == "cut" and result["final"]]
    assert end_of_cut["state"] == "failed"
    assert "not made twice" in end_of_cut["reason"]
    assert all(headers(record)["ce_type"] == "evedge.command-result.v1" for record in results)


def _ended(command_id: str):
    return lambda found: any(result["id"] == command_id and result["final"] for result in decoded(found))


def _duplicate_told(found: Sequence[ConsumedRecord]) -> bool:
    return "duplicate" in [result["state"] for result in decoded(found)]
