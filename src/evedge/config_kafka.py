"""What the configuration says about Kafka, as the values that its clients and its administration work with."""

from __future__ import annotations

import re

from evedge.config import Config, ConfigError, Kafka, Mistake
from evedge.core.errors import UsageError
from evedge.core.kafka_topics import TopicSpec, needed_topics
from evedge.links.kafka_settings import Compression, KafkaSettings, SaslMechanism, SecurityProtocol


def kafka_settings(config: Config) -> KafkaSettings | None:
    """How to reach Kafka; None without [kafka]. Raises ConfigError where that cannot work."""
    kafka = config.kafka
    if kafka is None:
        return None
    try:
        settings = _settings(kafka, f"evedge-{config.gateway.id}")
        settings.client_arguments()  # reads the certificates
    except UsageError as error:
        raise ConfigError([_mistake(line) for line in str(error).splitlines()]) from None
    return settings


def kafka_topics(config: Config) -> tuple[TopicSpec, ...]:
    """Every Kafka topic the configuration needs, the gateway's own ones first; none without [kafka]."""
    if config.kafka is None:
        return ()
    own = config.kafka.topics.resolved(config.gateway.id)
    return needed_topics(own, [entry.kafka_topic for entry in config.routes])


def _settings(kafka: Kafka, client_id: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=client_id,
        security_protocol=SecurityProtocol(kafka.security_protocol),
        sasl_mechanism=SaslMechanism(kafka.sasl_mechanism or "PLAIN"),
        sasl_username=kafka.sasl_username,
        sasl_password=kafka.sasl_password.get_secret_value() if kafka.sasl_password is not None else None,
        sasl_password_file=str(kafka.sasl_password_file) if kafka.sasl_password_file is not None else None,
        sasl_token_url=kafka.sasl_token_url,
        sasl_token_scope=kafka.sasl_token_scope,
        sasl_extensions=kafka.sasl_extensions,
        ssl_ca_file=str(kafka.ssl_ca_file) if kafka.ssl_ca_file is not None else None,
        ssl_cert_file=str(kafka.ssl_cert_file) if kafka.ssl_cert_file is not None else None,
        ssl_key_file=str(kafka.ssl_key_file) if kafka.ssl_key_file is not None else None,
        compression=Compression(kafka.compression),
    )


def _mistake(line: str) -> Mistake:
    """The link's own words begin with the key: `kafka.ssl_ca_file /etc/ca.pem cannot be used: …`."""
    match = re.match(r"kafka\.([a-z_]+) (.*)", line)
    return Mistake(("kafka", match[1]), match[2]) if match else Mistake(("kafka",), line)
