"""What polling asks of devices, in numbers that can be worked out by hand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.profile_texts import text
from evedge.core import codec
from evedge.core.forecast import EndpointForecast, PolledPoint, ReadRequest, asked_more_often
from evedge.core.forecast_records import Source, lane_forecast, publish_bytes, sample_values, telemetry_source
from evedge.core.model import Quality, Record, Telemetry
from evedge.core.plan import Block, make_plan
from evedge.core.profile import Table, load
from evedge.core.topics import OwnTopics
from evedge.profiles import load_profile, names

ONE_REQUEST = load(text(), "one-request")  # registers 10 and 11
TWO_REQUESTS = load(
    text(
        registers="[registers]\nmode = { address = 10 }\n"
        'current_l1_a = { address = 20, scale = 0.1, unit = "A" }\nenergy_import_wh = { address = 21, unit = "Wh" }\n'
    ),
    "two-requests",
)
OWN = OwnTopics("evedge", "site")


def point(name="rp-01", *, profile=ONE_REQUEST, every_s=1.0):
    return PolledPoint(name, make_plan(profile), every_s)


def endpoint(*points, pause_s=0.0, answer_s=0.1):
    return EndpointForecast("192.0.2.10:502", points, pause_s, answer_s)


# Requests


@pytest.mark.parametrize(
    ("table", "count", "function", "answer"),
    [
        (Table.HOLDING, 30, 3, 9 + 60),
        (Table.INPUT, 1, 4, 9 + 2),
        (Table.COIL, 9, 1, 9 + 2),
        (Table.DISCRETE, 8, 2, 9 + 1),
    ],
)
def test_bytes_are_those_of_modbus_tcp(table, count, function, answer):
    request = ReadRequest(Block(1, table, 0, count, ("mode",)))
    assert (request.function, request.request_bytes, request.answer_bytes) == (function, 12, answer)


def test_a_poll_is_summed_up_over_its_requests():
    one = point(profile=TWO_REQUESTS, every_s=2.0)
    assert (one.words, one.requests_per_s) == (3, 1.0)
    assert one.bytes_per_poll == (12 + 11) + (12 + 13)
    assert endpoint(one).bytes_per_s == 24


# Time


def test_a_pause_follows_every_request_and_lies_between_those_of_a_poll():
    one = point(profile=TWO_REQUESTS)
    shared = endpoint(one, pause_s=0.5)
    assert shared.busy_s(one) == pytest.approx(1.2)
    assert shared.poll_s(one) == pytest.approx(0.7)


def test_recharge_points_of_one_endpoint_share_its_time():
    shared = endpoint(point("a"), point("b", every_s=2.0), point("c", profile=TWO_REQUESTS))
    assert shared.occupancy == pytest.approx(0.1 + 0.05 + 0.2)
    assert shared.requests_per_s == pytest.approx(1 + 0.5 + 2)


def test_an_endpoint_that_is_busy_all_the_time_just_keeps_up():
    assert endpoint(point(every_s=0.1)).keeps_up
    assert endpoint(point(every_s=0.1)).is_nearly_full
    assert not endpoint(point(every_s=0.09)).keeps_up


@pytest.mark.parametrize(
    ("intervals_s", "lowest_s"),
    [
        ((0.01,), 0.1),
        ((0.2, 0.2, 0.2), 0.3),
        ((0.1, 0.4), 0.2),  # the slow one takes a quarter: 0.1 s of three quarters, rounded up
        ((0.1, 0.1, 10.0), 0.3),
    ],
)
def test_the_interval_that_could_be_kept_leaves_slower_ones_alone(intervals_s, lowest_s):
    points = [point(f"rp-{n}", every_s=interval_s) for n, interval_s in enumerate(intervals_s)]
    assert endpoint(*points).lowest_interval_s(0.1) == lowest_s


@given(
    st.lists(st.integers(1, 50).map(lambda tenths: tenths / 10), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.05, 0.5]),
    st.sampled_from([0.01, 0.05, 0.3]),
)
def test_who_takes_the_interval_that_could_be_kept_is_kept_up_with(intervals_s, pause_s, answer_s):
    points = [point(f"rp-{n}", every_s=interval_s) for n, interval_s in enumerate(intervals_s)]
    given_ = endpoint(*points, pause_s=pause_s, answer_s=answer_s)
    lowest_s = given_.lowest_interval_s(0.1)
    slower = [PolledPoint(one.recharge_point, one.plan, max(one.interval_s, lowest_s)) for one in points]
    assert endpoint(*slower, pause_s=pause_s, answer_s=answer_s).keeps_up
    if not given_.keeps_up:
        assert asked_more_often(points, lowest_s)


def test_nothing_polled_is_nothing_to_keep():
    nothing = endpoint()
    assert (nothing.occupancy, nothing.requests_per_s, nothing.keeps_up) == (0, 0, True)


# Records


@pytest.mark.parametrize("name", names())
def test_sample_telemetry_has_every_measurand_of_a_profile(name):
    profile = load_profile(name)
    record = _source(profile).make(7)
    telemetry = msgspec.json.decode(record.value, type=Telemetry)
    assert (telemetry.quality, telemetry.errors) == (Quality.GOOD, {})
    assert tuple(telemetry.values) == profile.measurands
    assert set(telemetry.derived) <= set(telemetry.values)
    assert record.value == codec.encode(telemetry)


def test_samples_have_the_resolution_of_the_device():
    values, _ = sample_values(ONE_REQUEST, "rp-01", 3)
    current_a = values["current_l1_a"]
    assert isinstance(current_a, float)
    assert current_a == round(current_a, 1)


def test_samples_differ_from_poll_to_poll_and_between_recharge_points():
    payloads = {_source(name=name).make(n).value.partition(b"values")[2] for name in ("a", "b") for n in range(3)}
    assert len(payloads) > 3  # or the estimate would compress better than the real thing


def _source(profile=ONE_REQUEST, name="rp-01", every_s=1.0, first_s=0.0):
    return telemetry_source(profile, own=OWN, recharge_point=name, kafka_topic="t", interval_s=every_s, first_s=first_s)


def _forecast(*sources, gather_s=0.2, partition_of=lambda key: 0):
    return lane_forecast(
        "t", sources, gather_s=gather_s, partition_of=partition_of, plain=_length, compressed=lambda b: _length(b) // 2
    )


def _length(batch):
    """61 bytes of head, as Kafka has it, and 100 for each record."""
    return 61 + 100 * len(batch)


def test_a_day_of_one_recharge_point_is_one_batch_for_each_record():
    lane = _forecast(_source())
    assert (lane.records, lane.batches) == (86_400, 86_400)
    assert lane.plain_bytes == pytest.approx(86_400 * 161)
    assert lane.compressed_bytes == pytest.approx(86_400 * 80)
    assert lane.record_bytes == pytest.approx(161)


def test_records_that_come_close_together_share_a_batch_and_others_do_not():
    close = _forecast(_source(name="rp-01"), _source(name="rp-02", first_s=0.1))
    apart = _forecast(_source(name="rp-01"), _source(name="rp-02", first_s=0.5))
    assert (close.batches, apart.batches) == (pytest.approx(86_400), pytest.approx(2 * 86_400))


def test_partitions_do_not_share_a_batch():
    lane = _forecast(_source(name="rp-01"), _source(name="rp-02"), partition_of=lambda key: key[-1])
    assert lane.batches == pytest.approx(2 * 86_400)


def test_the_journal_counts_key_headers_and_payload():
    source = _source(every_s=10.0)
    sizes = [source.make(n).size for n in range(20)]
    assert _forecast(source).journal_bytes == pytest.approx(8_640 * sum(sizes) / len(sizes))


def test_many_recharge_points_are_sampled_and_not_played_through_for_a_day():
    sources = [_source(name=f"rp-{n:04}", every_s=3600.0, first_s=float(n)) for n in range(600)]
    lane = _forecast(*sources)
    assert lane.records == pytest.approx(600 * 24)


def test_nothing_sends_nothing():
    lane = _forecast()
    assert (lane.records, lane.plain_bytes, lane.journal_bytes) == (0, 0, 0)


@pytest.mark.parametrize(("payload", "head"), [(b"", 2), (b"x" * 122, 2), (b"x" * 123, 3)])
def test_an_mqtt_message_is_as_long_as_its_frame(payload, head):
    assert publish_bytes("a", payload) == head + 2 + 1 + 2 + len(payload)


def test_a_source_makes_the_same_record_again():
    source = Source("a", 30.0, 0.0, lambda n: Record("t", b"k", b"%d" % n, (), n, durable=False))
    assert (source.records_per_day, source.make(3)) == (2880, source.make(3))
