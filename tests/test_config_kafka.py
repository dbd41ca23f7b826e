"""The configuration's [kafka] as what the clients are built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from evedge.config import Config, ConfigError, parse
from evedge.config.mistakes import Data
from evedge.config_kafka import kafka_settings, kafka_topics

LOGIN: dict[str, Data] = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "u",
    "sasl_password": "hunter2",
    "compression": "lz4",
}


def config(kafka: dict[str, Data] | None, **sections: Data) -> Config:
    return parse({"gateway": {"id": "site-042"}, **({"kafka": kafka} if kafka is not None else {}), **sections})


def test_without_kafka_there_is_nothing_to_reach() -> None:
    assert kafka_settings(config(None)) is None
    assert kafka_topics(config(None)) == ()


def test_the_clients_get_what_is_configured() -> None:
    settings = kafka_settings(config({**LOGIN, "bootstrap_servers": ["a:9092", "b:9092"]}))
    assert settings is not None
    arguments = settings.client_arguments()
    assert arguments["bootstrap_servers"] == ["a:9092", "b:9092"]
    assert arguments["client_id"] == "evedge-site-042"
    assert (arguments["security_protocol"], arguments["sasl_mechanism"]) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("u", "hunter2")
    assert settings.compression == "lz4"


def test_a_damaged_certificate_is_a_mistake_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    given = config({"security_protocol": "SSL", "ssl_ca_file": str(tmp_path / "ca.pem")})
    with pytest.raises(ConfigError) as error:
        kafka_settings(given)
    (line,) = str(error.value).splitlines()
    assert line.startswith("kafka.ssl_ca_file: ")
    assert "cannot be used" in line


def test_own_topics_come_first_and_a_routes_topic_once() -> None:
    routes: list[Data] = [{"mqtt_topic": name, "kafka_topic": "factory.energy"} for name in ("a", "b")]
    given = config({"topics": {"commands": "evedge.commands.{gateway}"}}, routes=routes)
    names = [spec.name for spec in kafka_topics(given)]
    assert len(names) == 9
    assert names[-1] == "factory.energy"
    assert "evedge.commands.site-042" in names
