"""Whatever stands in the file or the environment: a configuration, or lines; never another error."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from config_places import place, tables
from evedge.config import Config, ConfigError, parse
from evedge.config.mistakes import Data
from evedge.config.schema import keys, table_at
from evedge.config.sources import variables
from evedge.config_profiles import profile_rule

SCALARS = st.one_of(
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.sampled_from(
        [10**400, -(10**40), "", "a/#/b", "[::1]:0", "mqtt://", "{1}", "$argon2id$", "127.0.0.1:1883", "\0"]
    ),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


NAMES = [(at, name) for at in tables() for name in (*keys(table_at((*at, "")) or Config), "pasword", "z z")]


def lines(data: dict[str, Data], environ: dict[str, str] | None = None) -> Iterator[str]:
    try:
        parse(data, environ=environ, rules=[profile_rule])
    except ConfigError as error:
        yield from (str(mistake) for mistake in error.mistakes)


@given(entries=st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8))
def test_any_data_gives_a_configuration_or_lines(entries: list[tuple[tuple[tuple[str | int, ...], str], Data]]) -> None:
    data: dict[str, Data] = {"gateway": {"id": "a"}}
    for (at, name), value in entries:
        data = place(data, at, name, value)
    for line in lines(data):
        assert line.isprintable(), "one line, and nothing that a terminal obeys"


@given(
    environ=st.dictionaries(
        st.sampled_from(sorted(variables())),
        st.text(max_size=8)
        | VALUES.map(lambda value: json.dumps(value, default=str))
        | st.sampled_from(["[null]", "[[]]"]),
    )
)
def test_any_environment_gives_a_configuration_or_lines(environ: dict[str, str]) -> None:
    for line in lines({"gateway": {"id": "a"}}, environ):
        assert line.isprintable()
