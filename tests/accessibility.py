"""axe-core for tests in a browser: npm gets it once into `.cache/axe/`, which git ignores.

`missing()` says what lacks.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from browser import Page

VERSION = "4.10.3"
CACHE = Path(__file__).parents[1] / ".cache" / "axe"
_PACKAGE = CACHE / "node_modules" / "axe-core"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def missing() -> str | None:
    """What this machine lacks to get axe-core; None when it is there now."""
    if _there():
        return None
    if shutil.which("npm") is None:
        return "axe-core needs npm on the path"
    CACHE.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        ended = subprocess.run([*command, f"axe-core@{VERSION}"], capture_output=True, text=True, timeout=45)
    except subprocess.TimeoutExpired:
        return "npm took too long to get axe-core"
    return None if _there() else f"npm could not get axe-core: {ended.stderr.strip()[-300:]}"


def _there() -> bool:
    about = _PACKAGE / "package.json"
    return about.exists() and json.loads(about.read_text())["version"] == VERSION


async def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it stands: the rule and the first elements."""
    await page.ask(f"{(_PACKAGE / 'axe.min.js').read_text()}; 0")
    found = await page.ask(
        f"axe.run(document, {{runOnly: {json.dumps(_RULES)}}}).then(said => said.violations.map("
        "one => one.id + ': ' + one.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(' | ')))"
    )
    return list(found)
