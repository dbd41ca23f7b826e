"""The Node-RED example as a person uses it: a browser on its dashboard, a real Kafka, a gateway, a recharge point."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

import browser
import kafka_server
import node_red
from browser import Page
from evedge.core.times import from_rfc3339
from evedge.profiles import load_profile
from evedge.simulator import Fault, SimulatedRechargePoint
from kafka_server import RealKafka
from node_red import NodeRed
from system.harness import DEADLINE_S, INHERITED, GatewayProcess, configuration, decoded, free_port, gateway, polled

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]  # the first time, npm installs

STREAMS = ("telemetry", "alerts", "commands", "command_results")
PAGE = "dashboard/recharge-points"
AWAY = "document.querySelector('[data-link=kafka]')?.innerText.includes('away')"
LIVE = "document.querySelector('[data-link=kafka]')?.innerText.includes('Kafka: live')"


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    reason = node_red.missing() or browser.missing()
    if reason is not None:
        if kafka_server.must_not_skip():
            pytest.fail(reason)
        pytest.skip(reason)
    node_red.install()


def charging() -> SimulatedRechargePoint:
    """A recharge point that has been charging for some seconds when it is first asked."""
    ahead_s = 0.0
    point = SimulatedRechargePoint(load_profile("abb-terra-ac"), seed=7, clock=lambda: time.monotonic() + ahead_s)
    while point.state != "charging":
        point.registers()
        ahead_s += 0.5
    return point


def environment(name: str, kafka: RealKafka, mqtt_port: int) -> dict[str, str]:
    topics = {f"EVEDGE_TOPIC_{stream.upper()}": f"{name}.{stream}" for stream in STREAMS}
    return {
        "KAFKA_BROKERS": kafka.bootstrap,
        "MQTT_HOST": "127.0.0.1",
        "MQTT_PORT": str(mqtt_port),
        "EVEDGE_GATEWAY": name,
        **topics,
    }


@asynccontextmanager
async def chain(
    kafka: RealKafka, folder: Path, name: str, point: SimulatedRechargePoint, compression: str
) -> AsyncIterator[tuple[GatewayProcess, NodeRed, Page]]:
    """The gateway, Node-RED and a browser on its page; all logs are clean at the end."""
    mqtt_port = free_port()
    text = configuration(folder, name, kafka=kafka.bootstrap, mqtt_port=mqtt_port, more=polled("rp-01", point))
    text = text.replace("[kafka]\n", f'[kafka]\ncompression = "{compression}"\n')
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(gateway(folder, text))
        red = await stack.enter_async_context(
            node_red.node_red(folder, free_port(), **environment(name, kafka, mqtt_port))
        )
        page = await stack.enter_async_context(browser.browser(folder))
        await page.open(red.url + PAGE)
        yield run, red, page
        assert page.errors == []


def value(name: str, recharge_point: str = "rp-01") -> str:
    """JavaScript: what the page shows of a recharge point."""
    return f"document.querySelector('[data-recharge-point$=\"/{recharge_point}\"] [data-value={name}]')?.innerText"


async def set_limit(page: Page, recharge_point: str, current_a: float) -> None:
    """As a person does it: choose, type, press."""
    await page.click("document.querySelector('.v-select .v-field')")
    await page.click(
        "[...document.querySelectorAll('.v-overlay .v-list-item')]"
        f".find(e => e.innerText.trim() === {json.dumps(recharge_point)})"
    )
    await page.click("document.querySelector('input[type=number]')")
    await page.type(f"{current_a:g}")
    await page.click("[...document.querySelectorAll('button')].find(e => e.innerText.toLowerCase() === 'set limit')")


def step(state: str) -> str:
    """JavaScript: whether the newest command shows this step."""
    return f"document.querySelector('[data-command]')?.querySelector('[data-step=\"{state}\"]') != null"


@pytest.mark.parametrize("compression", ["gzip", "lz4"])
async def test_live_values_show_and_a_limit_reaches_the_register(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str, compression: str
) -> None:
    async with (
        charging() as point,
        chain(real_kafka, tmp_path, unique_name, point, compression) as (run, _, page),
    ):
        await page.wait(f"{value('state')} === 'charging'")
        assert (await page.wait(value("power"))).endswith("W")
        assert (await page.wait(value("current"))).endswith(" A")
        assert await page.wait(value("limit")) == "32 A"
        await page.wait(LIVE)
        await page.wait(f"document.querySelector('[data-gateway=\"{unique_name}\"]')?.innerText.includes('online')")
        await page.wait("document.querySelector('canvas')?.width > 0")  # the chart of power

        await set_limit(page, "rp-01", 10)
        for state in ("sent", "accepted", "written", "verified"):
            await page.wait(step(state))
        assert point.value("current_limit_setpoint") == 10.0
        await page.wait(f"{value('limit')} === '10 A'")

        (record,) = await run.records("commands", until=bool)
        (command,) = decoded([record])
        assert record.key == f"{unique_name}/rp-01".encode()
        issued, expires = (from_rfc3339(command.pop(name)) for name in ("issued_at", "expires_at"))
        assert issued < expires
        assert len(command.pop("id")) == 36
        assert command == {
            "gateway": unique_name,
            "recharge_point": "rp-01",
            "action": "set_current_limit",
            "arguments": {"current_a": 10},
            "issuer": "node-red",
            "purpose": "market",
        }

        # An agent's telemetry reaches Kafka as the agent wrote it.
        odd = {"gateway": unique_name, "recharge_point": "odd", "values": {"active_power_w": "much", "state": 7}}
        for stream in ("telemetry", "alerts", "command_results"):
            await run.produce(stream, json.dumps(odd).encode(), key=b"odd")
            await run.produce(stream, b"{", key=b"odd")
        assert await page.wait(value("power", "odd")) == "–"

        await page.resize(360, 780)
        await page.wait("document.documentElement.clientWidth === 360 && document.documentElement.scrollWidth <= 360")


async def test_an_alert_shows_until_it_is_cleared_and_kafka_may_go_away(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    alert = "document.querySelector('[data-alert]')?.innerText.includes('rp-01')"
    async with (
        charging() as point,
        chain(real_kafka, tmp_path, unique_name, point, "gzip") as (_, red, page),
    ):
        await page.wait(value("state"))
        await page.wait(LIVE)
        point.set_faults(Fault.RESET)
        await page.wait(alert)
        assert await page.ask(value("power")) == "–"  # not the last one that was read
        await red.start_again()
        await page.wait(alert)  # read back from Kafka
        point.set_faults()
        await page.wait(f"{value('state')} === 'charging'")
        await page.wait(f"!{alert}")

        real_kafka.kill()
        await page.wait(AWAY)
        await set_limit(page, "rp-01", 10)
        await page.wait(step("not sent"))
        real_kafka.start()
        await page.wait(LIVE)
        await set_limit(page, "rp-01", 12)
        await page.wait(step("verified"))
        assert point.value("current_limit_setpoint") == 12.0


async def test_one_command_starts_demo_and_dashboard_and_ctrl_c_ends_both(tmp_path: Path) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        node_red.EXAMPLE / "start",
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env={**INHERITED, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "NODE_RED_PORT": str(port)},
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while "Kafka evedge.telemetry: live" not in said or "stop  Ctrl-C" not in said:
                line = (await process.stdout.readline()).decode()
                assert line, said
                said += line
        assert f"http://127.0.0.1:{port}/dashboard" in said
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        async with asyncio.timeout(DEADLINE_S):
            said += (await process.stdout.read()).decode()  # ends when the last of them is gone
            assert await process.wait() == 0, said
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert not list(tmp_path.iterdir())


async def test_without_node_there_is_one_clear_line(tmp_path: Path) -> None:
    for program in ("dirname", "sh"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    process = await asyncio.create_subprocess_exec(
        node_red.EXAMPLE / "start", stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env={"PATH": str(tmp_path)}
    )
    stdout, stderr = await process.communicate()
    assert (process.returncode, stdout) == (1, b"")
    (line,) = stderr.decode().splitlines()
    assert line.startswith("node-red: node is not installed")
