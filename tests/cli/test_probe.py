"""The command as it is run, against a simulated recharge point and against peers that are none."""

import asyncio
import json
import socket
import sys

import pytest
from click.testing import CliRunner

from evedge.cli.probe import command, parse_address
from evedge.core.errors import Outage, UsageError
from evedge.profiles import load_profile
from evedge.simulator import SimulatedRechargePoint
from modbus_peer import Peer, silent

PROFILE = "abb-terra-ac"


async def probe(*arguments):
    """Runs the command beside this event loop, where the device lives. What is for `evedge`'s border is raised."""
    result = await asyncio.to_thread(CliRunner().invoke, command, arguments, standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.return_value, result.stdout


async def test_a_device_is_read_once_and_shown_line_by_line():
    async with SimulatedRechargePoint(load_profile(PROFILE), seed=7) as device:
        status, output = await probe(f"127.0.0.1:{device.port}", "--profile", PROFILE)
    lines = output.splitlines()
    assert status == 0
    assert lines[0] == f"127.0.0.1:{device.port}, unit id 1: {PROFILE}, quality good"
    assert "identity\tvendor\tABB" in lines
    assert any(line.startswith("measurand\tvoltage_l1_v\t2") and line.endswith("\tV") for line in lines)
    assert any(line.startswith("register\tmode3_state\t") for line in lines)


async def test_json_holds_what_telemetry_would():
    async with SimulatedRechargePoint(load_profile(PROFILE), seed=7) as device:
        status, output = await probe(f"127.0.0.1:{device.port}", "--profile", PROFILE, "--json")
        document = json.loads(output)
        assert document["values"]["voltage_l1_v"] == pytest.approx(device.value("voltage_l1_v"), rel=0.1)
    assert status == 0
    assert document["profile"] == PROFILE
    assert document["quality"] == "good"
    assert document["errors"] == {}
    assert set(document["identity"]) == {"vendor", "model", "serial_number", "firmware"}
    assert document["registers"]["current_max_a"]["unit"] == "A"


async def test_what_the_device_refuses_is_named_and_the_rest_is_shown():
    async def behave(request, writer):
        if request.address <= 0x4010 < request.address + request.count:
            writer.write(request.exception(4))
        else:
            writer.write(request.words([0] * request.count))

    async with Peer(behave) as peer:
        status, output = await probe(f"127.0.0.1:{peer.port}", "--profile", PROFILE, "--json")
        document = json.loads(output)
        assert document["errors"]["current_l1_a"] == "device failure"
        assert document["quality"] in {"partial", "bad"}
        assert status == (0 if document["values"] else 1)


async def test_a_device_that_refuses_everything_is_shown_and_is_a_failure():
    async def behave(request, writer):
        writer.write(request.exception(1))

    async with Peer(behave) as peer:
        status, output = await probe(f"127.0.0.1:{peer.port}", "--profile", PROFILE)
    assert status == 1
    assert "quality bad" in output
    assert "error: illegal function" in output


async def test_a_silent_device_is_given_up_early():
    async with Peer(silent) as peer:
        with pytest.raises(Outage, match=rf"^127.0.0.1:{peer.port}: no answer within 0\.1 s$"):
            await probe(f"127.0.0.1:{peer.port}", "--profile", PROFILE, "--timeout", "0.1")
    assert len(peer.requests) == 2


async def test_an_unreachable_device_is_one_clear_line_and_status_1():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "evedge", "probe", f"127.0.0.1:{port}", "--profile", PROFILE),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 1
    assert output == b""
    assert errors.decode() == f"evedge: 127.0.0.1:{port}: connection refused\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("192.0.2.1", "--profile", "abb-tera-ac"), "did you mean .?abb-terra-ac"),
        (("192.0.2.1:99999", "--profile", PROFILE), "is no address"),
        (("192.0.2.1", "--profile", PROFILE, "--connector", "2"), "--connector 2: abb-terra-ac has one connector"),
    ],
)
async def test_wrong_usage_opens_nothing(arguments, message):
    with pytest.raises(UsageError, match=message):
        await probe(*arguments)


def test_addresses_are_hosts_with_or_without_a_port():
    assert parse_address("192.0.2.1") == ("192.0.2.1", None)
    assert parse_address("wallbox.local:1502") == ("wallbox.local", 1502)
    assert parse_address("[fe80::1]:502") == ("fe80::1", 502)
    assert parse_address("[fe80::1]") == ("fe80::1", None)
    assert parse_address("fe80::1") == ("fe80::1", None)
    for wrong in ("", ":502", "host:", "host:0", "host:port", "a b", "[::1"):
        with pytest.raises(UsageError):
            parse_address(wrong)
