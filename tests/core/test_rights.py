"""Rights and ownership. The connections that obey them are tested in tests/links/test_mqtt_front.py."""

from __future__ import annotations

import pytest

from evedge.core.model import Publisher
from evedge.core.rights import EVERYTHING, Ownership, Rights
from evedge.core.topics import Leaf, OwnTopics

OWN = OwnTopics("evedge", "site-042")
OWNERSHIP = Ownership(OWN, {"rp-01": None, "rp-07": "plc-1"})
PLC = Publisher("some-client", "plc-1")
OTHER = Publisher("plc-1", "other")  # a client id is not a user
ANONYMOUS_PLC = Publisher("plc-1")
TOLD = (Leaf.STATUS, Leaf.TELEMETRY, Leaf.ALERT, Leaf.RESULT)


def test_rights_are_filters_and_nothing_is_allowed_by_default():
    rights = Rights(publish=("a/+", "b"), subscribe=("c/#",))
    assert [rights.may_publish(topic) for topic in ("a/1", "b", "a/1/2", "c/1")] == [True, True, False, False]
    assert [rights.may_subscribe(asked) for asked in ("c", "c/+/x", "c/#", "#", "+/x", "a/1")] == [True] * 3 + [
        False
    ] * 3
    assert not Rights().may_publish("a")
    assert not Rights().may_subscribe("a")


def test_everything_is_everything():
    assert EVERYTHING.may_publish("a/b")
    assert EVERYTHING.may_subscribe("#")
    assert EVERYTHING.may_subscribe("$SYS/#")


@pytest.mark.parametrize("publisher", [PLC, OTHER, ANONYMOUS_PLC])
@pytest.mark.parametrize("leaf", TOLD)
def test_nobody_speaks_for_a_polled_recharge_point(publisher, leaf):
    assert OWNERSHIP.refusal(publisher, OWN.recharge_point("rp-01", leaf))


@pytest.mark.parametrize("leaf", TOLD)
def test_only_its_agent_speaks_for_an_agents_recharge_point(leaf):
    topic = OWN.recharge_point("rp-07", leaf)
    assert OWNERSHIP.refusal(PLC, topic) is None
    assert OWNERSHIP.refusal(ANONYMOUS_PLC, topic) is None
    assert OWNERSHIP.refusal(OTHER, topic) == "belongs to a recharge point of agent plc-1"


@pytest.mark.parametrize("recharge_point", ["rp-01", "rp-07"])
def test_a_command_may_come_from_whoever_has_the_right(recharge_point):
    assert OWNERSHIP.refusal(OTHER, OWN.recharge_point(recharge_point, Leaf.COMMAND)) is None


@pytest.mark.parametrize("topic", [OWN.status, OWN.telemetry, OWN.alert, OWN.result])
def test_nobody_speaks_for_the_gateway(topic):
    assert OWNERSHIP.refusal(PLC, topic) == "belongs to the gateway"


def test_an_agents_status_is_its_own():
    assert OWNERSHIP.refusal(PLC, OWN.agent_status("plc-1")) is None
    assert OWNERSHIP.refusal(PLC, OWN.agent_status("plc-2")) == "belongs to agent plc-2"


@pytest.mark.parametrize(
    "topic",
    [
        "elsewhere",
        "evedge/other/status",
        "evedge/site-042/rp/unknown/telemetry",
        "evedge/site-042/agent/plc-2/x/status",
    ],
)
def test_other_topics_belong_to_nobody(topic):
    assert OWNERSHIP.refusal(OTHER, topic) is None
