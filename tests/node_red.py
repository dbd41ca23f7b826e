"""Node-RED with the example's flow, headless, for tests.

Installed once by `examples/node-red/start --install` into `.cache/node-red/` (ignored by git), again when its
`package.json` changes. Where node or npm is missing, `missing()` says which.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "node-red"
CACHE = ROOT / ".cache" / "node-red"
INSTALL_TIMEOUT_S = 400.0
DEADLINE_S = 40.0


def missing() -> str | None:
    """What this machine lacks to run Node-RED; None when nothing."""
    lacking = [program for program in ("node", "npm") if shutil.which(program) is None]
    return f"Node-RED needs {' and '.join(lacking)} on the path" if lacking else None


def install() -> Path:
    """The folder with its modules; 45 s the first time, nothing after. Two test runs at once share it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([EXAMPLE / "start", "--install"], check=True, timeout=INSTALL_TIMEOUT_S, stdin=DEVNULL)
    return CACHE / "node_modules"


@dataclass(frozen=True)
class NodeRed:
    """A running one. `url` ends with a slash."""

    url: str
    log: Path

    def said(self) -> str:
        return self.log.read_text()

    def check_log(self) -> None:
        """No error in it, from whatever part."""
        assert "[error]" not in self.said(), self.said()
        assert "Error:" not in self.said(), self.said()

    async def start_again(self) -> None:
        """What "restart flows" in the editor does: every node stops and starts."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}flows", headers={"Node-RED-Deployment-Type": "reload"}) as answer,
        ):
            assert answer.status == 204, await answer.text()


@asynccontextmanager
async def node_red(folder: Path, port: int, **environ: str) -> AsyncIterator[NodeRed]:
    """Ready when the dashboard answers; at the end it is stopped, and must stop."""
    modules = install()
    home = folder / "node-red"
    home.mkdir()
    for name in ("flows.json", "package.json", "settings.js"):
        shutil.copy(EXAMPLE / name, home)
    (home / "node_modules").symlink_to(modules)
    log = home / "log"
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            "node",
            "node_modules/node-red/red.js",
            "--userDir",
            str(home),
            "--port",
            str(port),
            cwd=home,
            stdin=DEVNULL,
            stdout=said,
            stderr=said,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
        )
    try:
        running = NodeRed(f"http://127.0.0.1:{port}/", log)
        async with asyncio.timeout(DEADLINE_S):
            while not await _answers(f"{running.url}dashboard"):
                assert process.returncode is None, running.said()
                await asyncio.sleep(0.2)
        yield running
        process.terminate()
        async with asyncio.timeout(DEADLINE_S):
            assert await process.wait() == 0, running.said()
        running.check_log()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
