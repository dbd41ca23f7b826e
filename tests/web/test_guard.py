"""Which names a request may be addressed to."""

import pytest

from evedge.web.guard import Hosts


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST.",
        "page.localhost:1",
        "127.0.0.1",
        "127.0.0.1:9999",
        "192.0.2.7:8080",
        "[::1]",
        "[::1]:8080",
        "[fe80::1%eth0]:80",
        "edge.example",
        "Edge.Example.:443",
        "dash.example:80",
    ],
)
def test_the_bound_name_loopback_addresses_and_allowed_names_are_served(host):
    assert Hosts("edge.example", ["dash.example"]).allow([host])


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "xlocalhost:80",
        "edge.example.evil.example",
        "sub.edge.example",
        "edge.example:80:80",
        "[evil.example]",
        "127.1:x",
        "2130706433",
        "",
    ],
)
def test_foreign_names_are_refused(host):
    assert not Hosts("edge.example", ["dash.example"]).allow([host])


def test_a_name_that_comes_twice_is_refused():
    assert not Hosts("127.0.0.1").allow(["localhost", "evil.example"])


def test_a_request_without_a_host_comes_from_no_browser():
    assert Hosts("127.0.0.1").allow([])
