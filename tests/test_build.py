"""From the configuration to what the parts are given."""

from __future__ import annotations

from evedge.build import front_settings
from evedge.config import parse


def test_a_front_that_is_switched_off_listens_nowhere_in_the_clear() -> None:
    tls = {"bind": "", "tls_bind": "127.0.0.1:0", "tls_cert_file": "/dev/null", "tls_key_file": "/dev/null"}
    settings = front_settings(parse({"gateway": {"id": "a"}, "mqtt": tls}))
    assert (settings.bind, settings.tls_bind) == (None, "127.0.0.1:0")


def test_a_front_listens_where_bind_says() -> None:
    settings = front_settings(parse({"gateway": {"id": "a"}, "mqtt": {"bind": "[::1]:0"}}))
    assert (settings.bind, settings.tls_bind) == ("[::1]:0", None)
