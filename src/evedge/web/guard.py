"""Which Host header a request may carry, and the headers every answer carries.

A page of a foreign site that makes its own name point here (DNS rebinding) would read everything with the visitor's
browser; such a request still names the foreign host. Names that nobody else can own are fine, whatever the port.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "evedge",
}
"""For every answer that does not say otherwise."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""For the page itself: its own files, and nothing from elsewhere or within the text."""


class Hosts:
    """The names a request may be addressed to. `bound` is where the server listens, a name or an address."""

    def __init__(self, bound: str, allowed: Collection[str] = ()) -> None:
        self._names = LOOPBACK_NAMES | {_plain(name) for name in (bound, *allowed)}

    def allow(self, given: Sequence[str]) -> bool:
        """Whether a request with these Host headers is answered. None at all: no browser asks that way."""
        return not given or (len(given) == 1 and self._allow(given[0]))

    def _allow(self, host: str) -> bool:
        name = _plain(_without_port(host))
        if name in self._names or name.endswith(".localhost"):  # RFC 6761 keeps all of .localhost on this machine
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True


def _plain(name: str) -> str:
    return name.strip().removeprefix("[").removesuffix("]").rstrip(".").lower()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and ":" not in name and (not port or port.isdecimal()) else host
