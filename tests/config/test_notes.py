"""What works but deserves a second look."""

# ruff: noqa: E501 -- lines stand as they are printed

from __future__ import annotations

from collections.abc import Callable

import pytest
from argon2 import PasswordHasher

from evedge.config import Config
from evedge.config.notes import notes

HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("correct horse")
USER = f'[[mqtt.users]]\nname = "plc-1"\npassword_hash = "{HASH}"\n'
OWNED = '[[recharge_points]]\nid = "rp-07"\nagent = "plc-1"\n'
POLLED = '[[recharge_points]]\nid = "rp-01"\nhost = "192.0.2.10"\nprofile = "abb-terra-ac"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[kafka]\n" + POLLED, []),
        (POLLED, ["no [kafka]: a local broker and poller, nothing leaves the site"]),
        (
            "[kafka]\n",
            ["no [[recharge_points]] and no [[routes]]: nothing but the gateway's own status and telemetry is sent"],
        ),
        (
            '[kafka]\n[mqtt]\nbind = "0.0.0.0:1883"\n' + USER + POLLED,
            ["mqtt.bind = 0.0.0.0:1883: passwords cross the network in the clear; tls_bind encrypts them"],
        ),
        (
            '[kafka]\n[mqtt]\nurl = "mqtt://b"\nusername = "u"\npassword = "p"\n' + POLLED,
            ["mqtt.url = mqtt://b:1883: the password crosses the network in the clear; mqtts:// encrypts it"],
        ),
        (
            '[kafka]\n[[routes]]\nmqtt_topic = "a"\nkafka_topic = "b"',
            ["no [[mqtt.users]] and allow_anonymous = false: nobody can publish on the routed topics"],
        ),
        (
            "[kafka]\n"
            + USER
            + 'publish = ["evedge/site-042/rp/rp-07/telemetry", "+/+/rp/+/command/result"]\n'
            + OWNED,
            [
                (
                    'recharge_points[0].agent = "plc-1": this user may not publish on evedge/site-042/rp/rp-07/status and not'
                    " publish on evedge/site-042/rp/rp-07/alert and not publish on evedge/site-042/agent/plc-1/status"
                    " and not subscribe to evedge/site-042/rp/rp-07/command"
                )
            ],
        ),
        (
            "[kafka]\n"
            + USER
            + 'publish = ["evedge/site-042/rp/rp-07/#", "evedge/+/agent/plc-1/status"]\nsubscribe = ["#"]\n'
            + OWNED,
            [],
        ),
        (
            "[kafka]\n" + POLLED + '[[commands.issuers]]\nname = "a"\nrecharge_points = ["rp-0?", "rp-1*"]',
            ['commands.issuers[0].recharge_points[1] = "rp-1*": no recharge point is called like that'],
        ),
    ],
)
def test_a_configuration_that_works_gives_these_notes(
    text: str, expected: list[str], loaded: Callable[..., Config]
) -> None:
    assert notes(loaded(text)) == expected
