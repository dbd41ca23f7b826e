"""Where values come from, which of two wins, and what is said when one cannot be had."""

# ruff: noqa: E501 -- lines stand as they are printed

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evedge.config import Address, Config, ConfigError, load
from evedge.config.sources import PREFIX, variables

Lines = Callable[..., list[str]]
Loaded = Callable[..., Config]
Write = Callable[[str], Path]

LOGIN = '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'


def password(config: Config) -> str | None:
    assert config.kafka is not None
    return config.kafka.sasl_password and config.kafka.sasl_password.get_secret_value()


# The file


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load(path, {})
    return str(error.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.toml") == f"{tmp_path}/no.toml: does not exist"


def test_a_directory_is_one_line(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: is a directory; name the file in it"


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "evedge.toml") == f"{tmp_path}/file/evedge.toml: cannot be read: Not a directory"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'[gateway]\nid = "a\n', "line 2, column 8: is not TOML: illegal character '\\n'"),
        (b"[gateway]\nid = hunter2\n", "line 2, column 6: is not TOML: invalid value"),
        (b'[gateway]\nid = "a"\nid = "b"\n', "line 3, column 9: is not TOML: cannot overwrite a value"),
        (b"[gateway]\nid = [", "end of document: is not TOML: invalid value"),
        (b'[gateway]\nid = "\xff"\n', "line 2: is not UTF-8"),
        (b"a = " + b"[" * 100_000, "is nested too deep"),
        (b"a = " + b"9" * 10_000, "is not TOML: a number has too many digits"),
    ],
)
def test_what_is_no_toml_is_one_line_with_its_place(raw: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "evedge.toml"
    path.write_bytes(raw)
    assert refusal(path) == f"{path}: {expected}"


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "evedge.toml"
    path.write_bytes('\ufeff[gateway]\r\nid = "a"\r\n'.encode())
    assert load(path, {}).gateway.id == "a"


def test_relative_paths_start_at_the_file(loaded: Loaded, tmp_path: Path) -> None:
    config = loaded('state_dir = "state"\n[[recharge_points]]\nid = "a"\nhost = "h"\nprofile = "my/profile.toml"')
    assert config.gateway.state_dir == tmp_path / "state"
    assert config.recharge_points[0].profile == str(tmp_path / "my/profile.toml")


def test_a_built_in_profile_stays_a_name(loaded: Loaded) -> None:
    config = loaded('[[recharge_points]]\nid = "a"\nhost = "h"\nprofile = "abb-terra-ac"')
    assert config.recharge_points[0].profile == "abb-terra-ac"


# The environment


def test_the_environment_wins_over_the_file(loaded: Loaded) -> None:
    config = loaded(
        '[mqtt]\nbind = "127.0.0.1:1"\nmax_clients = 5\n[kafka]\n[kafka.topics]\nalerts = "a"',
        {
            "EVEDGE__GATEWAY__ID": "other",
            "EVEDGE__MQTT__BIND": "[::1]:0",
            "EVEDGE__MQTT__MAX_CLIENTS": "7",
            "EVEDGE__MQTT__ALLOW_ANONYMOUS": "true",
            "EVEDGE__MQTT__CONNECT_TIMEOUT_S": "2.5",
            "EVEDGE__KAFKA__BOOTSTRAP_SERVERS": "a:9092, b:9092",
            "EVEDGE__KAFKA__TOPICS__ALERTS": "b.{gateway}",
            "EVEDGE__WEB__BIND": "",
            "EVEDGE__SITE__METER__HOST": "192.0.2.20",
            "EVEDGE__SITE__METER__PROFILE": "meter",
            "EVEDGE_TRACEBACK": "1",
            "HOME": "/root",
        },
    )
    assert config.gateway.id == "other"
    assert config.mqtt.bind == Address("::1", 0)
    assert (config.mqtt.max_clients, config.mqtt.allow_anonymous, config.mqtt.connect_timeout_s) == (7, True, 2.5)
    assert config.kafka is not None
    assert config.kafka.bootstrap_servers == ("a:9092", "b:9092")
    assert config.kafka.topics.alerts == "b.{gateway}"
    assert config.web.bind is None
    assert config.site.meter is not None
    assert config.site.meter.host == "192.0.2.20"


def test_a_list_can_be_given_as_json_too(loaded: Loaded) -> None:
    config = loaded("", {"EVEDGE__KAFKA__BOOTSTRAP_SERVERS": '["a:9092", "b:9092"]'})
    assert config.kafka is not None
    assert config.kafka.bootstrap_servers == ("a:9092", "b:9092")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "EVEDGE__MQT__BIND",
            "x",
            "EVEDGE__MQT__BIND: names no key of the configuration; did you mean EVEDGE__MQTT__BIND?",
        ),
        ("EVEDGE__ZZZZZZZ", "x", "EVEDGE__ZZZZZZZ: names no key of the configuration"),
        (
            "EVEDGE__KAFKA__SASL_PASWORD",
            "hunter2",
            "EVEDGE__KAFKA__SASL_PASWORD: names no key of the configuration; did you mean EVEDGE__KAFKA__SASL_PASSWORD?",
        ),
        (
            "EVEDGE__MQTT__MAX_CLIENTS",
            "many",
            'EVEDGE__MQTT__MAX_CLIENTS = "many": is not a whole number; allowed: a whole number from 1 to 100000',
        ),
        (
            "EVEDGE__MQTT__ALLOW_ANONYMOUS",
            "yes",
            'EVEDGE__MQTT__ALLOW_ANONYMOUS = "yes": is not true or false; allowed: true or false',
        ),
        (
            "EVEDGE__KAFKA__BOOTSTRAP_SERVERS",
            '["a:1"',
            'EVEDGE__KAFKA__BOOTSTRAP_SERVERS = "[\\"a:1\\"": is not a list; allowed: a list, of each: host:port',
        ),
        (
            "EVEDGE__KAFKA__BOOTSTRAP_SERVERS",
            "a:1,b",
            'EVEDGE__KAFKA__BOOTSTRAP_SERVERS[1] = "b": is not host:port; allowed: host:port',
        ),
        (
            "EVEDGE__MQTT",
            "{}",
            "EVEDGE__MQTT: names a table; allowed: one key of it, such as EVEDGE__MQTT__BIND",
        ),
        (
            "EVEDGE__RECHARGE_POINTS",
            "[]",
            "EVEDGE__RECHARGE_POINTS: names a list of tables, which only the file can give",
        ),
        (
            "EVEDGE__RECHARGE_POINTS__0__HOST",
            "x",
            "EVEDGE__RECHARGE_POINTS__0__HOST: names no key of the configuration; did you mean EVEDGE__RECHARGE_POINTS?",
        ),
        (
            "EVEDGE__MQTT__TLS_BIND",
            "127.0.0.1:1",
            'EVEDGE__MQTT__TLS_BIND = "127.0.0.1:1": needs tls_cert_file and tls_key_file',
        ),
    ],
)
def test_a_bad_variable_is_one_line_with_its_name(name: str, value: str, expected: str, lines: Lines) -> None:
    assert lines("", {name: value}) == [expected]


def test_every_key_outside_lists_has_a_variable() -> None:
    names = variables()
    assert names[f"{PREFIX}GATEWAY__ID"][0] == ("gateway", "id")
    assert names[f"{PREFIX}KAFKA__TOPICS__DEAD_LETTERS"][0] == ("kafka", "topics", "dead_letters")
    assert not any("USERS__" in name or "RECHARGE_POINTS__" in name for name in names)


# Secrets


def test_a_secret_stands_in_a_file_of_its_own(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    assert password(loaded(LOGIN + 'sasl_password_file = "secret"')) == "hunter2"


def test_only_one_line_break_is_taken_from_a_secret(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b" hunter2 \n\r\n")
    assert password(loaded(LOGIN + 'sasl_password_file = "secret"')) == " hunter2 \n"


def test_a_users_hash_stands_in_a_file_of_its_own(loaded: Loaded, lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "plc.hash").write_text("hunter2\n")
    text = '[[mqtt.users]]\nname = "a"\npassword_hash_file = "plc.hash"'
    assert [line.split(":")[0] for line in lines(text)] == ["mqtt.users[0].password_hash"]


def test_a_secret_is_found_among_the_credentials(loaded: Loaded, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "kafka.sasl_password").write_text("hunter2")
    (credentials / "unrelated").write_text("x")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert password(loaded(LOGIN, environ)) == "hunter2"
    assert password(loaded(LOGIN + 'sasl_password = "given"', environ)) == "given"
    assert loaded("", environ).kafka is None, "a credential alone switches nothing on"


def test_a_private_key_is_found_among_the_credentials(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    (tmp_path / "kafka.ssl_key_file").touch()
    config = loaded(
        '[kafka]\nsecurity_protocol = "SSL"\nssl_cert_file = "cert.pem"', {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    )
    assert config.kafka is not None
    assert config.kafka.ssl_key_file == tmp_path / "kafka.ssl_key_file"


def test_the_environment_wins_over_both_ways_of_the_file(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("from one")
    (tmp_path / "two").write_text("from two")
    with_file = LOGIN + 'sasl_password_file = "one"'
    assert password(loaded(with_file, {"EVEDGE__KAFKA__SASL_PASSWORD": "given"})) == "given"
    assert password(loaded(with_file, {"EVEDGE__KAFKA__SASL_PASSWORD_FILE": "two"})) == "from two"
    assert password(loaded(LOGIN + 'sasl_password = "x"', {"EVEDGE__KAFKA__SASL_PASSWORD_FILE": "two"})) == "from two"


def test_a_secret_given_twice_in_one_place_is_a_mistake(lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("hunter2")
    assert lines(LOGIN + 'sasl_password = "hunter2"\nsasl_password_file = "one"') == [
        "kafka.sasl_password_file: stands beside sasl_password; allowed: one of the two"
    ]
    assert lines(LOGIN, {"EVEDGE__KAFKA__SASL_PASSWORD": "x", "EVEDGE__KAFKA__SASL_PASSWORD_FILE": "one"}) == [
        "EVEDGE__KAFKA__SASL_PASSWORD_FILE: stands beside EVEDGE__KAFKA__SASL_PASSWORD; allowed: one of the two"
    ]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "names a file that is not UTF-8 text"),
        (b"x" * 65_537, "names a file of more than 65536 bytes"),
    ],
)
def test_a_secrets_file_that_cannot_be_read_is_one_line(
    content: bytes | None, what: str, lines: Lines, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "one").write_bytes(content)
    assert lines(LOGIN + 'sasl_password_file = "one"') == [f"kafka.sasl_password_file: {what}"]


def test_a_credential_that_cannot_be_read_is_one_line(lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "kafka.sasl_password").mkdir()
    assert lines(LOGIN, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [
        "$CREDENTIALS_DIRECTORY/kafka.sasl_password: cannot be read: Is a directory"
    ]


def test_an_empty_secret_is_a_mistake(lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("\n")
    assert lines(LOGIN + 'sasl_password_file = "one"') == ["kafka.sasl_password: is empty; allowed: text"]


def test_a_certificate_that_is_not_there_is_one_line(lines: Lines, tmp_path: Path) -> None:
    assert lines('[kafka]\nsecurity_protocol = "SSL"\nssl_ca_file = "ca.pem"') == [
        f'kafka.ssl_ca_file = "{tmp_path}/ca.pem": cannot be read: No such file or directory'
    ]
