"""What the MQTT side counts: plain integers, raised where things happen and rendered when somebody asks.

Each only grows, but `clients`, `sessions`, `session_bytes`, `retained` and `retained_bytes`, which are as they are now.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class MqttCounters:
    """One object for the whole broker. Keys of the tables are reasons, fixed words of ours."""

    clients: int = 0
    sessions: int = 0
    session_bytes: int = 0
    retained: int = 0
    retained_bytes: int = 0
    received: int = 0
    delivered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Deliveries to a subscriber that did not happen: `session_full`, `offline` (QoS 0, nobody there)."""
    refused: Counter[str] = field(default_factory=Counter)
    """Connections that did not become clients: `login`, `max_clients`, `max_sessions`, `client_id` …"""
    closed: Counter[str] = field(default_factory=Counter)
    """Clients that the broker cut off: `keep_alive`, `malformed`, `denied`, `taken_over` …"""
    denied_publishes: int = 0
    denied_subscribes: int = 0
    ignored_publishes: int = 0
    """On `$…` topics: acknowledged, and nothing else."""
    retained_refused: int = 0
    wills_published: int = 0
    wills_dropped: int = 0
