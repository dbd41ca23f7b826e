"""What pydantic-settings does for us, and what we keep it from doing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from evedge.config import Config, parse
from evedge.config.mistakes import Data

Lines = Callable[..., list[str]]
Loaded = Callable[..., Config]

LOGIN: dict[str, Data] = {
    "gateway": {"id": "site-042"},
    "kafka": {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"},
}


def with_kafka(**keys: Data) -> dict[str, Data]:
    kafka = LOGIN["kafka"]
    assert isinstance(kafka, dict)
    return {**LOGIN, "kafka": {**kafka, **keys}}


def test_a_configuration_is_settings(loaded: Loaded) -> None:
    config = loaded()
    assert isinstance(config, BaseSettings)
    assert config == loaded()
    assert config.mqtt.model_fields_set == set()


def test_each_source_wins_over_the_ones_below(tmp_path: Path) -> None:
    (tmp_path / "kafka.sasl_password").write_text("credential")
    (tmp_path / "beside").write_text("beside")
    (tmp_path / "other").write_text("other")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    in_file, beside = with_kafka(sasl_password="file"), with_kafka(sasl_password_file="beside")

    def password(data: dict[str, Data], **variables: str) -> str | None:
        kafka = parse(data, base=tmp_path, environ=environ | variables).kafka
        assert kafka is not None
        assert kafka.sasl_password is not None
        return kafka.sasl_password.get_secret_value()

    assert password(LOGIN) == "credential"
    assert password(beside) == "beside"
    assert password(in_file) == "file"
    assert password(beside, EVEDGE__KAFKA__SASL_PASSWORD_FILE="other") == "other"
    assert password(in_file, EVEDGE__KAFKA__SASL_PASSWORD="environment") == "environment"


def test_only_the_environment_that_is_given_counts(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVEDGE__GATEWAY__ID", "other")
    monkeypatch.setenv("GATEWAY", '{"id": "other"}')  # as the library would name it without a prefix
    assert loaded().gateway.id == "site-042"


def test_the_file_cannot_set_the_librarys_options(tmp_path: Path, lines: Lines) -> None:
    (tmp_path / "env").write_text("GATEWAY__ID=other")
    assert [line.partition(";")[0] for line in lines("", start=f'_env_file = "{tmp_path}/env"\n')] == [
        f'_env_file = "{tmp_path}/env": is not a known key',
        "gateway.id: is missing",
    ]


def test_a_table_that_is_none_stays_a_mistake_with_a_variable_below_it(lines: Lines) -> None:
    variables = {"EVEDGE__SITE__METER__HOST": "h", "EVEDGE__SITE__METER__PROFILE": "p", "EVEDGE__MQTT__BIND": ""}
    assert lines("[site]\nmeter = 5", variables) == [
        'EVEDGE__MQTT__BIND = "": is switched off, and so is tls_bind; allowed: an address in bind, tls_bind or url',
        "site.meter: is not a table",
    ]
    assert lines("", variables, start='mqtt = 5\nsite = 5\n[gateway]\nid = "a"\n') == [
        "mqtt: is not a table",
        "site: is not a table",
    ]


def test_the_librarys_debug_output_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    caplog.set_level(logging.DEBUG)
    parse(with_kafka(sasl_password="hunter2"))
    assert "hunter2" not in caplog.text
