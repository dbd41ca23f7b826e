import pytest

from core.profile_texts import text
from evedge.core.profile import Group, ProfileError, load


def mistakes(source):
    with pytest.raises(ProfileError) as refused:
        load(source, "test")
    assert all("\n" not in line for line in refused.value.mistakes)
    return list(refused.value.mistakes)


def registers(*lines):
    return text(registers="[registers]\nmode = { address = 10 }\n" + "\n".join(lines))


def sections(**given):
    return text(**{name: f"[{name}]\n{body}\n" for name, body in given.items()})


def test_a_minimal_profile_is_enough():
    profile = load(text(), "test")
    assert profile.measurands == ("state", "current_l1_a")
    assert profile.limit is None
    assert profile.registers["mode"].group is Group.POLL
    assert profile.connection.port == 502


def test_all_mistakes_come_at_once():
    source = text(
        device='[device]\nvendor = ""\n',
        connection='[connection]\nport = "502"\nunitid = 3\n',
        registers="""
[registers]
mode = { adress = 10 }
current_l1_a = { address = 11, unit = "mA" }
voltage_l1_v = { address = 12, type = "uint17", unit = "V" }
""",
        values='[[values]]\nmeasurand = "power"\nvalue = "1"\n',
        limit='[limit]\nregister = "current_limit_st"\npause = []\n',
        failsafe='[failsafe]\nkind = "heartbeat_value"\n',
        extra="[extra]\n",
    )
    found = mistakes(source)
    assert found[0] == "extra: there is no such key"
    for line in (
        "device.model: is missing",
        "device.vendor = '': must not be empty",
        "connection.port = '502': must be a whole number",
        "connection.unitid: there is no such key; did you mean unit_id?",
        "registers.mode.adress: there is no such key; did you mean address?",
        "registers.mode.address: is missing",
        "registers.current_l1_a.unit = 'mA': must be 'A', as current_l1_a is",
        "values[0].measurand = 'power': there is no such measurand",
        "failsafe.refresh: is missing: heartbeat_value needs the writes that keep it alive",
    ):
        assert line in found, found
    assert any(line.startswith("registers.voltage_l1_v.type = 'uint17': must be 'uint16', ") for line in found)
    assert any(line.startswith("limit.pause = []") for line in found)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("= 3", "is not TOML"),
        ("", "registers: there must be at least one"),
        (text(state=""), "state: there must be at least one rule"),
        (text(state='[[state]]\nwhen = "mod == 3"\nis = "charging"\n'), "state[0].when = 'mod == 3': names 'mod'"),
        (text(state='[[state]]\nwhen = "mode"\nis = "charging"\n'), "gives a number, where a truth is needed"),
        (text(state='[[state]]\nis = "busy"\n'), "state[0].is = 'busy': must be 'available', "),
        (registers("state = { address = 3 }"), "registers.state: this name is taken"),
        (registers("Mode = { address = 3 }"), "registers.Mode: a register's name is lower case"),
        (registers("a = { address = 65535, type = 'uint32' }"), "it goes beyond 65535"),
        (registers("a = { address = 3, type = 'string' }"), "registers.a.count: is missing"),
        (registers("a = { address = 3, count = 2 }"), "registers.a.count = 2: belongs to string and bytes"),
        (registers("a = { address = 3, type = 'bool' }"), "bool belongs to coils"),
        (registers("a = { address = 3, table = 'coil', type = 'uint16' }"), "bool belongs to coils"),
        (registers("a = { address = 3, mask = 0x10000 }"), "uint16 has 16 bits"),
        (registers("a = { address = 3, bit = 16 }"), "uint16 has 16 bits"),
        (registers("a = { address = 3, type = 'int16', bit = 3 }"), "belongs to unsigned whole numbers"),
        (registers("a = { address = 3, mask = 1, bit = 0 }"), "exclude each other"),
        (registers("a = { address = 3, shift = 2 }"), "belongs to mask"),
        (registers("a = { address = 3, scale = 0 }"), "registers.a.scale = 0"),
        (registers("a = { address = 3, scale = 0.1, format = 'hex' }"), "no scale, mask or bit"),
        (registers("a = { address = 3, type = 'float32', format = 'hex' }"), "numbers and bytes"),
        (registers("a = { address = 3, na = [0.5] }"), "must be whole numbers"),
        (registers("a = { address = 3, na = ['none'] }"), "registers.a.na[0] = 'none'"),
        (registers("a = { address = 3, enum = { x = 'y' } }"), "registers.a.enum = 'x': must be a whole number"),
        (registers("a = { address = 3, bits = { 64 = 'y' } }"), "must be the number of a bit"),
        (registers("a = { address = 3, min = 6 }"), "registers.a.min: belongs to registers with access"),
        (registers("a = { address = 3, access = 'w', min = 6, max = 5 }"), "is above max"),
        (registers("a = { address = 3, access = 'w', table = 'input' }"), "nothing in table input can be written"),
        (registers("a = { address = 3, access = 'w', type = 'uint32', write_fc = 6 }"), "must be 16 for 2"),
        (registers("a = { address = 3, access = 'rw', bit = 1 }"), "cannot be written without the rest"),
        (registers("a = { address = 3, access = 'w', readback = 'b' }"), "registers.a.readback = 'b'"),
        (registers("current_l1_a = { address = 3, unit = 'A', access = 'w' }"), "give what is written another name"),
        (registers("a = { address = 11, type = 'uint32' }", "b = { address = 12 }"), "lies inside a (11 to 12)"),
        (registers("a = { address = 3, word_order = 'middle' }"), "must be 'big' or 'little'"),
        (registers("a = 3"), "registers.a = 3: must be a table"),
        (sections(reads="max_registers = 2", registers="mode = { address = 1, type = 'uint64' }"), "registers is 2"),
        (sections(reads="deny = [{ first = 9, last = 10, why = 'it restarts' }]"), "lies in reads.deny: it restarts"),
        (sections(connection="connectors = { by = 'address_stride' }"), "connection.connectors.stride"),
        (sections(connection="connectors = { by = 'address_stride', stride = 9999, count = 9 }"), "would reach"),
        (sections(limit="register = 'mode'\npause = [{ register = 'mode', value = 0 }]"), "that cannot be written"),
        (text(values='[[values]]\nmeasurand = "state"\nvalue = "1"\n'), "has a section of its own"),
        (text(values='[[values]]\nmeasurand = "plugged"\nvalue = "1"\n'), "has a section of its own"),
        (text(plugged='[plugged]\nwhen = "mode +"\n'), "plugged.when = 'mode +': cannot be read"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(source, said):
    found = mistakes(source)
    assert any(said in line for line in found), found


def test_a_broken_register_is_not_blamed_on_those_that_name_it():
    source = text(registers="[registers]\nmode = { address = 99999 }\ncurrent_l1_a = { address = 11, unit = 'A' }\n")
    assert mistakes(source) == ["registers.mode.address = 99999: must be at most 65535"]


def test_defaults_hold_where_a_register_says_nothing():
    profile = load(
        text(
            defaults='[defaults]\ntable = "input"\ntype = "uint32"\nword_order = "little"\nconfidence = "low"\n',
            registers='[registers]\nmode = { address = 1 }\na = { address = 3, table = "holding", type = "uint16" }\n',
        ),
        "test",
    )
    mode, other = profile.registers["mode"], profile.registers["a"]
    assert (mode.table, mode.words, mode.word_order, mode.confidence) == ("input", 2, "little", "low")
    assert (other.table, other.words) == ("holding", 1)


def test_readback_is_another_register_or_the_register_itself_or_none():
    profile = load(
        registers(
            "a = { address = 20, access = 'rw' }",
            "b = { address = 21, access = 'w', readback = 'a' }",
            "c = { address = 22, access = 'w' }",
            "d = { address = 23, access = 'rw', self_clearing = true }",
        ),
        "test",
    )
    shown = {name: profile.readback(profile.registers[name]) for name in "abcd"}
    assert {name: one and one.name for name, one in shown.items()} == {"a": "a", "b": "a", "c": None, "d": None}
