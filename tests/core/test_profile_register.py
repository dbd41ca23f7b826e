import math
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evedge.core.profile import Register, Table
from evedge.core.profile_number import NUMBERS, integer_range
from evedge.core.profile_text import FORMATS

WORD = st.integers(0, 0xFFFF)
ORDERS = st.sampled_from(["big", "little"])


def register(type_="uint16", words=None, **keys):
    length = NUMBERS[type_][1] if type_ in NUMBERS else 1
    return Register(name="r", table=Table.HOLDING, address=0, type=type_, words=words or length, **keys)


@st.composite
def numbers(draw):
    type_ = draw(st.sampled_from(sorted(NUMBERS)))
    scale = draw(st.sampled_from([1.0, 0.001, 0.1, 0.01, 10.0, 100.0, 1000.0, 1 / 360]))
    unit = draw(st.sampled_from([None, "A"]))
    return register(type_, scale=scale, unit=unit, word_order=draw(ORDERS), byte_order=draw(ORDERS))


@given(numbers(), st.data())
def test_words_survive_decoding_and_encoding(one, data):
    words = data.draw(st.lists(WORD, min_size=one.words, max_size=one.words))
    value = one.decode(words)
    if one.type.startswith("float"):
        assume(value is not None)
        assert math.isclose(one.raw(one.encode(value)), one.raw(words), rel_tol=1e-6, abs_tol=1e-44)
    elif abs(one.raw(words)) < 2**52:
        assert list(one.encode(value)) == words


@given(numbers(), st.integers(-(10**6), 10**6))
def test_a_value_survives_encoding_and_decoding(one, thousandths):
    value = thousandths / 1000
    try:
        words = one.encode(value)
    except ValueError:
        low, high = integer_range(one.type)
        assert not low * one.scale <= value <= high * one.scale
        return
    step = 0 if one.type.startswith("float") else one.scale / 2
    assert math.isclose(one.decode(words), value, rel_tol=1e-6, abs_tol=step * (1 + 1e-9) + 1e-30)


@given(st.sampled_from(["packed", "utf16", "low_byte"]), ORDERS, st.text("abcXYZ019 -_./", max_size=8))
def test_text_survives_in_every_style(style, byte_order, text):
    one = register("string", words=8, characters=style, byte_order=byte_order)
    assert one.decode(one.encode(text)) == (text.strip() or None)


@pytest.mark.parametrize(
    ("format_", "type_", "words", "text"),
    [
        ("decimal", "uint32", (0x0001, 0x86A0), "100000"),
        ("hex", "bytes", (0x04A3, 0x1F00), "04A31F00"),
        ("hex", "uint32", (0x04A3, 0x1F00), "04A31F00"),
        ("version_bytes", "bytes", (0x0102, 0x1300), "1.2.19.0"),
        ("version_bcd", "bytes", (0x0102, 0x1300), "1.2.13.0"),
        ("version_words", "bytes", (1, 22, 0), "1.22.0"),
        ("version_nibbles", "uint16", (0x0108,), "1.0.8"),
        ("version_pairs", "uint32", (0, 10203), "1.2.3"),
        ("hhmmss", "uint32", (1, 73005 - 65536), "07:30:05"),
        ("yymmdd", "uint32", (3, 261123 - 3 * 65536), "26-11-23"),
    ],
)
def test_formats_give_known_text_and_take_it_back(format_, type_, words, text):
    one = register(type_, words=len(words), format=format_)
    assert one.decode(words) == text
    assert one.encode(text) == words


def test_every_format_is_tested():
    assert set(FORMATS) == {
        "decimal", "hex", "version_bytes", "version_bcd", "version_words", "version_nibbles", "version_pairs",
        "hhmmss", "yymmdd",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ({"type_": "uint16"}, 65536),
        ({"type_": "uint16"}, -1),
        ({"type_": "int16", "scale": 0.1}, 4000.0),
        ({"type_": "uint16"}, math.nan),
        ({"type_": "float32"}, math.inf),
        ({"type_": "float32"}, 1e39),
        ({"type_": "uint16"}, "twelve"),
        ({"type_": "string", "words": 2}, "too long for it"),
        ({"type_": "string", "words": 2}, 7),
        ({"type_": "uint16", "format": "version_nibbles"}, "1.0.99"),
        ({"type_": "uint16", "format": "version_nibbles"}, "one"),
        ({"type_": "bytes", "words": 2, "format": "hex"}, "12"),
        ({"type_": "uint32", "format": "hhmmss"}, "12:00"),
        ({"type_": "uint16"}, None),
        ({"type_": "uint32", "mask": 0x0F00, "shift": 8}, 16),
    ],
)
def test_what_cannot_be_held_is_refused_in_one_line(keys, value):
    with pytest.raises(ValueError) as refused:
        register(**keys).encode(value)
    assert "\n" not in str(refused.value)


def test_word_and_byte_order_are_two_things():
    data = struct.pack(">I", 0x01020304)
    for word_order, byte_order, words in [
        ("big", "big", (0x0102, 0x0304)),
        ("little", "big", (0x0304, 0x0102)),
        ("big", "little", (0x0201, 0x0403)),
        ("little", "little", (0x0403, 0x0201)),
    ]:
        one = register("uint32", word_order=word_order, byte_order=byte_order)
        assert one.decode(words) == int.from_bytes(data, "big")
        assert one.encode(0x01020304) == words


def test_word_order_does_not_turn_text_round():
    assert register("string", words=2, word_order="little").decode((0x4142, 0x4344)) == "ABCD"


def test_thousandths_are_not_smeared():
    one = register("uint32", scale=0.001, unit="A")
    assert [one.decode((0, raw)) for raw in (16001, 10550, 29, 7)] == [16.001, 10.55, 0.029, 0.007]


def test_a_float32_shows_the_digits_it_has():
    words = struct.unpack(">2H", struct.pack(">f", 16.1))
    assert register("float32", unit="A").decode(words) == 16.1


def test_numbers_with_a_unit_are_floats_and_codes_are_ints():
    assert type(register("uint16", unit="W").decode((5,))) is float
    assert type(register("uint16").decode((5,))) is int


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("type_", ["float32", "float64"])
def test_what_is_no_number_is_never_a_value(type_, value):
    letter, words = NUMBERS[type_]
    assert register(type_).decode(struct.unpack(f">{words}H", struct.pack(f">{letter}", value))) is None


def test_na_is_compared_before_scaling():
    one = register("uint32", scale=0.001, unit="A", na=(0xFFFFFFFF,))
    assert one.decode((0xFFFF, 0xFFFF)) is None
    assert one.encode(None) == (0xFFFF, 0xFFFF)


def test_a_bit_is_a_truth_value_and_a_mask_a_number():
    words = (0x0000, 0x8400)
    assert register("uint32", mask=0x7F00, shift=8).decode(words) == 4
    assert register("uint32", bit=15).decode(words) is True
    assert register("uint32", bit=15).decode((0x8000, 0x0400)) is False


@given(st.lists(WORD, min_size=2, max_size=2), st.integers(0, 127))
def test_inserting_a_part_leaves_the_rest(words, part):
    one = register("uint32", mask=0x7F00, shift=8)
    after = one.insert(words, part)
    assert one.decode(after) == part
    assert after[0] == words[0]
    assert after[1] & ~0x7F00 == words[1] & ~0x7F00


def test_labels_are_for_people():
    flags = register("uint32", bits={1: "residual current", 3: "overvoltage"}, enum={0: "no error"})
    assert [flags.label(value) for value in (0, 2, 10, 1 << 20)] == [
        "no error", "residual current", "residual current, overvoltage", "bit 20",
    ]  # fmt: skip
    codes = register(enum={0: "none", 3: "charging"})
    assert [codes.label(value) for value in (3, 9)] == ["charging", "9"]
    assert register().label(True) == "true"
    assert register().label(16.0) == "16"


def test_a_name_from_the_enum_can_be_written():
    one = register(writable=True, enum={0: "start", 1: "stop"})
    assert one.encode("stop") == (1,)
    assert one.problem("stop") is None
    assert one.problem("halt") == "r takes 0 (start) or 1 (stop), not 'halt'"
    assert one.problem(2) == "r takes 0 (start) or 1 (stop), not 2"


def test_what_may_be_written_is_said_in_words():
    one = register("uint32", scale=0.001, unit="A", writable=True, minimum=6, maximum=32, also=(0.0,))
    assert one.problem(0) is None
    assert one.problem(6) is None
    assert one.problem(3) == "r takes 0 A or 6 to 32 A, not 3"
    assert one.problem(33) == "r takes 0 A or 6 to 32 A, not 33"
    assert register().problem(1) == "r is not writable"
    assert register(writable=True).problem(70000) == "r holds 0 to 65535, not 70000"


@pytest.mark.parametrize("words", [(), (1, 2, 3), (70000, 0), (-1, 0)])
def test_words_that_do_not_fit_are_refused(words):
    with pytest.raises(ValueError):
        register("uint32").decode(words)


def test_coils_hold_one_bit():
    one = Register(name="r", table=Table.COIL, address=400, type="bool", words=1)
    assert one.decode((1,)) is True
    assert one.encode(False) == (0,)
    assert one.encode(True) == (1,)
