from __future__ import annotations

import asyncio
import contextlib

import pytest

from evedge.core.errors import EvedgeError
from evedge.simulator.faults import Fault
from evedge.simulator.server import ModbusServer
from evedge.simulator.wire import Exceptional, Frame, answer_refusal, split

ASK = bytes.fromhex("03 0000 0001")


def echo(frame: Frame) -> bytes | None:
    """A device that gives each request's transaction id as the value; unit 9 is nobody, function 7 unknown."""
    if frame.unit_id == 9:
        return None
    if frame.pdu[0] == 7:
        return answer_refusal(frame.pdu, Exceptional.FUNCTION)
    return bytes((frame.pdu[0], 2)) + frame.transaction_id.to_bytes(2, "big")


def ask(transaction_id: int, unit_id: int = 1, pdu: bytes = ASK) -> bytes:
    return bytes(Frame(transaction_id, unit_id, pdu))


@contextlib.asynccontextmanager
async def listening(**options):
    server = ModbusServer(echo, **options)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def connected(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answers(reader: asyncio.StreamReader, count: int) -> list[Frame]:
    buffer, seen = bytearray(), []
    async with asyncio.timeout(5):
        while len(seen) < count:
            data = await reader.read(4096)
            assert data, "connection closed"
            buffer += data
            seen += split(buffer)
    return seen


async def test_pipelined_requests_are_all_answered_in_order():
    async with listening() as (server, port), connected(port) as (reader, writer):
        writer.write(b"".join(ask(n) for n in range(50)))
        assert [frame.transaction_id for frame in await answers(reader, 50)] == list(range(50))
        assert server.requests.answered == 50


async def test_a_request_that_comes_byte_by_byte_is_answered():
    async with listening() as (_, port), connected(port) as (reader, writer):
        for n in ask(7):
            writer.write(bytes((n,)))
            await writer.drain()
            await asyncio.sleep(0)
        (frame,) = await answers(reader, 1)
        assert frame.transaction_id == 7


async def test_another_units_request_stays_unanswered_and_the_next_is_answered():
    async with listening() as (server, port), connected(port) as (reader, writer):
        writer.write(ask(1, unit_id=9) + ask(2))
        (frame,) = await answers(reader, 1)
        assert frame.transaction_id == 2
        assert (server.requests.received, server.requests.unanswered) == (2, 1)


async def test_refusals_are_counted_apart():
    async with listening() as (server, port), connected(port) as (reader, writer):
        writer.write(ask(1, pdu=b"\x07"))
        (frame,) = await answers(reader, 1)
        assert frame.pdu == b"\x87\x01"
        assert (server.requests.answered, server.requests.refused) == (0, 1)


async def test_what_is_no_modbus_ends_the_connection():
    async with listening() as (_, port), connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), 5)


async def test_one_client_at_a_time_where_the_device_bears_only_one():
    async with listening(max_connections=1) as (_, port), connected(port) as (reader, writer):
        writer.write(ask(1))
        await answers(reader, 1)
        async with connected(port) as (second, _):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(second.readexactly(1), 5)
        writer.write(ask(2))
        assert len(await answers(reader, 1)) == 1


async def test_silent_takes_requests_and_answers_none_until_it_is_switched_off():
    async with listening() as (server, port), connected(port) as (reader, writer):
        server.faults.add(Fault.SILENT)
        writer.write(ask(1))
        while server.requests.received < 1:
            await asyncio.sleep(0.001)
        server.faults.clear()
        writer.write(ask(2))
        (frame,) = await answers(reader, 1)
        assert frame.transaction_id == 2


async def test_slow_answers_late_and_in_order_also_what_was_pipelined():
    async with listening(slow_s=0.02) as (server, port), connected(port) as (reader, writer):
        server.faults.add(Fault.SLOW)
        started = asyncio.get_running_loop().time()
        writer.write(ask(1) + ask(2) + ask(3))
        seen = await answers(reader, 3)
        assert [frame.transaction_id for frame in seen] == [1, 2, 3]
        assert asyncio.get_running_loop().time() - started >= 0.055


async def test_a_slow_answer_that_is_owed_when_the_client_leaves_is_forgotten():
    async with listening(slow_s=60) as (server, port):
        server.faults.add(Fault.SLOW)
        async with connected(port) as (_, writer):
            writer.write(ask(1))
            while server.requests.received < 1:
                await asyncio.sleep(0.001)
    assert not server.connections


async def test_reset_cuts_the_connection_when_a_request_comes():
    async with listening() as (server, port), connected(port) as (reader, writer):
        server.faults.add(Fault.RESET)
        writer.write(ask(1))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), 5)


async def test_busy_is_exception_six():
    async with listening() as (server, port), connected(port) as (reader, writer):
        server.faults.add(Fault.BUSY)
        writer.write(ask(1))
        (frame,) = await answers(reader, 1)
        assert frame.pdu == b"\x83\x06"


async def test_garbage_is_never_a_modbus_header():
    async with listening() as (server, port), connected(port) as (reader, writer):
        server.faults.add(Fault.GARBAGE)
        seen = set()
        for n in range(300):
            writer.write(ask(n))
            noise = await asyncio.wait_for(reader.readexactly(11), 5)
            assert noise[2:4] != b"\0\0"
            seen.add(noise)
        assert len(seen) > 100


async def test_a_client_that_does_not_read_is_not_read():
    async with listening() as (server, port), connected(port) as (reader, writer):
        writer.transport.set_write_buffer_limits(high=1 << 30)
        sent = 200_000
        writer.write(b"".join(ask(n & 0xFFFF) for n in range(sent)))
        seen, buffer = 0, bytearray()
        async with asyncio.timeout(20):
            while seen < sent:
                buffer += await reader.read(65536)
                seen += len(split(buffer))
        assert server.requests.answered == sent


async def test_a_port_in_use_is_one_clear_line():
    async with listening() as (_, port):
        other = ModbusServer(echo)
        with pytest.raises(EvedgeError, match=f"cannot listen on 127.0.0.1:{port}: address already in use"):
            await other.start("127.0.0.1", port)
        await other.close()


async def test_closing_twice_cuts_everybody_and_frees_the_port():
    server = ModbusServer(echo)
    port = await server.start("127.0.0.1", 0)
    async with connected(port) as (reader, writer):
        writer.write(ask(1))
        await answers(reader, 1)
        await server.close()
        await server.close()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), 5)
    again = ModbusServer(echo)
    assert await again.start("127.0.0.1", port) == port
    await again.close()
