"""Tables for people: with lines and colour on a terminal, plain columns in a pipe.

Texts may come from devices and strangers: what a terminal would act on is shown, never sent.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A heading. Numbers stand to the right."""

    heading: str
    number: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, and how it looks on a terminal (a rich style)."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and as many cells in each row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def printable(text: str) -> str:
    """The text with everything that is not to be seen (control characters, line ends) as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def show(*parts: Table | str) -> None:
    """Print lines and tables, in their order; a table without rows not at all."""
    wanted = [part for part in parts if isinstance(part, str) or part.rows]
    if sys.stdout.isatty():
        _show_rich(wanted)
        return
    for part in wanted:
        for line in [printable(part)] if isinstance(part, str) else _plain(part):
            click.echo(line)


def _plain(table: Table) -> list[str]:
    texts = [[column.heading for column in table.columns]]
    texts += [[printable(cell.text) or "-" for cell in row] for row in table.rows]
    widths = [max(len(text) for text in column) for column in zip(*texts, strict=True)]
    lines = []
    for row in texts:
        aligned = [
            text.rjust(width) if column.number else text.ljust(width)
            for text, width, column in zip(row, widths, table.columns, strict=True)
        ]
        lines.append(GAP.join(aligned).rstrip())
    return lines


def _show_rich(parts: Sequence[Table | str]) -> None:
    from rich import box, console, table, text  # noqa: PLC0415 -- a pipe does not pay for it

    out = console.Console(highlight=False)
    for part in parts:
        if isinstance(part, str):
            out.print(text.Text(printable(part)))
            continue
        shown = table.Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for column in part.columns:
            shown.add_column(column.heading, justify="right" if column.number else "left", overflow="fold")
        for row in part.rows:
            shown.add_row(*(text.Text(printable(cell.text), style=cell.style) for cell in row))
        out.print(shown)
