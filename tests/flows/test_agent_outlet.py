"""What an agent publishes, and what it keeps to itself."""

import pytest

from evedge.core.model import Stream
from evedge.flows.agent_outlet import AgentOutlet


class Publisher:
    def __init__(self):
        self.published = []

    def publish(self, topic, payload, **facts):
        self.published.append((topic, payload, facts))
        return "kept"


@pytest.mark.parametrize(
    ("stream", "recharge_point", "leaves"),
    [
        (Stream.TELEMETRY, "rp-07", True),
        (Stream.STATUS, "rp-07", True),
        (Stream.ALERTS, "rp-07", True),
        (Stream.COMMAND_RESULTS, "rp-07", True),
        (Stream.ALERTS, None, False),
        (Stream.COMMAND_RESULTS, None, False),
        (Stream.GATEWAY_STATUS, None, False),
        (Stream.GATEWAY_TELEMETRY, None, False),
    ],
)
def test_only_what_is_a_recharge_points_leaves(stream, recharge_point, leaves):
    publisher = Publisher()
    facts = {
        "stream": stream,
        "recharge_point": recharge_point,
        "timestamp_ms": 7,
        "durable": True,
        "retain": True,
    }
    kept = AgentOutlet(publisher).publish("t", b"p", **facts)
    assert publisher.published == ([("t", b"p", facts)] if leaves else [])
    assert kept == ("kept" if leaves else None)
