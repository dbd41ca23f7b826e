"""What a value on the command topic is to this gateway, line by line of the contract."""

import json

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from evedge.core.commands import (
    ENDS,
    MAX_ID_CHARACTERS,
    MAX_LEASE_S,
    TRANSITIONS,
    Action,
    Command,
    CommandResult,
    Foreign,
    IssuerRights,
    Purpose,
    Rejection,
    Rules,
    Step,
    judge,
    may_follow,
)
from evedge.core.times import to_rfc3339

NOW_MS = 1_790_000_000_000
RULES = Rules("site-042", frozenset({"rp-01", "rp-07"}), default_lease_s=900.0, max_age_s=86_400.0)
ABSENT = object()


def value(**changed):
    fields = {
        "id": "c-1",
        "gateway": "site-042",
        "recharge_point": "rp-01",
        "action": "set_current_limit",
        "arguments": {"current_a": 10},
        "issued_at": to_rfc3339(NOW_MS - 1000),
        "expires_at": to_rfc3339(NOW_MS + 60_000),
        "issuer": "dr-service",
        **changed,
    }
    return json.dumps({name: one for name, one in fields.items() if one is not ABSENT}).encode()


def judged(rules=RULES, **changed):
    return judge(value(**changed), rules, NOW_MS)


def test_a_command_as_the_contract_shows_it():
    assert judged(lease_s=600, purpose="grid") == Command(
        id="c-1",
        gateway="site-042",
        recharge_point="rp-01",
        action=Action.SET_CURRENT_LIMIT,
        issued_at_ms=NOW_MS - 1000,
        expires_at_ms=NOW_MS + 60_000,
        lease_s=600.0,
        issuer="dr-service",
        purpose=Purpose.GRID,
        current_a=10.0,
    )


@pytest.mark.parametrize("bad", [b"", b"hello", b"[]", b"5", b"null", b"{", b'{"gateway":"site-042"', b"\xff\xfe"])
def test_what_is_no_json_object_is_foreign(bad):
    found = judge(bad, RULES, NOW_MS)
    assert isinstance(found, Foreign)
    assert found.reason.startswith("is not a JSON object")


def test_deep_nesting_is_foreign_and_no_crash():
    assert isinstance(judge(b'{"a":' + b"[" * 100_000, RULES, NOW_MS), Foreign)


@pytest.mark.parametrize("gateway", ["site-043", "SITE-042", "", None, 42, ["site-042"], ABSENT])
def test_another_gateways_command_is_foreign(gateway):
    assert isinstance(judged(gateway=gateway), Foreign)


@pytest.mark.parametrize("name", ["id", "action"])
@pytest.mark.parametrize("bad", [ABSENT, None, "", [], {}])
def test_without_an_id_or_an_action_nobody_can_be_answered(name, bad):
    assert judged(**{name: bad}) == Foreign("has no id or no action")


REJECTED = [
    ({"id": 5}, "id is 5, not text"),
    ({"id": True}, "id is True, not text"),
    ({"action": 1.5}, "action is 1.5, not text"),
    ({"id": "x" * (MAX_ID_CHARACTERS + 1)}, "id is longer than 200 characters"),
    ({"action": "explode"}, "action 'explode' is not known; this version knows set_current_limit, pause, resume, ping"),
    ({"action": "SET_CURRENT_LIMIT"}, "is not known"),
    ({"recharge_point": ABSENT}, "set_current_limit needs a recharge_point"),
    ({"recharge_point": None}, "needs a recharge_point"),
    ({"recharge_point": 7}, "needs a recharge_point"),
    ({"recharge_point": "rp-99"}, "recharge_point 'rp-99' is not known here"),
    ({"recharge_point": ""}, "is not known here"),
    ({"action": "ping", "arguments": {}}, "ping is for the gateway: leave recharge_point out"),
    ({"arguments": ABSENT}, "arguments.current_a is missing"),
    ({"arguments": {}}, "arguments.current_a is missing"),
    ({"arguments": {"current_a": None}}, "arguments.current_a is missing"),
    ({"arguments": []}, "arguments is not an object"),
    ({"arguments": "10"}, "arguments is not an object"),
    ({"arguments": {"current_a": "10"}}, "arguments.current_a is '10', not a number"),
    ({"arguments": {"current_a": True}}, "arguments.current_a is True, not a number"),
    ({"arguments": {"current_a": [10]}}, "arguments.current_a is [10], not a number"),
    ({"arguments": {"current_a": -1}}, "arguments.current_a is negative"),
    ({"arguments": {"current_a": -0.001}}, "arguments.current_a is negative"),
    ({"arguments": {"current_a": 10**400}}, "not a number that can be used"),
    ({"arguments": {"current_a": float("nan")}}, "what no JSON can say"),
    ({"arguments": {"current_a": float("inf")}}, "what no JSON can say"),
    ({"arguments": {"current_a": 10, "phases": 3}}, "argument 'phases' is not known to set_current_limit"),
    ({"action": "pause", "arguments": {"current_a": 10}}, "argument 'current_a' is not known to pause"),
    ({"purpose": "fun"}, "purpose 'fun' is none of grid, site, market, user"),
    ({"purpose": 3}, "purpose 3 is none of"),
    ({"purpose": ["grid"]}, "purpose ['grid'] is none of"),
    ({"issuer": 5}, "issuer is not text"),
    ({"expires_at": ABSENT}, "expires_at is missing"),
    ({"expires_at": None}, "expires_at is missing"),
    ({"expires_at": NOW_MS + 60_000}, "not an RFC 3339 time"),
    ({"expires_at": "tomorrow"}, "expires_at is 'tomorrow', not an RFC 3339 time"),
    ({"expires_at": "2026-11-23T09:00:00"}, "not an RFC 3339 time"),
    ({"expires_at": to_rfc3339(NOW_MS + 86_400_001)}, "expires_at is more than 86400 s ahead"),
    ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at is more than 86400 s ahead"),
    ({"issued_at": "yesterday"}, "issued_at is 'yesterday', not an RFC 3339 time"),
    ({"lease_s": -1}, "lease_s is negative"),
    ({"lease_s": "900"}, "lease_s is '900', not a number"),
    ({"lease_s": False}, "lease_s is False, not a number"),
    ({"lease_s": 1e300}, f"lease_s is more than {MAX_LEASE_S} s"),
    ({"lease_s": 10**30}, f"lease_s is more than {MAX_LEASE_S} s"),
    ({"issuer": "\ud800"}, "what no JSON can say"),
]


@pytest.mark.parametrize(("changed", "reason"), REJECTED, ids=[reason[:50] for _, reason in REJECTED])
def test_what_names_gateway_id_and_action_is_rejected_with_a_reason(changed, reason):
    found = judged(**changed)
    assert isinstance(found, Rejection)
    assert reason in found.reason
    assert "\n" not in found.reason
    assert len(found.reason) < 300
    assert not found.expired


def test_a_number_as_an_id_is_answered_under_its_text():
    assert judged(id=17).id == "17"


def test_a_number_beyond_every_float_is_answered():
    found = judge(value().replace(b'"current_a": 10', b'"current_a": 1e400'), RULES, NOW_MS)
    assert isinstance(found, Rejection)
    assert found.id == "c-1"


@pytest.mark.parametrize("expires_at", [NOW_MS, NOW_MS - 1, 0])
def test_a_late_command_is_expired(expires_at):
    found = judged(expires_at=to_rfc3339(expires_at))
    assert found == Rejection("c-1", "set_current_limit", "rp-01", "expires_at is past", expired=True)


def test_the_furthest_expires_at_is_taken():
    assert isinstance(judged(expires_at=to_rfc3339(NOW_MS + 86_400_000)), Command)


@pytest.mark.parametrize(
    ("action", "lease", "default", "expected"),
    [
        ("set_current_limit", ABSENT, 900.0, 900.0),
        ("set_current_limit", None, 900.0, 900.0),
        ("set_current_limit", 0, 900.0, None),
        ("set_current_limit", 0.0, 900.0, None),
        ("set_current_limit", 60, 900.0, 60.0),
        ("set_current_limit", ABSENT, 0.0, None),
        ("pause", ABSENT, 900.0, None),
        ("pause", 60, 900.0, 60.0),
        ("resume", ABSENT, 900.0, None),
    ],
)
def test_leases(action, lease, default, expected):
    rules = Rules("site-042", RULES.recharge_points, default_lease_s=default, max_age_s=86_400.0)
    arguments = {"current_a": 10} if action == "set_current_limit" else {}
    assert judged(rules, action=action, arguments=arguments, lease_s=lease).lease_s == expected


def test_defaults():
    found = judged(purpose=ABSENT, issuer=ABSENT, issued_at=ABSENT)
    assert (found.purpose, found.issuer, found.issued_at_ms) == (Purpose.MARKET, None, None)
    assert judged(action="pause", arguments=None).action is Action.PAUSE


def test_zero_is_a_limit():
    assert judged(arguments={"current_a": 0}).current_a == 0.0


def test_of_a_name_that_comes_twice_the_last_counts():
    twice = value()[:-1] + b', "arguments": {"current_a": 6}, "gateway": "site-042"}'
    assert judge(twice, RULES, NOW_MS).current_a == 6.0
    assert isinstance(judge(value()[:-1] + b', "gateway": "other"}', RULES, NOW_MS), Foreign)


def test_fields_of_later_versions_are_no_mistake():
    assert isinstance(judged(signature="…", comment={"deep": [1]}), Command)


def test_a_ping_needs_no_recharge_point():
    found = judged(action="ping", recharge_point=ABSENT, arguments=ABSENT)
    assert (found.action, found.recharge_point, found.lease_s) == (Action.PING, None, None)


ISSUERS = {
    "dr-service": IssuerRights(frozenset({"market"}), ("rp-0[1-3]",), frozenset({"set_current_limit", "ping"})),
    "signer": IssuerRights(frozenset(Purpose), ("*",), frozenset(Action), signed=True),
}
WITH_ISSUERS = Rules("site-042", RULES.recharge_points, 900.0, 86_400.0, ISSUERS)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"issuer": "stranger"}, "issuer 'stranger' is not one of the issuers configured"),
        ({"issuer": ABSENT}, "issuer None is not one of the issuers configured"),
        ({"issuer": ""}, "is not one of the issuers configured"),
        ({"issuer": "signer"}, "must sign its commands"),
        ({"action": "pause", "arguments": {}}, "issuer 'dr-service' may not pause"),
        ({"purpose": "grid"}, "may not act for purpose grid"),
        ({"recharge_point": "rp-07"}, "may not touch rp-07"),
    ],
)
def test_an_issuer_does_only_what_it_may(changed, reason):
    found = judged(WITH_ISSUERS, **changed)
    assert isinstance(found, Rejection)
    assert reason in found.reason


def test_an_issuer_does_what_it_may():
    assert isinstance(judged(WITH_ISSUERS), Command)
    assert isinstance(judged(WITH_ISSUERS, action="ping", recharge_point=ABSENT, arguments={}), Command)


def test_the_user_who_logged_in_counts_and_not_whom_the_value_names():
    found = judge(value(issuer="dr-service"), WITH_ISSUERS, NOW_MS, issuer="panel")
    assert isinstance(found, Rejection)
    assert judge(value(issuer="boss"), RULES, NOW_MS, issuer="panel").issuer == "panel"


@pytest.mark.parametrize(
    "changed",
    [{"recharge_point": "rp-07"}, {"recharge_point": ABSENT}, {"action": "ping", "recharge_point": ABSENT}],
)
def test_on_a_recharge_points_topic_only_that_one_is_commanded(changed):
    found = judge(value(**changed), RULES, NOW_MS, issuer="panel", only_for="rp-01")
    assert isinstance(found, Rejection)
    assert "the topic is that of rp-01" in found.reason
    assert isinstance(judge(value(), RULES, NOW_MS, issuer="panel", only_for="rp-01"), Command)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters())
    | st.sampled_from(["site-042", "rp-01", "c-1", "ping", "pause", "set_current_limit", to_rfc3339(NOW_MS + 1000)]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["current_a", "x"]), inner, max_size=2),
    max_leaves=4,
)
FIELDS = ("recharge_point", "arguments", "issued_at", "expires_at", "lease_s", "issuer", "purpose")


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
def test_whatever_is_wrong_there_is_a_result_that_can_be_kept_and_sent(changed):
    found = judged(**changed)
    assert isinstance(found, Command | Rejection)
    if isinstance(found, Command):
        kept = msgspec.structs.replace(found, accepted_at_ms=NOW_MS)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=Command) == kept
        assert kept.write_before_ms <= kept.expires_at_ms
    else:
        result = CommandResult(
            id=found.id, gateway="site-042", action=found.action, state=Step.REJECTED, final=True, at="",
            recharge_point=found.recharge_point, reason=found.reason,
        )  # fmt: skip
        msgspec.json.encode(result)


@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail(value):
    assert isinstance(judge(value, RULES, NOW_MS), Foreign)


def test_a_command_is_not_written_after_its_lease():
    command = judged(lease_s=5)
    assert command.write_before_ms == NOW_MS + 60_000
    accepted = msgspec.structs.replace(command, accepted_at_ms=NOW_MS)
    assert accepted.lease_ends_at_ms == accepted.write_before_ms == NOW_MS + 5000


# The life of a command.


def test_a_life_ends_where_it_must():
    for end in ENDS:
        assert end not in TRANSITIONS
        assert not any(may_follow(end, after) for after in Step)


def test_every_step_can_be_reached_but_those_outside_a_life():
    reached = {step for after in TRANSITIONS.values() for step in after}
    assert set(Step) - reached == {Step.DUPLICATE, Step.LAPSED}


def test_from_every_step_an_end_can_be_reached():
    for before in TRANSITIONS:
        assert TRANSITIONS[before] & ENDS


def test_nothing_is_expired_after_it_was_written():
    assert may_follow(Step.ACCEPTED, Step.EXPIRED)
    assert not may_follow(Step.WRITTEN, Step.EXPIRED)


def test_a_result_on_the_wire_has_the_fields_of_the_contract():
    result = CommandResult(
        id="c-1", gateway="site-042", recharge_point="rp-01", action="pause", state=Step.WRITTEN, final=False,
        at="2026-11-23T09:00:00.000Z",
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(result)) == {
        "id": "c-1",
        "gateway": "site-042",
        "recharge_point": "rp-01",
        "action": "pause",
        "state": "written",
        "final": False,
        "at": "2026-11-23T09:00:00.000Z",
    }
