"""Payloads as JSON, and what every record says of itself."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from evedge.core import codec
from evedge.core.model import Quality, Telemetry

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_json_is_json(value):
    assert codec.json_problem(json.dumps(value, ensure_ascii=False).encode()) is None


@pytest.mark.parametrize("payload", [b'{"a":1e400}', b"0", b'"text"', b" {} ", b'{"a":1,"a":2}', b"9" * 5000])
def test_unusual_json_is_json_too(payload):
    assert codec.json_problem(payload) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"{",
        b"NaN",
        b'{"a":NaN}',
        b"nul",
        b"{} {}",
        b"{'a':1}",
        b"01",
        b"\xff",
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_json_has_a_problem_in_one_line(payload):
    problem = codec.json_problem(payload)
    assert problem
    assert "\n" not in problem


@given(st.binary(max_size=40))
def test_bytes_are_judged_as_the_standard_library_does(payload):
    try:
        json.loads(payload.decode(), parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        assert codec.json_problem(payload) is not None
    else:
        assert codec.json_problem(payload) is None


def test_deep_nesting_is_a_problem_and_no_crash():
    deep = b"[" * 100_000 + b"]" * 100_000
    assert codec.json_problem(deep) == "it is nested too deeply"
    assert codec.measured_at(b'{"values":' + deep + b"}") is None


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"measured_at":"2026-11-23T09:00:00.123Z","values":{}}', "2026-11-23T09:00:00.123Z"),
        (b'{"values":{}}', None),
        (b'{"measured_at":5}', None),
        (b'{"measured_at":null}', None),
        (b"[]", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_measured_at_is_found_where_it_is(payload, found):
    assert codec.measured_at(payload) == found


def test_telemetry_reads_as_the_contract_shows_it():
    telemetry = Telemetry(
        gateway="site-042",
        recharge_point="rp-01",
        seq=1841,
        measured_at="2026-11-23T09:00:00.123Z",
        quality=Quality.GOOD,
        values={"state": "charging", "active_power_w": 11040.0, "plugged": True},
        errors={},
        derived=[],
    )
    assert codec.encode(telemetry) == (
        b'{"gateway":"site-042","recharge_point":"rp-01","seq":1841,"measured_at":"2026-11-23T09:00:00.123Z",'
        b'"quality":"good","values":{"state":"charging","active_power_w":11040.0,"plugged":true},"errors":{},"derived":[]}'
    )


def test_headers_are_those_of_the_contract():
    found = dict(
        codec.headers("evedge.telemetry.v1", "site-042", "rp-01", mqtt_topic="evedge/x", mqtt_qos=1, mqtt_retain=False)
    )
    assert found == {
        "ce_specversion": b"1.0",
        "ce_type": b"evedge.telemetry.v1",
        "ce_source": b"/evedge/site-042/rp-01",
        "ce_subject": b"rp-01",
        "content-type": b"application/json",
        "mqtt_topic": b"evedge/x",
        "mqtt_qos": b"1",
        "mqtt_retain": b"false",
    }


def test_without_a_recharge_point_the_source_is_the_gateway():
    found = dict(codec.headers("t", "site-042", None, mqtt_topic="x", mqtt_qos=0, mqtt_retain=True))
    assert found["ce_source"] == b"/evedge/site-042"
    assert "ce_subject" not in found
    assert found["mqtt_retain"] == b"true"


def test_keys_name_gateway_and_recharge_point():
    assert codec.key("site-042", "rp-01") == b"site-042/rp-01"
    assert codec.key("site-042", None) == b"site-042"
