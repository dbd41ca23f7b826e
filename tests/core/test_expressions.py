import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evedge.core.expressions import MAX_LENGTH, Failed, Missing, Names, compile_expression
from evedge.core.measurands import Kind

KINDS = {"a": Kind.NUMBER, "b": Kind.NUMBER, "mode": Kind.TEXT, "flag": Kind.TRUTH}


def value(text, failed=None, known=None, **names):
    found = Names(known)
    found.update(names)
    found.failed.update(failed or {})
    return compile_expression(text, KINDS)(found)


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("a == 3", {"a": 3}, True),
        ("a >= 0x101", {"a": 257}, True),
        ("1 < a <= 3", {"a": 1}, False),
        ("a in (1, 2)", {"a": 2}, True),
        ("a not in (1, 2)", {"a": 2}, False),
        ("mode in ('C2', 'D2')", {"mode": "C2"}, True),
        ("mode == 'C2' and a < 6", {"mode": "C2", "a": 5.5}, True),
        ("not flag or a == -1", {"flag": True, "a": -1}, True),
        ("a * 2 + b / 4", {"a": 3, "b": 8}, 8),
        ("a == b", {"a": 3, "b": 3.0}, True),
        ("first(a, b, 230)", {"b": 5}, 5),
        ("first(a, 230)", {}, 230),
        ("total(a * 2, b * 2)", {"b": 4}, 8),
        ("known(a)", {}, False),
        ("known(a, b)", {"a": 0, "b": 0}, True),
    ],
)
def test_it_means_what_it_says(text, names, expected):
    assert value(text, **names) == expected


@pytest.mark.parametrize("text", ["a == 1", "a + 1", "total(a, b)", "first(a, b)", "a / 0", "a / (b - b)"])
def test_a_missing_name_makes_the_value_missing(text):
    with pytest.raises(Missing):
        value(text, **({"a": 1.0, "b": 1.0} if "/" in text else {}))


@pytest.mark.parametrize("text", ["a == 1", "known(a)", "first(a, 1)", "total(a, b)", "b == 1 or a == 1"])
def test_a_failed_read_is_never_papered_over(text):
    with pytest.raises(Failed) as failed:
        value(text, failed={"a": "timed out"}, b=2)
    assert failed.value.args == ("timed out",)


def test_what_is_not_needed_may_have_failed():
    assert value("b == 1 or a == 1", failed={"a": "timed out"}, b=1) is True


def test_registers_read_before_are_seen_but_those_of_this_poll_come_first():
    assert value("a + b", known={"a": 1, "b": 10}, a=2) == 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("a ==", "cannot be read"),
        ("c == 1", "names 'c'"),
        ("a == 'x'", "a text, where a number"),
        ("mode < 3", "a text, where a number"),
        ("a and flag", "a number, where a truth"),
        ("a in b", "list of constants"),
        ("a in (1, 'x')", "a text, where a number"),
        ("a is 1", "compares with"),
        ("open('/etc/passwd')", "calls 'open'"),
        ("a.__class__", "not part of this language"),
        ("(lambda: 1)()", "not part of this language"),
        ("[a for a in (1, 2)]", "not part of this language"),
        ("a ** 99", "not part of this language"),
        ("f'{a}'", "not part of this language"),
        ("known()", "not part of this language"),
        ("total(a, b=1)", "not part of this language"),
        ("None", "no number, truth value or text"),
        ("a + 1" + "0" * MAX_LENGTH, "longer than"),
    ],
)
def test_anything_else_is_refused_in_one_line(text, said):
    with pytest.raises(ValueError) as refused:
        compile_expression(text, KINDS)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text(max_size=MAX_LENGTH))
def test_no_text_whatever_does_more_than_be_refused(text):
    try:
        expression = compile_expression(text, KINDS)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
        with contextlib.suppress(Missing, Failed):
            expression(Names({"a": 1.0}))
    assert "\n" not in refused


@pytest.mark.parametrize("text", ["(" * 240 + "a" + ")" * 240, "not " * 120 + "flag", "a" + "+a" * 240])
def test_depth_is_bounded(text):
    try:
        expression = compile_expression(text, KINDS)
    except ValueError:
        return
    expression(_names(a=1.0, flag=True))


def _names(**values):
    names = Names()
    names.update(values)
    return names
