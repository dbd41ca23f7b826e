"""From the configuration to what the parts are given."""

from __future__ import annotations

import json

import pytest

from evedge.build import agent_client, front_settings
from evedge.config import parse


def test_a_front_that_is_switched_off_listens_nowhere_in_the_clear() -> None:
    tls = {"bind": "", "tls_bind": "127.0.0.1:0", "tls_cert_file": "/dev/null", "tls_key_file": "/dev/null"}
    settings = front_settings(parse({"gateway": {"id": "a"}, "mqtt": tls}))
    assert (settings.bind, settings.tls_bind) == (None, "127.0.0.1:0")


def test_a_front_listens_where_bind_says() -> None:
    settings = front_settings(parse({"gateway": {"id": "a"}, "mqtt": {"bind": "[::1]:0"}}))
    assert (settings.bind, settings.tls_bind) == ("[::1]:0", None)


AGENT = {"gateway": {"id": "site-042"}, "recharge_points": [{"id": "rp-07", "host": "h", "profile": "abb-terra-ac"}]}


@pytest.mark.parametrize(
    ("mqtt", "name", "client_id"),
    [
        ({"username": "plc-1"}, "plc-1", "plc-1"),
        ({"username": "plc-1", "client_id": "c"}, "plc-1", "c"),
        ({"client_id": "plc-1"}, "plc-1", "plc-1"),
        ({}, "site-042-agent", "site-042-agent"),
    ],
)
def test_an_agent_is_called_by_its_user_or_client_id(mqtt: dict[str, str], name: str, client_id: str) -> None:
    config = parse({**AGENT, "mqtt": {"url": "mqtts://b", **mqtt}})
    settings = agent_client(config, "1.0")
    assert config.agent_name == name
    assert (settings.client_id, settings.host, settings.port, settings.tls) == (client_id, "b", 8883, True)
    assert settings.status_topic == f"evedge/site-042/agent/{name}/status"
    assert json.loads(settings.offline) == {"gateway": "site-042", "agent": name, "state": "offline", "version": "1.0"}
    assert settings.subscribe == ("evedge/site-042/rp/rp-07/command",)
