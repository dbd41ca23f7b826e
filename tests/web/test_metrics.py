"""The names and labels that dashboards rest on."""

from collections import defaultdict

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from evedge.web.metrics import render
from status_example import STATUS, figures

PROMISED = {
    "evedge_build_info": {"version"},
    "evedge_recharge_point_up": {"recharge_point"},
    "evedge_modbus_requests_total": {"recharge_point", "outcome"},
    "evedge_modbus_request_seconds": set(),
    "evedge_messages_accepted_total": {"route"},
    "evedge_messages_confirmed_total": {"route"},
    "evedge_messages_dropped_total": {"route", "reason"},
    "evedge_messages_waiting": {"route"},
    "evedge_journal_bytes": set(),
    "evedge_journal_max_bytes": set(),
    "evedge_kafka_up": set(),
    "evedge_mqtt_clients": set(),
    "evedge_commands_total": {"action", "state"},
    "evedge_command_seconds": set(),
    "evedge_telemetry_age_seconds": {"recharge_point"},
    "evedge_loop_lag_seconds": set(),
}
HISTOGRAMS = {"evedge_modbus_request_seconds", "evedge_command_seconds"}


def scrape(shown=None):
    body, content_type = render(shown or figures(), "")
    assert content_type.startswith("text/plain")
    return list(text_string_to_metric_families(body.decode()))


def samples(shown=None):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in scrape(shown)
        for sample in family.samples
    }


def test_exactly_the_promised_names_and_labels_are_served():
    found = defaultdict(set)
    for family in scrape():
        for sample in family.samples:
            name = family.name if family.name in HISTOGRAMS else sample.name
            found[name] |= sample.labels.keys() - {"le"}
    assert dict(found) == PROMISED


def test_every_family_says_what_it_is():
    families = scrape()
    assert all(family.documentation for family in families)
    types = {family.name: family.type for family in families}
    assert types["evedge_loop_lag_seconds"] == "gauge"
    assert types["evedge_messages_accepted"] == "counter"
    assert {types[name] for name in HISTOGRAMS} == {"histogram"}


def test_values_are_those_of_the_status():
    found = samples()
    assert found["evedge_build_info", "1.2.3"] == 1
    assert found["evedge_recharge_point_up", "rp-01"] == 1
    assert found["evedge_recharge_point_up", "rp-07"] == 0
    assert found["evedge_modbus_requests_total", "rp-01", "timeout"] == 2
    assert found["evedge_messages_waiting", "evedge.telemetry"] == 8
    assert found["evedge_messages_dropped_total", "dead_letter", "evedge.telemetry"] == 1
    assert found["evedge_commands_total", "set_current_limit", "verified"] == 1
    assert found["evedge_kafka_up",] == 0
    assert found["evedge_journal_max_bytes",] == 1_048_576
    assert found["evedge_loop_lag_seconds",] == 0.012


def test_histograms_are_cumulative():
    found = samples()
    assert [found["evedge_command_seconds_bucket", le] for le in ("0.1", "1.0", "+Inf")] == [2, 3, 4]
    assert found["evedge_command_seconds_count",] == 4
    assert found["evedge_command_seconds_sum",] == pytest.approx(30.35)
    assert found["evedge_modbus_request_seconds_count",] == 9


def test_a_reason_that_never_happened_shows_as_zero():
    assert samples()["evedge_messages_dropped_total", "evedge.alerts", "journal_full"] == 0


def test_what_is_not_known_has_no_sample():
    local = msgspec.structs.replace(STATUS, links=msgspec.structs.replace(STATUS.links, kafka=None, mqtt=None))
    found = samples(figures(local))
    assert ("evedge_telemetry_age_seconds", "rp-07") not in found
    assert ("evedge_kafka_up",) not in found
    assert ("evedge_mqtt_clients",) not in found


def test_openmetrics_is_served_to_those_who_ask_for_it():
    body, content_type = render(figures(), "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    families = list(parse_openmetrics(body.decode()))
    assert {family.name for family in families} >= {"evedge_build", "evedge_command_seconds"}
