"""A headless chromium for tests, driven over its DevTools protocol: open a page, ask it, click, type, look.

It is Debian's package `chromium`; where it is missing, `missing()` says so. One browser has one page here.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

DEADLINE_S = 30.0
NAMES = ("chromium", "chromium-browser", "google-chrome")
_LISTENING = re.compile(r"DevTools listening on ws://([\w.:]+)/")
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # the tests run as root in CI; the page is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def missing() -> str | None:
    """What this machine lacks for a browser; None when nothing."""
    return None if _program() else "a browser needs chromium on the path"


def _program() -> str | None:
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """The browser's page. What it logged as an error or threw stands in `errors`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.errors: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its answer; events that come in between are looked at."""
        number = next(self._ids)
        async with asyncio.timeout(DEADLINE_S):
            await self._socket.send_json({"id": number, "method": method, "params": params})
            while True:
                said = await self._socket.receive_json()
                if said.get("id") == number:
                    assert "error" not in said, f"{method}: {said['error']}"
                    return said["result"]
                self._look_at(said)

    def _look_at(self, event: dict[str, Any]) -> None:
        match event:
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
                self.errors.append(json.dumps(details)[:500])
            case {"method": "Runtime.consoleAPICalled", "params": {"type": "error", "args": args}}:
                self.errors.append(json.dumps(args)[:500])

    async def open(self, url: str, *, width: int = 1280, height: int = 900) -> None:
        await self.call("Runtime.enable")
        await self.resize(width, height)
        await self.call("Page.navigate", url=url)

    async def resize(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def ask(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def wait(self, expression: str) -> Any:
        """What the expression gives once it is truthy."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (found := await self.ask(expression)):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            text = await self.ask("document.body.innerText")
            raise AssertionError(f"waited in vain for {expression}; the page reads:\n{text}\n{self.errors}") from None
        return found

    async def click(self, element: str) -> None:
        """A real click in the middle of what a JavaScript expression gives, once it is there and stands still."""
        x, y = await self.wait(
            f"(async () => {{ const e = {element}; if (!e) return null; e.scrollIntoView({{block: 'center'}});"
            " const at = () => { const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] };"
            " const before = at(); await new Promise(r => setTimeout(r, 100)); const after = at();"
            " return String(before) === String(after) ? after : null })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def type(self, text: str) -> None:
        """Text into what has the focus, in place of what it holds."""
        await self.ask("document.activeElement.select?.()")
        await self.call("Input.insertText", text=text)

    async def screenshot(self, file: Path) -> None:
        """The whole page as PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """A browser with an empty page; its profile is in `folder`."""
    program = _program()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        *_OPTIONS,
        f"--user-data-dir={folder / 'chromium'}",
        "about:blank",
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    said = None
    try:
        address = await _address(process)
        said = asyncio.create_task(_read_away(process), name="chromium[stderr]")
        async with (
            aiohttp.ClientSession(f"http://{address}") as session,
            session.get("/json/list") as answer,
        ):
            target = next(each for each in await answer.json() if each["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if said is not None:
            await said


async def _address(process: Process) -> str:
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(DEADLINE_S):
        while line := (await process.stderr.readline()).decode(errors="replace"):
            said += line
            if found := _LISTENING.search(line):
                return found[1]
    raise AssertionError(f"chromium ended:\n{said[-2000:]}")


async def _read_away(process: Process) -> None:
    assert process.stderr is not None
    while await process.stderr.read(65536):
        pass
