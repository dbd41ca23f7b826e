"""What the gateway says of itself: payloads as the contract shows them, under the right topics and keys."""

import json

import pytest

from evedge.core.commands import CommandResult, Step
from evedge.core.model import Link, Quality, Stream
from evedge.core.plan import Reading
from evedge.core.reading import Identity, LinkState
from evedge.core.topics import OwnTopics
from evedge.flows.reporter import Reporter
from fakes import EPOCH_MS, Clock


class Publisher:
    def __init__(self):
        self.published = []

    def publish(self, topic, payload, **keys):
        self.published.append((topic, json.loads(payload), keys))

    def of(self, stream):
        return [payload for _, payload, keys in self.published if keys["stream"] is stream]


class Sequences:
    def __init__(self):
        self.last = 0

    def next_seq(self, recharge_point):
        self.last += 1
        return self.last


@pytest.fixture
def house():
    class House:
        publisher, clock = Publisher(), Clock()
        reporter = Reporter(
            publisher,
            Sequences(),
            own=OwnTopics("evedge", "site-042"),
            recharge_points=["rp-01", "rp-02"],
            clock=clock,
            version="1.2.3",
        )

    return House


def reading(values=None, errors=None):
    return Reading(values=values or {}, errors=errors or {}, derived=[], registers={})


@pytest.mark.parametrize(
    ("values", "errors", "quality"),
    [
        ({"state": "charging"}, {}, "good"),
        ({"state": "charging"}, {"active_power_w": "timeout"}, "partial"),
        ({}, {"state": "timeout"}, "bad"),
    ],
)
def test_a_poll_is_numbered_timed_and_volatile(house, values, errors, quality):
    house.reporter.telemetry("rp-01", measured_at_ms=EPOCH_MS + 5, reading=reading(values, errors))
    house.reporter.telemetry("rp-01", measured_at_ms=EPOCH_MS + 6, reading=reading(values, errors))
    (topic, first, keys), (_, second, _) = house.publisher.published
    assert topic == "evedge/site-042/rp/rp-01/telemetry"
    assert first == {
        "gateway": "site-042",
        "recharge_point": "rp-01",
        "seq": 1,
        "measured_at": "2026-09-21T14:13:20.005Z",
        "quality": quality,
        "values": values,
        "errors": errors,
        "derived": [],
    }
    assert second["seq"] == 2
    assert keys == {
        "stream": Stream.TELEMETRY,
        "recharge_point": "rp-01",
        "timestamp_ms": EPOCH_MS + 5,
        "durable": False,
    }


def test_what_is_known_stays_when_a_poll_brings_nothing(house):
    house.reporter.telemetry("rp-01", measured_at_ms=1, reading=reading({"state": "charging"}))
    house.reporter.telemetry("rp-01", measured_at_ms=2, reading=reading({}, {"state": "timeout"}))
    view = house.reporter.recharge_points["rp-01"]
    assert (view.values, view.measured_at_ms, view.quality) == ({"state": "charging"}, 1, Quality.BAD)


def test_a_status_is_retained_and_since_says_when_the_state_began(house):
    house.reporter.status("rp-01", LinkState(Link.DEGRADED, "state: timeout"))
    house.clock.now_ms += 1000
    house.reporter.status("rp-01", LinkState(Link.DEGRADED, "power: timeout", Identity(vendor="ABB")))
    house.clock.now_ms += 1000
    house.reporter.status("rp-01", LinkState(Link.ONLINE, None))
    first, second, third = house.publisher.of(Stream.STATUS)
    assert first["since"] == second["since"] == "2026-09-21T14:13:20.000Z"
    assert third["since"] == "2026-09-21T14:13:22.000Z"
    assert third["vendor"] == "ABB"  # who it is does not change with the link
    assert "reason" not in third
    topic, _, keys = house.publisher.published[0]
    assert topic == "evedge/site-042/rp/rp-01/status"
    assert keys["retain"]
    assert keys["durable"]


def test_a_link_that_fails_is_an_alert_until_it_is_back(house):
    for state in (Link.OFFLINE, Link.OFFLINE, Link.DEGRADED, Link.ONLINE):
        house.reporter.status("rp-01", LinkState(state, "why" if state is not Link.ONLINE else None))
    told = [(alert["kind"], alert["state"], alert["severity"]) for alert in house.publisher.of(Stream.ALERTS)]
    assert told == [
        ("offline", "raised", "error"),
        ("offline", "cleared", "error"),
        ("degraded", "raised", "warning"),
        ("degraded", "cleared", "warning"),
    ]


def test_a_poller_that_failed_is_well_again_when_it_polls(house):
    house.reporter.failed(["rp-01", "rp-02"], "TypeError")
    house.reporter.telemetry("rp-01", measured_at_ms=1, reading=reading({"state": "charging"}))
    house.reporter.telemetry("rp-02", measured_at_ms=1, reading=reading({}, {"state": "not read"}))
    assert [alert.recharge_point for alert in house.reporter.alerts.open()] == ["rp-02"]


def test_an_alert_of_the_gateway_goes_to_its_own_topic(house):
    house.reporter.raise_alert("kafka_lost", "away")
    house.reporter.raise_alert("offline", "no answer", recharge_point="rp-02")
    assert [topic for topic, *_ in house.publisher.published] == [
        "evedge/site-042/alert",
        "evedge/site-042/rp/rp-02/alert",
    ]
    assert [keys["recharge_point"] for *_, keys in house.publisher.published] == [None, "rp-02"]


@pytest.mark.parametrize(
    ("recharge_point", "topic", "key"),
    [
        ("rp-01", "evedge/site-042/rp/rp-01/command/result", "rp-01"),
        (None, "evedge/site-042/command/result", None),
        ("rp-99/#", "evedge/site-042/command/result", None),
    ],
)
def test_a_result_goes_where_its_recharge_point_is_known(house, recharge_point, topic, key):
    result = CommandResult(
        id="c-1", gateway="site-042", action="pause", state=Step.REJECTED, final=True, at="", reason="no",
        recharge_point=recharge_point,
    )  # fmt: skip
    house.reporter.result(result, EPOCH_MS)
    ((where, payload, keys),) = house.publisher.published
    assert where == topic
    assert payload["state"] == "rejected"
    assert (keys["recharge_point"], keys["durable"], keys["stream"]) == (key, True, Stream.COMMAND_RESULTS)


def test_the_gateways_status_is_retained_and_says_since_when(house):
    house.clock.now_ms += 5000
    house.reporter.gateway_status(Link.OFFLINE)
    ((topic, payload, keys),) = house.publisher.published
    assert topic == "evedge/site-042/status"
    assert payload == {
        "gateway": "site-042",
        "state": "offline",
        "version": "1.2.3",
        "started_at": "2026-09-21T14:13:20.000Z",
    }
    assert keys["retain"]
    assert keys["durable"]
