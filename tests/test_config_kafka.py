"""The configuration's [kafka] as what the clients are built from."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest

from evedge.config import Config, ConfigError, load, parse
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


def test_the_example_for_confluent_cloud_needs_nothing_but_its_blanks_filled_in(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "confluent-cloud" / "evedge.toml"
    file = Path(shutil.copy(example, tmp_path))
    (tmp_path / "api-secret").write_text("hunter2\n")
    given = load(file, {})
    settings = kafka_settings(given)
    assert settings is not None
    arguments = settings.client_arguments()
    assert (arguments["security_protocol"], arguments["sasl_mechanism"]) == ("SASL_SSL", "PLAIN")
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("ABCDEFGHIJKLMNOP", "hunter2")
    context = arguments["ssl_context"]
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    # As the rights in docs/KAFKA.md: one prefix to write to, and a topic that only the cloud side writes to.
    names = {spec.name for spec in kafka_topics(given)}
    assert {name for name in names if not name.startswith("evedge.")} == {"evedge-commands.site-042"}


def test_a_token_is_read_from_its_file_and_no_user_is_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    login = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
    settings = kafka_settings(config({**login, "sasl_password_file": str(tmp_path / "token")}))
    assert settings is not None
    assert settings.sasl_password_file == str(tmp_path / "token")
    assert settings.client_arguments()["sasl_oauth_token_provider"] is not None
