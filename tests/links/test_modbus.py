import asyncio
import socket
import struct

import pytest

from evedge.core.errors import Outage, Refused
from evedge.core.plan import Block
from evedge.core.profile import Table
from evedge.core.reading import ModbusException, NoAnswer
from evedge.links.modbus import ModbusEndpoint
from modbus_peer import Peer, counting, silent


def block(unit_id, table, address, count):
    return Block(unit_id, Table(table), address, count, ())


BLOCK = block(1, "holding", 100, 3)


def endpoint(peer, **options):
    return ModbusEndpoint("127.0.0.1", peer.port, **{"connect_timeout_s": 10, "timeout_s": 10, **options})


async def test_a_block_of_each_table_is_read():
    async def behave(request, writer):
        if request.function in {1, 2}:
            writer.write(request.answer(bytes([request.function, 2, 0b10100101, 0b01])))
        else:
            await counting(request, writer)

    async with Peer(behave) as peer, endpoint(peer) as link:
        assert list(await link.read(BLOCK)) == [100, 101, 102]
        assert list(await link.read(block(7, "input", 5, 1))) == [5]
        assert list(await link.read(block(1, "coil", 0, 9))) == [1, 0, 1, 0, 0, 1, 0, 1, 1]
        assert list(await link.read(block(1, "discrete", 0, 10))) == [1, 0, 1, 0, 0, 1, 0, 1, 1, 0]
    assert [(r.function, r.unit_id) for r in peer.requests] == [(3, 1), (4, 7), (1, 1), (2, 1)]
    assert peer.connections == 1


async def test_every_writing_function_reaches_the_device_once():
    async with Peer() as peer, endpoint(peer) as link:
        await link.write(3, 6, 10, [4711])
        await link.write(3, 16, 20, [1, 65535])
        await link.write(3, 5, 30, [1])
        await link.write(3, 15, 40, [1, 0, 1])
        with pytest.raises(ValueError):
            await link.write(3, 6, 10, [1, 2])
        with pytest.raises(ValueError):
            await link.write(3, 3, 10, [1])
    assert [r.pdu for r in peer.requests] == [
        struct.pack(">BHH", 6, 10, 4711),
        struct.pack(">BHHBHH", 16, 20, 2, 4, 1, 65535),
        struct.pack(">BHH", 5, 30, 0xFF00),
        struct.pack(">BHHBB", 15, 40, 3, 1, 0b101),
    ]


@pytest.mark.parametrize(
    ("code", "name"),
    [(2, "illegal data address"), (11, "gateway target does not respond"), (99, "Modbus exception 99")],
)
async def test_an_exception_is_a_refusal_with_its_name_and_keeps_the_connection(code, name):
    async def behave(request, writer):
        writer.write(request.exception(code) if request.address == 100 else request.words([1]))

    async with Peer(behave) as peer, endpoint(peer) as link:
        with pytest.raises(ModbusException, match=name) as refused:
            await link.read(BLOCK)
        assert isinstance(refused.value, Refused)
        assert refused.value.code == code
        assert list(await link.read(block(1, "holding", 0, 1))) == [1]
    assert peer.connections == 1


async def test_a_refused_connection_says_so():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(Outage, match=r"^connection refused$"):
            await ModbusEndpoint(host, port).connect()


async def test_an_unknown_name_says_so():
    with pytest.raises(Outage, match=r"the name nowhere\.invalid is unknown"):
        await ModbusEndpoint("nowhere.invalid", 502).connect()


async def test_a_connection_that_nobody_takes_ends_at_its_deadline():
    with socket.socket() as full:  # a backlog that is full drops what knocks
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        with pytest.raises(NoAnswer, match=r"^no connection within 0\.2 s$"):
            await ModbusEndpoint(*address, connect_timeout_s=0.2).connect()
        for filler in fillers:
            filler.close()


async def test_silence_ends_at_the_deadline_and_the_connection_is_thrown_away():
    async with Peer(silent) as peer, endpoint(peer, timeout_s=0.1) as link:
        with pytest.raises(NoAnswer, match=r"^no answer within 0\.1 s$"):
            await link.read(BLOCK)
        assert not link.connected
        await peer.closed.wait()
        with pytest.raises(Outage):
            await link.read(BLOCK)
    assert len(peer.requests) == 1  # nothing was sent twice


async def test_a_late_answer_never_meets_the_next_request():
    late = []

    async def behave(request, writer):
        if len(late) == 0:
            late.append((request, writer))
        else:
            first, first_writer = late[0]
            first_writer.write(first.words([666, 666, 666]))
            writer.write(request.words([1, 2, 3]))

    async with Peer(behave) as peer, endpoint(peer, timeout_s=0.1) as link:
        with pytest.raises(NoAnswer):
            await link.read(BLOCK)
        await link.connect()
        assert list(await link.read(BLOCK)) == [1, 2, 3]
    assert peer.connections == 2


async def test_an_answer_to_another_request_is_not_taken():
    async def behave(request, writer):
        if request.address == 100:
            writer.write(request.answer(b"\3\2\0\1", transaction=request.transaction + 7))
        else:  # first a stray, then, in pieces, the answer
            writer.write(request.answer(b"\3\2\0\1", unit_id=9) + request.words([5])[:9])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(request.words([5])[9:])

    async with Peer(behave) as peer, endpoint(peer, timeout_s=0.2) as link:
        assert list(await link.read(block(1, "holding", 0, 1))) == [5]
        with pytest.raises(NoAnswer, match="only answers to other requests"):
            await link.read(BLOCK)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n", "^the answer is not Modbus$"),
        (
            lambda request: request.answer(b"\3\6\0\1\0\2\0\3")[:4] + b"\xff\xff" + bytes(20),
            "^the answer is not Modbus$",
        ),
        (lambda request: request.answer(b"\4\6\0\1\0\2\0\3"), "function 4, asked was 3"),
        (lambda request: request.answer(b"\3\4\0\1\0\2"), "another size than the 3 values"),
        (lambda request: request.answer(b"\3\10\0\1\0\2\0\3"), "another size than the 3 values"),
        (lambda request: request.answer(b"\x83\2\0\0\0"), "^the answer is not Modbus$"),
    ],
    ids=["http", "length", "function", "short", "miscounted", "exception"],
)
async def test_garbage_is_named_at_once_and_the_connection_is_thrown_away(answer, reason):
    async def behave(request, writer):
        writer.write(answer(request))

    async with Peer(behave) as peer, endpoint(peer, timeout_s=3600) as link:  # no time-out is waited for
        with pytest.raises(Outage, match=reason) as outage:
            await link.read(BLOCK)
        assert not isinstance(outage.value, NoAnswer)
        assert not link.connected
        await peer.closed.wait()


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_connection_that_ends_under_a_request_is_noticed_at_once(end):
    async def behave(request, writer):
        getattr(writer.transport, end)()

    async with Peer(behave) as peer, endpoint(peer, timeout_s=3600) as link:
        with pytest.raises(Outage, match="the device closed the connection"):
            await link.read(BLOCK)
        assert not link.connected


async def test_a_connection_that_ends_between_requests_is_noticed_too():
    async with Peer() as peer, endpoint(peer) as link:
        await link.read(BLOCK)
        peer.hang_up()
        while link.connected:  # what is awaited is the event loop's next look at the socket
            await asyncio.sleep(0)
        with pytest.raises(Outage, match="the device closed the connection"):
            await link.read(BLOCK)
        await link.connect()
        assert list(await link.read(BLOCK)) == [100, 101, 102]


async def test_a_cancelled_request_leaves_no_connection_behind():
    async with Peer(silent) as peer, endpoint(peer) as link:
        reading = asyncio.create_task(link.read(BLOCK))
        await peer.asked.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not link.connected
        await peer.closed.wait()


async def test_closing_ends_the_request_that_is_under_way_and_may_be_done_twice():
    async with Peer(silent) as peer, endpoint(peer, timeout_s=3600) as link:
        reading = asyncio.create_task(link.read(BLOCK))
        await peer.asked.wait()
        link.close()
        link.close()
        with pytest.raises(Outage, match="connection closed"):
            await reading


async def test_requests_go_one_at_a_time():
    open_requests = 0
    most = 0

    async def behave(request, writer):
        nonlocal open_requests, most
        open_requests += 1
        most = max(most, open_requests)
        await asyncio.sleep(0)
        writer.write(request.words(range(request.count)))
        open_requests -= 1

    async with Peer(behave) as peer, endpoint(peer) as link:
        await asyncio.gather(*(link.read(BLOCK) for _ in range(5)))
    assert most == 1
    assert peer.connections == 1


async def test_the_device_gets_the_pauses_it_needs():
    loop = asyncio.get_running_loop()
    times = []

    async def behave(request, writer):
        times.append(loop.time())
        await counting(request, writer)

    async with Peer(behave) as peer:
        before = loop.time()
        async with endpoint(peer, pause_after_connect_s=0.05, pause_between_requests_s=0.03) as link:
            await link.read(BLOCK)
            await link.read(BLOCK)
    assert times[0] - before >= 0.05  # at least: the pauses are promises to the device
    assert times[1] - times[0] >= 0.03


async def test_bytes_nobody_asked_for_are_dropped():
    async def behave(request, writer):
        writer.write(request.words([1, 2, 3]) + b"noise")

    async with Peer(behave) as peer, endpoint(peer) as link:
        for _ in range(3):
            assert list(await link.read(BLOCK)) == [1, 2, 3]


@pytest.mark.parametrize("answered", [True, False])
async def test_a_cancellation_in_the_moment_of_the_answer_is_not_lost(answered):
    async with Peer(counting if answered else silent) as peer, endpoint(peer) as link:
        reading = asyncio.create_task(link.read(BLOCK))
        await peer.asked.wait()
        link._connection._client.ctx.response_future.add_done_callback(lambda _: reading.cancel())
        if not answered:
            peer.hang_up()
        with pytest.raises(asyncio.CancelledError):
            await reading
