"""What people see, and what a terminal must not be sent."""

import pytest

from evedge.cli.tables import Cell, Column, Table, printable, show


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Säule 1 – 16 A", "Säule 1 – 16 A"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\t", "a\\nb\\t"),
        ("\u202egpj", "\\u202egpj"),
    ],
)
def test_what_a_terminal_would_act_on_is_shown_as_it_is_written(text, shown):
    assert printable(text) == shown


def test_columns_are_aligned_and_numbers_stand_to_the_right(capsys):
    table = Table([Column("topic"), Column("waiting", number=True)], [[Cell("a"), Cell("7")], [Cell("bcd"), Cell("")]])
    show("one\x07line", table, Table([Column("nothing")], []))
    assert capsys.readouterr().out.splitlines() == [
        "one\\x07line",
        "topic  waiting",
        "a            7",
        "bcd          -",
    ]
