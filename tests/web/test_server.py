"""The web server on a real socket."""

import asyncio
import json

import pytest
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from evedge.core.errors import Refused
from evedge.web import http
from evedge.web.server import PAGE_FILES, WebServer
from status_example import TurnedSource


@pytest.fixture
def source():
    return TurnedSource()


@pytest.fixture
async def server(source):
    async with WebServer("127.0.0.1", 0, source, allowed_hosts=["dash.example"]) as server:
        yield server


@pytest.fixture
async def client(server):
    async with ClientSession(
        f"http://{server.address}", timeout=ClientTimeout(total=10), cookie_jar=DummyCookieJar()
    ) as client:
        yield client


async def text(client, path, **options):
    async with client.get(path, **options) as answer:
        return answer.status, await answer.text()


async def raw(server, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def test_it_is_alive(client):
    assert await text(client, "/healthz") == (200, "ok\n")


async def test_readiness_tells_its_reason(client, source):
    assert await text(client, "/readyz") == (200, "ready\n")
    source.not_ready = "the MQTT broker does not listen"
    assert await text(client, "/readyz") == (503, "the MQTT broker does not listen\n")
    assert (await text(client, "/healthz"))[0] == 200


async def test_the_status_is_json(client):
    async with client.get("/api/v1/status") as answer:
        assert answer.content_type == "application/json"
        status = await answer.json()
    assert status["recharge_points"][0]["limit"]["holds"][0]["issuer"] == "dr-service"


async def test_metrics_can_be_scraped(client):
    async with client.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(await answer.text()))
    assert "evedge_kafka_up" in {family.name for family in families}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/nothing-here"])
async def test_every_answer_carries_the_security_headers(client, path):
    async with client.get(path) as answer:
        headers = answer.headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Server"] == "evedge"
    assert headers["Cache-Control"] == ("no-cache" if path == "/" else "no-store")


@pytest.mark.parametrize("path", PAGE_FILES)
async def test_the_page_comes_with_its_files_and_nothing_inline(client, path):
    async with client.get(path) as answer:
        assert answer.status == 200
        assert answer.content_type == PAGE_FILES[path][1]
        body = await answer.text()
    assert "http://" not in body.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in body
    if path == "/":
        assert "<style" not in body
        assert '<script type="module" src=' in body
        assert " style=" not in body
        assert " onclick=" not in body


async def test_head_is_answered_like_get_without_a_body(client):
    async with client.head("/api/v1/status") as answer:
        assert answer.status == 200
        assert await answer.read() == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(client, method):
    async with client.request(method, "/api/v1/status", data=b"{}") as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 403), ("evil.example:80", 403), ("dash.example", 200), ("localhost:1", 200), ("10.1.2.3", 200)],
)
async def test_a_foreign_host_is_refused(client, host, status):
    for path in ("/healthz", "/api/v1/status", "/nothing-here"):
        answered, body = await text(client, path, headers={"Host": host})
        assert answered == (404 if status == 200 and path == "/nothing-here" else status)
        assert "evil" not in body


async def test_two_hosts_are_refused(server):
    answer = await raw(
        server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    )
    assert answer.split()[1] in {"400", "403"}


async def test_a_health_check_without_a_host_is_served(server):
    answer = await raw(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.split()[1] == "200"
    assert answer.endswith("\r\n\r\nok\n")


async def test_what_goes_wrong_is_a_short_500_and_logged_once(client, source):
    source.fails = RuntimeError("secret detail")
    with capture_logs() as logs:
        for _ in range(3):
            assert await text(client, "/api/v1/status") == (500, "500 This went wrong here; the log says more.\n")
    assert [entry["event"] for entry in logs] == ["request_failed"]
    source.fails = None
    assert (await text(client, "/api/v1/status"))[0] == 200


async def test_what_is_no_http_is_no_error_of_ours(server):
    with capture_logs() as logs:
        answer = await raw(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert "400" in answer.splitlines()[0]
    assert all(entry["log_level"] == "debug" for entry in logs)


async def test_a_connection_that_asks_nothing_is_closed(server, monkeypatch):
    monkeypatch.setattr(http, "SILENT_S", 0.05)
    assert await raw(server, b"GET /healthz HTTP/1.1\r\n") == ""


async def test_a_connection_too_many_is_closed_and_the_others_go_on(server, client, monkeypatch):
    assert (await text(client, "/healthz"))[0] == 200
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 1)
    assert await raw(server, b"") == ""
    assert (await text(client, "/healthz"))[0] == 200


async def test_idle_sockets_make_room_for_one_who_asks(server, client, monkeypatch):
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 3)
    idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
    assert (await text(client, "/healthz"))[0] == 200
    assert await idle[0][0].read() == b""  # the first to come was the first to go
    for _, writer in idle:
        writer.close()


async def test_a_port_in_use_is_one_clear_line(server, source):
    with pytest.raises(Refused) as refused:
        async with WebServer("127.0.0.1", server.port, source):
            pass
    assert str(refused.value) == (
        f"[web] bind: cannot listen on 127.0.0.1:{server.port}: "
        "another program listens there; stop it or choose another port"
    )


async def test_it_closes_twice_and_lets_go_of_its_port(source):
    server = WebServer("127.0.0.1", 0, source)
    async with server:
        port = server.port
        async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
        await server.close()
    async with WebServer("127.0.0.1", port, source) as again:
        assert again.port == port


async def test_it_listens_on_ipv6(source):
    try:
        async with WebServer("::1", 0, source) as server, ClientSession() as client:
            assert server.address == f"[::1]:{server.port}"
            assert json.loads((await text(client, f"http://{server.address}/api/v1/status"))[1])
    except Refused as refused:
        pytest.skip(f"no IPv6 here: {refused}")
