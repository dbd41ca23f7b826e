"""The page in a real browser: what it shows, that it stays true without a reload, and that everybody can use it."""

import asyncio
import json
from datetime import UTC, datetime

import msgspec
import pytest
import pytest_asyncio

import accessibility
import browser
from evedge.core.commands import Purpose
from evedge.core.model import Link, Quality
from evedge.core.status import UNTOUCHED, HoldNow, LimitNow
from evedge.web.server import WebServer
from kafka_server import must_not_skip
from status_example import STATUS, TurnedSource

pytestmark = pytest.mark.asyncio(loop_scope="module")
replace = msgspec.structs.replace
FIRST, SECOND = STATUS.recharge_points
POINTS = "#recharge-points tbody tr"
NASTY = '<img src=x onerror="document.title=1"><b>&amp;'
COLLECT_REFUSED = (
    "window.refused = []; addEventListener('securitypolicyviolation', one => refused.push(one.blockedURI))"
)


def need(reason):
    if reason is not None:
        if must_not_skip():
            pytest.fail(reason)
        pytest.skip(reason)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium(tmp_path_factory):
    """One browser for all: starting one takes longer than most of what is tested."""
    need(browser.missing())
    async with browser.browser(tmp_path_factory.mktemp("chromium")) as page:
        await page.call("Page.enable")
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=COLLECT_REFUSED)
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium):
    """The browser's page; at the end, nothing went wrong in it and the policy had nothing to refuse."""
    chromium.errors.clear()
    yield chromium
    assert await chromium.ask("window.refused") == []
    await chromium.call("Page.navigate", url="about:blank")
    await chromium.call("Emulation.setEmulatedMedia", features=[])
    await chromium.call("Emulation.setTimezoneOverride", timezoneId="")
    assert chromium.errors == []


@pytest.fixture
def source():
    return TurnedSource()


@pytest_asyncio.fixture(loop_scope="module")
async def server(source):
    async with WebServer("127.0.0.1", 0, source) as server:
        yield server


async def opened(page, server, **options):
    await page.open(f"http://{server.address}/", **options)
    await page.wait(f"document.querySelectorAll('{POINTS}').length")


def with_first(**changed):
    return replace(STATUS, recharge_points=[replace(FIRST, **changed), SECOND])


def many(count, **changed):
    points = [replace(FIRST, id=f"rp-{number:03d}", **changed) for number in range(count)]
    return replace(STATUS, recharge_points=points)


async def cells(page, section, row):
    """What a row shows, by column."""
    return await page.ask(
        f"Object.fromEntries([...document.querySelectorAll('#{section} tbody tr')[{row}].children]"
        ".map(cell => [cell.dataset.label, cell.innerText.replaceAll('\\u00a0', ' ')]))"
    )


def text(element):
    return f"document.querySelector({json.dumps(element)}).innerText"


async def test_a_recharge_point_shows_its_state_its_limit_and_who_holds_it(page, server):
    await page.call("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    await opened(page, server)
    shown = await cells(page, "recharge-points", 0)
    assert shown["Recharge point"].split("\n") == ["rp-01", "ABB Terra AC"]
    assert (shown["Link"], shown["State"], shown["Power"], shown["Limit"]) == (
        "online",
        "charging",
        "11.04 kW",
        "10.0 A",
    )
    assert shown["Current"] == "–"  # not measured is not 0
    assert shown["Why"].split("\n") == ["10 A: market limit", "by dr-service, until 23 Nov, 21:20"]
    assert shown["Last seen"] in {"now", "5 s ago", "6 s ago"}
    until = "document.querySelector('#recharge-points td time')"
    assert await page.ask(f"[{until}.title, {until}.dateTime]") == [
        "2026-11-23 12:20:00 UTC",
        "2026-11-23T12:20:00.000Z",
    ]
    agents = await cells(page, "recharge-points", 1)
    assert agents["Link"].split("\n") == ["offline", "agent plc-1 is not connected"]
    assert (agents["Why"], agents["Last seen"]) == ("agent plc-1 decides", "never")
    assert await page.ask(text("#totals")) == "2 recharge points: 1 charging, 1 offline. 11.04\u00a0kW together."


async def test_what_nobody_commanded_is_as_the_device_has_it(page, server, source):
    source.shown = with_first(limit=LimitNow(current_a=None, paused=False, why=UNTOUCHED, holds=[]))
    await opened(page, server)
    assert (await cells(page, "recharge-points", 0))["Why"] == "as the device has it"


async def test_every_hold_is_shown_and_the_one_that_decides_comes_first(page, server, source):
    grid = HoldNow(purpose=Purpose.GRID, current_a=None, issuer=None, command_id="c-0", ends_at=None)
    limit = LimitNow(current_a=None, paused=True, why="paused by command", command_id="c-0", holds=[])
    source.shown = with_first(limit=replace(limit, holds=[*FIRST.limit.holds, grid]))
    await opened(page, server)
    lines = (await cells(page, "recharge-points", 0))["Why"].split("\n")
    assert lines[:2] == ["pause: paused by command", "by somebody, until replaced"]
    assert lines[2].startswith("also market 10 A, by dr-service, until ")


async def test_links_queues_and_alerts_are_shown(page, server):
    await opened(page, server)
    mqtt, kafka, journal = [await cells(page, "links", row) for row in range(3)]
    assert (mqtt["State"], mqtt["Details"]) == ("up", "3 clients, 7 messages received, 9 delivered")
    assert (kafka["State"], kafka["Waiting"], kafka["Details"]) == ("down", "8 records", "connection refused")
    assert (journal["State"], journal["Waiting"]) == ("up", "4.0 KiB")
    assert journal["Details"] == "8 records, 0 % of 1.0 MiB; when full, publishers wait"
    queue = await cells(page, "queues", 1)
    assert list(queue.values()) == ["evedge.telemetry", "100", "91", "8", "1 dead_letter"]
    alert = await page.ask(text("#alerts li"))
    assert " ".join(alert.split()).startswith("error rp-07 agent plc-1 is not connected offline, since ")


async def test_without_kafka_there_is_nothing_about_it(page, server, source):
    source.shown = replace(STATUS, links=replace(STATUS.links, kafka=None, mqtt=None), queues=[], alerts=[])
    await opened(page, server)
    assert await page.ask("document.querySelectorAll('#links tbody tr').length") == 1
    assert await page.ask(
        "[document.querySelector('#queues').hidden, document.querySelector('#no-alerts').hidden]"
    ) == [
        True,
        False,
    ]


async def test_a_recharge_point_that_goes_offline_shows_without_a_reload(page, server, source):
    await opened(page, server)
    await page.ask(
        "void (window.sameDocument = true, window.row = document.querySelector('#recharge-points tbody tr'))"
    )
    source.shown = with_first(state=Link.OFFLINE, reason="no answer", age_s=400.0)
    async with asyncio.timeout(5):
        await page.wait(f"{text(POINTS)}.includes('offline')")
    shown = await cells(page, "recharge-points", 0)
    assert shown["Link"].split("\n") == ["offline", "no answer"]
    assert shown["Last seen"] == "6 min ago"
    assert await page.ask(f"window.sameDocument && window.row === document.querySelector('{POINTS}')")


async def test_a_poll_that_failed_shows_before_the_recharge_point_counts_as_offline(page, server, source):
    source.shown = with_first(quality=Quality.BAD)
    await opened(page, server)
    assert (await cells(page, "recharge-points", 0))["Link"] == "last poll failed"


async def test_age_grows_while_nothing_is_heard(page, server, source):
    source.shown = with_first(age_s=61.0)
    await opened(page, server)
    await page.wait(f"/ago/.test({text(POINTS)}) && !/61 s ago/.test({text(POINTS)})")


async def test_only_what_changed_is_touched(page, server, source):
    source.shown = many(200, age_s=1_440_000.0)  # old enough for "16 d 16 h ago" to stand still
    await opened(page, server)
    await page.ask(
        "void (window.touched = new Set(), new MutationObserver(all => all.forEach(one => touched.add("
        "(one.target.closest?.('tr') ?? one.target.parentElement.closest('tr')).rowIndex)))"
        ".observe(document.querySelector('#recharge-points tbody'),"
        " {childList: true, subtree: true, characterData: true, attributes: true}))"
    )
    points = source.shown.recharge_points
    changed = replace(points[150], values={**FIRST.values, "active_power_w": 7000.0})
    source.shown = replace(source.shown, recharge_points=[*points[:150], changed, *points[151:]])
    await page.wait(f"{text(f'{POINTS}:nth-child(151)')}.includes('7.00')")
    assert await page.ask("[...window.touched].filter(row => row !== 151).length") == 0


async def test_a_lost_connection_is_seen_and_comes_back_by_itself(page, source):
    async with WebServer("127.0.0.1", 0, source) as server:
        port = server.port
        await opened(page, server)
        assert await page.ask(text("#connection")) == "live"
        await server.close()
        await page.wait("!document.querySelector('#lost').hidden")
        assert await page.ask(text("#connection")) == "connection lost"
        assert await page.ask("document.querySelector('#news').textContent") == "Connection lost."
        banner = await page.ask(text("#lost"))
        assert "Shown is what was true at" in banner
        assert "trying again" in banner
    source.shown = with_first(state=Link.OFFLINE, reason="no answer")
    async with WebServer("127.0.0.1", port, source):
        await page.wait(f"document.querySelector('#lost').hidden && {text(POINTS)}.includes('no answer')")
        assert await page.ask(text("#connection")) == "live"


async def test_a_page_that_nobody_sees_gives_its_connection_back(page, server):
    added = await page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="const wait = setTimeout; window.setTimeout = (then, ms) => wait(then, ms === 60000 ? 50 : ms)",
    )
    await opened(page, server)
    await page.call("Page.removeScriptToEvaluateOnNewDocument", **added)
    turn = (
        "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
        " void document.dispatchEvent(new Event('visibilitychange'))"
    )
    await page.ask(turn % "true")
    await page.wait(f"{text('#connection')} === 'connecting'")
    async with asyncio.timeout(10):
        while server.listening:
            await asyncio.sleep(0.05)
    await page.ask(turn % "false")
    await page.wait(f"{text('#connection')} === 'live'")
    assert server.listening == 1


async def test_alerts_are_announced_as_they_come_and_go(page, server, source):
    source.shown = replace(STATUS, alerts=[])
    await opened(page, server)
    assert await page.ask("document.querySelector('#news').textContent") == ""
    source.shown = STATUS
    await page.wait("document.querySelector('#news').textContent === 'Alert, rp-07: agent plc-1 is not connected.'")
    assert await page.ask("document.title") == "(1) site-042 – evedge"
    source.shown = replace(STATUS, alerts=[])
    await page.wait("document.querySelector('#news').textContent === 'Over, rp-07: agent plc-1 is not connected.'")
    live = await page.ask(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map(one => one.id)"
    )
    assert live == ["news"]


async def test_other_peoples_texts_are_shown_as_text(page, server, source):
    hold = replace(FIRST.limit.holds[0], issuer=NASTY)
    point = replace(
        FIRST,
        id=NASTY,
        reason=NASTY,
        identity=msgspec.convert({"vendor": NASTY}, type(FIRST.identity)),
        values={"state": NASTY},
        limit=replace(FIRST.limit, why=NASTY, holds=[hold]),
    )
    alert = replace(STATUS.alerts[0], message=NASTY, recharge_point=NASTY)
    gateway = replace(STATUS.gateway, reason=NASTY)
    source.shown = replace(STATUS, gateway=gateway, recharge_points=[point], alerts=[alert])
    await opened(page, server)
    assert (await cells(page, "recharge-points", 0))["State"] == NASTY
    assert await page.ask("document.querySelectorAll('img, b').length") == 0
    assert await page.ask("document.title") == "(1) site-042 – evedge"


async def test_nothing_is_loaded_from_elsewhere(page, server):
    await opened(page, server)
    loaded = await page.ask("performance.getEntriesByType('resource').map(one => one.name)")
    assert loaded
    assert all(name.startswith(f"http://{server.address}/") for name in loaded)


@pytest.mark.parametrize("width", [320, 360, 768, 1024, 1100, 1600])
async def test_it_fits_every_width(page, server, source, width):
    source.shown = many(3, values={**FIRST.values, "current_l1_a": 16.04, "current_l2_a": 15.96, "current_l3_a": 16.0})
    await opened(page, server, width=width)
    assert await page.ask("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('td, th')].filter(cell => cell.scrollWidth > cell.clientWidth + 1)"
    assert await page.ask(f"{cut}.map(cell => cell.innerText)") == []
    labelled = await page.ask("getComputedStyle(document.querySelector('#recharge-points td'), '::before').content")
    assert labelled == ('"Link"' if width <= 1024 else "none")


async def test_the_keyboard_reaches_every_link_and_shows_where_it_is(page, server):
    await opened(page, server)
    reached = []
    for _ in range(7):
        for kind in ("keyDown", "keyUp"):
            await page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(
            await page.ask("[document.activeElement.innerText, getComputedStyle(document.activeElement).outlineStyle]")
        )
    assert reached == [
        [name, "solid"]
        for name in ("Alerts", "Recharge points", "Links", "Queues", "Status as JSON", "Metrics", "Ready?")
    ]


async def test_who_wants_no_motion_gets_none(page, server):
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    await opened(page, server)
    moving = "[...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s')"
    assert await page.ask(f"{moving}.length") == 0
    assert await page.ask("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


@pytest.mark.parametrize("lost", [False, True], ids=["live", "lost"])
@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong(page, server, source, scheme, width, lost):
    need(accessibility.missing())
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    degraded = replace(FIRST, id="rp-02", state=Link.DEGRADED, reason="energy: illegal data address", measured_at=at)
    source.shown = replace(STATUS, recharge_points=[FIRST, degraded, SECOND])
    await opened(page, server, width=width)
    if lost:
        await server.close()
        await page.wait("!document.querySelector('#lost').hidden")
        await page.ask("Promise.all(document.getAnimations().map(one => one.finished)).then(() => 0)")
    assert await accessibility.violations(page) == []
