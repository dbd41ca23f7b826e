import pytest

from core.profile_texts import text
from evedge.core.plan import make_plan
from evedge.core.profile import load

POWER = text(
    registers="""
[registers]
mode = { address = 10 }
current_l1_a = { address = 11, scale = 0.1, unit = "A" }
current_l2_a = { address = 20, scale = 0.1, unit = "A", optional = true }
voltage_l1_v = { address = 30, unit = "V", na = [0xFFFF] }
serial_number = { address = 100, type = "string", count = 2 }
timeout = { address = 200, unit = "s" }
""",
    values="""
[[values]]
measurand = "active_power_w"
when = "mode == 3"
value = "total(current_l1_a * first(voltage_l1_v, 230), current_l2_a * 230)"
[[values]]
measurand = "active_power_w"
value = "0"
""",
    plugged='[plugged]\nwhen = "mode != 0"\n',
)


def plan_of(source):
    return make_plan(load(source, "test"))


def answers(plan, **values):
    """Answers to every block of a poll, with these registers set and the rest 0; a text is a failure."""
    results = {}
    for block in plan.poll:
        words = [0] * block.count
        for name in block.registers:
            register = plan.profile.registers[name]
            value = values.get(name, 0)
            if isinstance(value, str):
                words = value
                break
            start = plan.block_of(name).address - block.address
            words[start : start + register.words] = register.encode(value)
        results[block] = words
    return results


def test_registers_are_grouped_by_who_needs_them():
    plan = plan_of(POWER)
    grouped = [[block.registers for block in blocks] for blocks in (plan.poll, plan.identity, plan.config)]
    assert grouped == [
        [("mode", "current_l1_a"), ("current_l2_a",), ("voltage_l1_v",)], [("serial_number",)], [("timeout",)],
    ]  # fmt: skip


def test_what_is_computed_is_named():
    plan = plan_of(POWER)
    reading = plan.decode(answers(plan, mode=3, current_l1_a=16, voltage_l1_v=240, current_l2_a=16))
    assert reading.values == {
        "state": "charging", "plugged": True, "active_power_w": 7520.0,
        "current_l1_a": 16.0, "current_l2_a": 16.0, "voltage_l1_v": 240.0,
    }  # fmt: skip
    assert (reading.errors, reading.derived) == ({}, ["active_power_w"])


def test_measurands_come_in_the_contracts_order():
    assert list(plan_of(POWER).decode(answers(plan_of(POWER))).values) == list(plan_of(POWER).profile.measurands)


def test_the_first_rule_that_holds_counts():
    plan = plan_of(POWER)
    assert plan.decode(answers(plan, mode=0, current_l1_a=16)).values["active_power_w"] == 0.0


def test_a_value_that_is_not_available_is_absent_without_an_error():
    plan = plan_of(POWER)
    reading = plan.decode(answers(plan, mode=3, current_l1_a=10, voltage_l1_v=65535))
    assert "voltage_l1_v" not in reading.values
    assert reading.errors == {}
    assert reading.values["active_power_w"] == 2300.0


def test_a_failed_block_fails_what_rests_on_it_and_nothing_else():
    plan = plan_of(POWER)
    reading = plan.decode(answers(plan, mode="no answer within 3 s"))
    assert reading.errors == dict.fromkeys(
        ("state", "plugged", "active_power_w", "current_l1_a"), "no answer within 3 s"
    )
    assert set(reading.values) == {"current_l2_a", "voltage_l1_v"}


def test_a_sum_without_one_of_its_parts_is_no_sum():
    plan = plan_of(POWER)
    reading = plan.decode(answers(plan, mode=3, current_l2_a="exception 4"))
    assert reading.errors == {"active_power_w": "exception 4", "current_l2_a": "exception 4"}


def test_a_block_that_was_not_answered_has_failed():
    plan = plan_of(POWER)
    reading = plan.decode({})
    assert reading.values == {}
    assert set(reading.errors) == set(plan.profile.measurands)
    assert set(reading.errors.values()) == {"was not read"}


@pytest.mark.parametrize("words", [[], [1], [1, 2, 3]])
def test_an_answer_of_the_wrong_length_is_a_failure(words):
    plan = plan_of(POWER)
    results = answers(plan) | {plan.poll[0]: words}
    assert plan.decode(results).errors["state"] == f"the device gave {len(words)} of 2 words"


def test_a_float_that_is_no_number_is_an_error_unless_the_profile_expects_it():
    for na, errors in (("", {"current_l1_a": "the device gave no number"}), (', na = ["NaN"]', {})):
        current = f'current_l1_a = {{ address = 12, type = "float32", unit = "A"{na} }}\n'
        plan = plan_of(text(registers="[registers]\nmode = { address = 10 }\n" + current))
        results = {block: [0x7FC0, 0] if "current_l1_a" in block.registers else [0] for block in plan.poll}
        assert plan.decode(results).errors == errors


def test_no_rule_that_holds_means_unknown():
    plan = plan_of(POWER)
    assert plan.decode(answers(plan, mode=7)).values["state"] == "unknown"


def test_text_measurands_are_the_names_of_codes():
    registers = (
        '[registers]\nmode = { address = 10 }\nerror_code = { address = 11, enum = { 0 = "none", 5 = "contactor" } }\n'
    )
    plan = plan_of(text(registers=registers))
    assert plan.decode(answers(plan, error_code=5)).values["error_code"] == "contactor"
    assert plan.decode(answers(plan, error_code=6)).values["error_code"] == "6"


def test_what_the_device_refuses_is_asked_for_alone_and_then_given_up():
    registers = """
[registers]
mode = { address = 10 }
voltage_l1_v = { address = 11, unit = "V" }
voltage_l2_v = { address = 12, unit = "V", optional = true }
voltage_l3_v = { address = 13, unit = "V", optional = true }
"""
    plan = plan_of(text(registers=registers))
    assert [block.registers for block in plan.poll] == [("mode", "voltage_l1_v", "voltage_l2_v", "voltage_l3_v")]
    plan = plan.after_refusal(plan.poll[0])
    assert [block.registers for block in plan.poll] == [("mode", "voltage_l1_v"), ("voltage_l2_v",), ("voltage_l3_v",)]
    assert plan.after_refusal(plan.poll[0]) is None
    plan = plan.after_refusal(plan.poll[1])
    assert [block.registers for block in plan.poll] == [("mode", "voltage_l1_v"), ("voltage_l3_v",)]
    reading = plan.decode(answers(plan, voltage_l3_v=230))
    assert reading.errors == {}
    assert "voltage_l2_v" not in reading.values
    assert reading.values["voltage_l3_v"] == 230.0


def test_orders_and_texts_are_decoded_beside_plain_numbers():
    registers = """
[defaults]
word_order = "little"
[registers]
mode = { address = 10 }
active_power_w = { address = 11, type = "uint32", unit = "W" }
energy_import_wh = { address = 13, type = "uint32", unit = "Wh", word_order = "big" }
status = { address = 15, type = "string", count = 1 }
ready = { address = 3, table = "coil" }
"""
    state = '[[state]]\nwhen = "status == \'C2\' and ready"\nis = "charging"\n'
    plan = plan_of(text(registers=registers, state=state))
    holding, coil = sorted(plan.poll, key=lambda block: block.table == "coil")
    words = [1, 0x0002, 0x0001, 0x0001, 0x0002, 0x4332]
    values = plan.decode({holding: words[-5:] if holding.count == 5 else words, coil: [1]}).values
    assert values == {"state": "charging", "active_power_w": 65538.0, "energy_import_wh": 65538.0}


def test_registers_are_read_for_people_with_their_names_and_labels():
    plan = plan_of(POWER)
    results = {block: [0] * block.count for block in plan.poll} | {plan.config[0]: "exception 2"}
    readings = plan.decode_registers(results)
    assert list(readings) == ["mode", "current_l1_a", "current_l2_a", "voltage_l1_v", "timeout"]
    assert (readings["current_l1_a"].value, readings["current_l1_a"].unit) == (0.0, "A")
    assert (readings["timeout"].value, readings["timeout"].error) == (None, "exception 2")


def test_a_register_is_read_back_and_written_where_the_connector_has_it():
    source = text(
        connection='[connection]\nconnectors = { by = "address_stride", stride = 100, count = 3 }\n',
        registers="[registers]\nmode = { address = 10 }\n"
        'limit_set = { address = 20, unit = "A", access = "rw", min = 6, max = 32 }\n',
        limit='[limit]\nregister = "limit_set"\npause = [{ register = "limit_set", value = 0 }]\n',
    )
    plan = make_plan(load(source, "test"), connector=3, unit_id=9)
    block = plan.block_of("limit_set")
    assert (block.unit_id, block.address, block.count) == (9, 220, 1)
    assert plan.value_of("limit_set", [16]) == 16.0
    (write,) = plan.profile.limit.writes_for(10.9)
    wire = plan.wire_write(write)
    assert (wire.unit_id, wire.function, wire.address, wire.words) == (9, 6, 220, (10,))


def test_recharge_points_that_are_alike_share_a_plan():
    profile = load(POWER, "test")
    assert make_plan(profile) is make_plan(profile, connector=1)
    assert make_plan(profile) is not make_plan(profile, unit_id=2)
    assert make_plan(load(POWER, "test")) is not make_plan(profile)
