"""A dead letter keeps what it was, and says why it is one."""

from collections import Counter

from evedge.core.cloudevents import record_headers
from evedge.core.dead_letters import letter_for, mqtt_topic_of
from evedge.core.lanes import DeadLetter
from evedge.core.model import Record


def dead(
    headers=(("ce_type", b"evedge.route.v1"), ("mqtt_topic", b"factory/1/energy"), ("x", b"y")), error="too large"
):
    record = Record("factory.energy", b"key", b"value", headers, 1000, durable=False, number=(17 << 36) + 42)
    return DeadLetter(2000, "factory.energy", "factory/1/energy", "record_too_large", error, record)


def test_key_value_and_headers_are_kept_and_the_reason_is_added():
    letter = letter_for(dead(), "evedge.dead-letters", "17-42")
    assert (letter.lane, letter.key, letter.value) == ("evedge.dead-letters", b"key", b"value")
    assert dict(letter.headers) == {
        "mqtt_topic": b"factory/1/energy",
        "x": b"y",
        "ce_type": b"evedge.dead-letter.v1",
        "original_ce_type": b"evedge.route.v1",
        "original_ce_id": b"17-42",
        "reason": b"record_too_large",
        "kafka_topic": b"factory.energy",
        "error": b"too large",
    }


def test_a_letter_is_a_new_durable_record_of_its_own_time():
    letter = letter_for(dead(), "evedge.dead-letters", None)
    assert letter.durable
    assert letter.number == 0
    assert letter.timestamp_ms == 2000
    assert "original_ce_id" not in dict(letter.headers)


def test_ids_and_times_that_a_record_brought_do_not_stand_beside_the_letters_own():
    brought = (("ce_id", b"theirs"), ("ce_time", b"then"), ("ce_type", b"their.command"), ("ce_source", b"/them"))
    sent = record_headers(letter_for(dead(headers=brought), "evedge.dead-letters", None))
    assert Counter(name for name, _ in sent).most_common(1)[0][1] == 1
    found = dict(sent)
    assert (found["original_ce_id"], found["original_ce_time"]) == (b"theirs", b"then")
    assert found["ce_type"] == b"evedge.dead-letter.v1"
    assert found["ce_source"] == b"/them"


def test_an_error_with_any_text_can_be_sent():
    assert dict(letter_for(dead(error="bad \ud800"), "x", None).headers)["error"] == b"bad \\ud800"


def test_the_mqtt_topic_is_read_from_the_headers():
    assert mqtt_topic_of(dead().record) == "factory/1/energy"
    assert mqtt_topic_of(dead(headers=()).record) == ""
    assert mqtt_topic_of(dead(headers=(("mqtt_topic", b"\xff"),)).record) == "�"
