"""A secret never stands in a mistake, wherever in the file or the environment it was put and whatever else is wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_places import place, tables
from evedge.config import Config, ConfigError, parse
from evedge.config.mistakes import Data, looks_secret, shown
from evedge.config.schema import secret_names

SECRET = "hunter2-Zq9"
SECRET_KEYS = sorted(set(secret_names()))

SHAPES: list[Data] = [SECRET, [SECRET], {"a": SECRET}, [[SECRET]], [{"password": SECRET}]]

WRONG: dict[str, Data] = {
    "gateway": {"id": "a b", "zz": 1},
    "mqtt": {"bind": "nope", "max_clients": "many", "users": [{"name": "u", "publish": ["a+"]}, {"name": "u"}]},
    "kafka": {"security_protocol": "SASL", "sasl_mechanism": "ROT13", "topics": {"alerts": "evedge.status"}},
    "commands": {"issuers": [{"nam": "x"}]},
    "site": {"meter": {"host": ""}},
}


def everything_printed(data: dict[str, Data], environ: dict[str, str] | None = None) -> str:
    """The error's text, its parts and its whole traceback, with the errors it came from."""
    try:
        config = parse(data, environ=environ)
    except ConfigError as error:
        parts = [repr(mistake) for mistake in error.mistakes]
        return "\n".join([str(error), repr(error), *parts, *traceback.format_exception(error, chain=True)])
    return f"{config!r}\n{config}\n{config.model_dump()}\n{config.model_dump_json()}"


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
@pytest.mark.parametrize("start", [WRONG, {"gateway": {"id": "a"}}], ids=["many mistakes", "nothing else wrong"])
@pytest.mark.parametrize(
    "name",
    [*SECRET_KEYS, *(f"{name}_file" for name in SECRET_KEYS), "apiKey", "sasl_pasword", "token", "sasl.jaas.config"],
)
def test_a_secret_is_never_printed_in_whatever_table_it_stands(name: str, start: dict[str, Data], shape: Data) -> None:
    for at in tables():
        assert SECRET not in everything_printed(place(start, at, name, shape)), (at, name)


@pytest.mark.parametrize("start", [WRONG, {"gateway": {"id": "a"}}], ids=["many mistakes", "nothing else wrong"])
def test_a_secret_from_the_environment_is_never_printed(start: dict[str, Data]) -> None:
    for name in ("MQTT__PASSWORD", "KAFKA__SASL_PASSWORD", "KAFKA__SASL_PASSWORD_FILE", "KAFKA__SASL_PASWORD", "KAFKA"):
        assert SECRET not in everything_printed(start, {f"EVEDGE__{name}": SECRET})


@given(at=st.sampled_from(sorted(tables(), key=str)), name=st.sampled_from(SECRET_KEYS), typo=st.data())
def test_a_misspelt_secret_is_never_printed(at: tuple[str | int, ...], name: str, typo: st.DataObject) -> None:
    where = typo.draw(st.integers(0, len(name) - 1))
    name = typo.draw(
        st.sampled_from(
            [
                name[:where] + name[where + 1 :],
                name[:where] + "x" + name[where:],
                name[:where] + "q" + name[where + 1 :],
            ]
        )
    )
    assert SECRET not in everything_printed(place(WRONG, at, name, SECRET)), name


@pytest.mark.parametrize(
    "name",
    ["password", "passwd", "pwd", "Secret", "api_key", "apikey", "auth-token", "credentials", "hash", "sasl_pasword",
     "private", "jaas", "pasword", "psswrd", "tokn", "secrt"],
)  # fmt: skip
def test_a_key_that_looks_like_a_secret_counts_as_one(name: str) -> None:
    assert looks_secret(name, SECRET_KEYS)


@pytest.mark.parametrize("name", ["host", "poll_interval_s", "bind", "url", "max_bytes", "level", "unit_id", "profil"])
def test_other_keys_do_not(name: str) -> None:
    assert not looks_secret(name, SECRET_KEYS)


def test_an_address_with_a_password_in_it_is_not_shown() -> None:
    assert shown("mqtts://u:hunter2@h") is None
    assert shown(["a", "u:hunter2@h"]) is None


def test_a_value_is_shown_on_one_line_without_control_characters() -> None:
    assert shown("a\n\x1b[31m\x9bz") == '"a\\n\\u001b[31m\\u009bz"'
    assert len(shown("x" * 1000) or "") < 100


def test_a_config_does_not_print_its_secrets(loaded: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "one").write_text(SECRET)
    text = '[mqtt]\nurl = "mqtts://g"\nusername = "u"\npassword_file = "one"'
    config = loaded(text)
    assert config.mqtt.password is not None
    assert config.mqtt.password.get_secret_value() == SECRET
    assert SECRET not in f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"
