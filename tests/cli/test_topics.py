"""`evedge topics` as a program, on a real Kafka."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, ResourceType

from cli.kafka_cli import configuration, evedge
from kafka_server import RealKafka
from links.kafka_tools import create_topic

pytestmark = pytest.mark.kafka


def test_topics_are_listed_created_and_then_there(real_kafka: RealKafka, tmp_path: Path, unique_name: str) -> None:
    path = str(configuration(tmp_path, real_kafka.bootstrap, unique_name))

    listed = evedge("topics", "--config", path)
    assert listed.returncode == 0
    assert listed.stdout.count(" missing\n") == 9
    assert listed.stderr == "9 of 9 topics are missing: --create makes them\n"

    created = evedge("topics", "--config", path, "--create")
    assert (created.returncode, created.stderr) == (0, "")
    assert created.stdout.count(" created\n") == 9

    again = evedge("topics", "--config", path, "--create", "--json")
    report = {each["name"]: each for each in json.loads(again.stdout)}
    assert all(each["exists"] and not each["created"] for each in report.values())
    assert f"{unique_name}.commands.site-042" in report
    assert report[f"{unique_name}.status"]["cleanup_policy"] == "compact"
    assert policies(real_kafka, report) == {
        name: (each["cleanup_policy"], None if each["retention_ms"] is None else str(each["retention_ms"]))
        for name, each in report.items()
    }


def policies(kafka: RealKafka, names: dict[str, object]) -> dict[str, tuple[str, str | None]]:
    """What Kafka itself says: the policy, and how long it keeps records where that was set."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    found = {}
    for resource, future in admin.describe_configs(
        [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    ).items():
        configs = future.result(10)
        retention = configs["retention.ms"]
        found[resource.name] = (configs["cleanup.policy"].value, None if retention.is_default else retention.value)
    return found


def test_a_topic_that_differs_is_told_and_left_as_it_is(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    path = str(configuration(tmp_path, real_kafka.bootstrap, unique_name))
    odd = f"{unique_name}.status"
    create_topic(real_kafka.bootstrap, odd, partitions=1)
    create_topic(real_kafka.bootstrap, f"{unique_name}.factory", partitions=6, retention_ms="3600000")

    done = evedge("topics", "--config", path, "--create")
    assert done.returncode == 0
    assert done.stdout.count(" created\n") == 7
    assert " yes, with partitions 1 instead of 3, cleanup.policy delete instead of compact\n" in done.stdout
    assert " yes, with retention 3600000 ms instead of 7 days\n" in done.stdout
    assert done.stderr == "2 of 9 topics differ from what --create makes; they are left as they are\n"

    again = json.loads(evedge("topics", "--config", path, "--create", "--json").stdout)
    (status,) = (each for each in again if each["name"] == odd)
    assert status["differs"] == [
        {"setting": "partitions", "found": "1", "wanted": "3"},
        {"setting": "cleanup.policy", "found": "delete", "wanted": "compact"},
    ]
    assert all(each["differs"] == [] for each in again if each["name"] not in {odd, f"{unique_name}.factory"})
    assert policies(real_kafka, {odd: None}) == {odd: ("delete", None)}


def test_without_the_right_to_see_settings_topics_are_listed_all_the_same(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    path = configuration(tmp_path, real_kafka.bootstrap, unique_name)
    assert evedge("topics", "--config", str(path), "--create").returncode == 0
    real_kafka.add_user(unique_name, "secret")
    real_kafka.allow(
        f"User:{unique_name}", (ResourceType.TOPIC, f"{unique_name}.", AclOperation.DESCRIBE), pattern="PREFIXED"
    )
    login = (
        f'bootstrap_servers = ["{real_kafka.sasl_bootstrap}"]\nsecurity_protocol = "SASL_PLAINTEXT"\n'
        f'sasl_mechanism = "SCRAM-SHA-512"\nsasl_username = "{unique_name}"\nsasl_password = "secret"'
    )
    path.write_text(path.read_text().replace(f'bootstrap_servers = ["{real_kafka.bootstrap}"]', login))
    done = evedge("topics", "--config", str(path))
    assert (done.returncode, done.stdout.count(" yes\n")) == (0, 9)
    assert done.stderr == "the settings of 9 topics cannot be seen by this user (right DescribeConfigs)\n"


def test_one_topic_that_kafka_refuses_does_not_hold_up_the_others(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    create_topic(real_kafka.bootstrap, f"{unique_name}_factory")  # Kafka takes . and _ for the same, in metrics
    path = str(configuration(tmp_path, real_kafka.bootstrap, unique_name))
    done = evedge("topics", "--config", path, "--create")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"evedge: Kafka did not make the topic {unique_name}.factory: ")
    assert "collides" in line
    assert evedge("topics", "--config", path).stdout.count(" yes\n") == 8


def test_without_kafka_there_is_one_clear_line(tmp_path: Path, unique_name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    done = evedge("topics", "--config", str(configuration(tmp_path, address, unique_name)))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"evedge: Kafka at {address} cannot be reached: ")


def test_without_a_kafka_section_nothing_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "evedge.toml"
    path.write_text('[gateway]\nid = "site-042"\n[mqtt]\nbind = "127.0.0.1:0"\n')
    done = evedge("topics", "--config", str(path))
    assert done.returncode == 2
    assert done.stderr == f"evedge: {path} has no [kafka]: there are no topics to list\n"
