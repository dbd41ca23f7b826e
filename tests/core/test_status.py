"""What the status says of limits and dead letters."""

from collections import Counter

import msgspec

from evedge.core.commands import Purpose
from evedge.core.desired import Desired, Hold, Target
from evedge.core.lanes import DeadLetter, LaneCounts
from evedge.core.model import Record
from evedge.core.status import Status, letters_of, limit_of, queues_of
from status_example import STATUS


def test_a_status_survives_json():
    assert msgspec.json.decode(msgspec.json.encode(STATUS), type=Status) == STATUS


def test_nothing_is_left_out_of_the_json():
    point = msgspec.json.decode(msgspec.json.encode(STATUS))["recharge_points"][1]
    assert (point["measured_at"], point["age_s"], point["limit"]) == (None, None, None)


def test_every_purposes_hold_is_told_with_its_issuer_and_end():
    desired = Desired(
        limits=(
            Hold(command_id="a", purpose=Purpose.MARKET, current_a=16.0, ends_at_ms=1_000, issuer="dr"),
            Hold(command_id="b", purpose=Purpose.GRID, current_a=10.0, ends_at_ms=None),
        ),
        pause=Hold(command_id="c", purpose=Purpose.USER, current_a=None, ends_at_ms=None, issuer="panel"),
        touched=True,
    )
    limit = limit_of(desired, Target(None, "paused by command", "c"))
    assert (limit.current_a, limit.paused, limit.why) == (None, True, "paused by command")
    assert limit.command_id == "c"
    assert [(hold.purpose, hold.current_a, hold.issuer, hold.ends_at) for hold in limit.holds] == [
        ("market", 16.0, "dr", "1970-01-01T00:00:01.000Z"),
        ("grid", 10.0, None, None),
        ("user", None, "panel", None),
    ]


def test_a_device_that_nobody_commanded_is_not_paused():
    limit = limit_of(Desired(), None)
    assert (limit.current_a, limit.paused, limit.holds) == (None, False, [])
    assert (limit.why, limit.command_id) == ("as the device has it", None)


def test_queues_keep_the_sum():
    counts = LaneCounts(accepted=10, confirmed=4, dropped=Counter(disk=1))
    (queue,) = queues_of({"telemetry": counts})
    assert queue.accepted == queue.confirmed + queue.waiting + sum(queue.dropped.values())


def test_a_dead_letters_bytes_are_text_where_they_can_be():
    headers = (("mqtt_topic", b"a/b"), ("other", b"\xff"))
    record = Record("t", b"key", b"\xff\x00", headers, 0, durable=True, number=(3 << 36) + 7)
    (letter,) = letters_of([DeadLetter(1_000, "t", "a/b", "record_too_large", "too large", record)])
    assert (letter.key, letter.key_base64, letter.value, letter.value_base64) == ("key", None, None, "/wA=")
    assert letter.ce_id == "3-7"
    assert letter.at == "1970-01-01T00:00:01.000Z"
    assert letter.headers == {"mqtt_topic": "a/b", "other": "\\xff"}


def test_a_letter_that_never_had_a_number_has_no_ce_id():
    record = Record("t", b"", b"{", (), 0, durable=True)
    (letter,) = letters_of([DeadLetter(0, "t", "", "not_json", "", record)])
    assert letter.ce_id is None
