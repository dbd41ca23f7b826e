"""Logging in to a real Kafka in every way it offers, what each failure says, and the least rights that do."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from evedge.core.delivery import ConsumedRecord, SendOutage, TopicUnavailable
from evedge.core.errors import EvedgeError, Outage, Refused
from evedge.core.kafka_topics import CleanupPolicy, TopicSpec
from evedge.links.kafka_admin import KafkaAdmin
from evedge.links.kafka_consumer import KafkaConsumer
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.kafka_settings import KafkaSettings, SaslMechanism, SecurityProtocol
from evedge.links.kafka_token import Token, TokenError
from kafka_certificates import Authority
from kafka_server import RealKafka
from links.kafka_tools import create_topic, read_all, record, values

pytestmark = [
    pytest.mark.kafka,
    # A connection that the server ends in the middle of a TLS handshake stays open in aiokafka until it is collected.
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

_T = TypeVar("_T")
PASSWORD = "Correct-Horse,Battery=Staple"
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
WRITE, READ, DESCRIBE, CREATE = AclOperation.WRITE, AclOperation.READ, AclOperation.DESCRIBE, AclOperation.CREATE


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a refused handshake left behind goes within its own test, not in somebody else's."""
    yield
    gc.collect()


def cloud(kafka: RealKafka, **more: object) -> KafkaSettings:
    """As a managed Kafka is reached."""
    given = {"security_protocol": SecurityProtocol.SASL_SSL, "ssl_ca_file": str(kafka.authority.certificate), **more}
    return KafkaSettings((kafka.cloud_bootstrap,), **given)  # type: ignore[arg-type]


def user(kafka: RealKafka, name: str, mechanism: SaslMechanism = SaslMechanism.SCRAM_SHA_512) -> KafkaSettings:
    """A new user who may nothing yet."""
    kafka.add_user(name, PASSWORD, str(mechanism))
    return cloud(kafka, sasl_mechanism=mechanism, sasl_username=name, sasl_password=PASSWORD)


def token(subject: str, for_s: float) -> str:
    """An unsigned JSON Web Token that is over in `for_s` seconds."""
    now = time.time()
    parts = ({"alg": "none"}, {"sub": subject, "iat": now - 600, "exp": now + for_s})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


async def sent(login: KafkaSettings, topic: str) -> int:
    async with KafkaProducer(login) as producer:
        return len((await producer.send(topic, [record(1)])).confirmed)


async def failure(login: KafkaSettings) -> str:
    """What producer, consumer and administration say, which must be the same."""
    found = []
    for attempt in (_produce, _consume, _administer):
        with pytest.raises(EvedgeError) as error:
            await attempt(login)
        found.append(str(error.value))
    assert len(set(found)) == 1, found
    (line,) = found[0].splitlines()
    assert "Error" not in line
    assert PASSWORD not in line
    assert line.startswith(f"Kafka at {login.address} cannot be reached: ")
    return line.partition(" cannot be reached: ")[2]


async def _produce(login: KafkaSettings) -> None:
    async with KafkaProducer(login) as producer:
        await producer.connect()


async def _consume(login: KafkaSettings) -> None:
    async with KafkaConsumer(login, "any", group="any", instance="any") as consumer:
        await consumer.read(0.1)


async def _administer(login: KafkaSettings) -> None:
    async with KafkaAdmin(login):
        raise AssertionError("it was let in")


# What works


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_password_logs_in(real_kafka: RealKafka, unique_name: str, protocol: str, mechanism: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    if mechanism == "PLAIN":
        name, password = "gateway", "secret"
    else:
        name, password = unique_name, PASSWORD
        real_kafka.add_user(name, password, mechanism)
        real_kafka.allow(f"User:{name}", (TOPIC, unique_name, WRITE))
    over_tls = protocol == "SASL_SSL"
    login = KafkaSettings(
        (real_kafka.cloud_bootstrap if over_tls else real_kafka.sasl_bootstrap,),
        security_protocol=SecurityProtocol(protocol),
        sasl_mechanism=SaslMechanism(mechanism),
        sasl_username=name,
        sasl_password=password,
        ssl_ca_file=str(real_kafka.authority.certificate) if over_tls else None,
    )
    assert await eventually(lambda: sent(login, unique_name)) == 1
    assert values(read_all(real_kafka.bootstrap, unique_name, 1)) == [b"value 1"]


async def test_a_certificate_logs_in_and_its_name_has_the_rights(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    identity = real_kafka.authority.sign("site-042")
    real_kafka.allow("User:CN=site-042", (TOPIC, unique_name, WRITE))
    login = KafkaSettings(
        (real_kafka.certificate_bootstrap,),
        security_protocol=SecurityProtocol.SSL,
        ssl_ca_file=str(real_kafka.authority.certificate),
        ssl_cert_file=str(identity.certificate),
        ssl_key_file=str(identity.key),
    )
    assert await eventually(lambda: sent(login, unique_name)) == 1


async def test_a_renewed_token_is_read_from_its_file_at_the_next_login(
    real_kafka: RealKafka, unique_name: str, tmp_path: Path
) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    real_kafka.allow(f"User:{unique_name}", (TOPIC, unique_name, WRITE))
    file = tmp_path / "token"
    file.write_text(token(unique_name, -60))
    login = cloud(
        real_kafka,
        sasl_mechanism=SaslMechanism.OAUTHBEARER,
        sasl_password=file.read_text(),
        sasl_password_file=str(file),
    )
    async with KafkaProducer(login) as producer:
        with pytest.raises(SendOutage, match=r"the token in .* expired at 20") as error:
            await producer.send(unique_name, [record(1)])
        assert str(file) in str(error.value)
        assert file.read_text() not in str(error.value)
        renewed = tmp_path / "renewed"
        renewed.write_text(token(unique_name, 3600) + "\n")
        renewed.replace(file)
        result = await producer.send(unique_name, [record(1)])
    assert list(result.confirmed) == [record(1)]


async def test_a_login_that_runs_out_is_renewed_under_way(
    real_kafka: RealKafka, unique_name: str, tmp_path: Path
) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    real_kafka.allow(f"User:{unique_name}", (TOPIC, unique_name, WRITE), (TOPIC, unique_name, READ))
    real_kafka.allow(f"User:{unique_name}", (GROUP, unique_name, READ))
    file, lives_s = tmp_path / "token", 3.0
    file.write_text(token(unique_name, lives_s))
    over = asyncio.get_running_loop().time() + lives_s
    login = cloud(real_kafka, sasl_mechanism=SaslMechanism.OAUTHBEARER, sasl_password="-", sasl_password_file=str(file))
    numbers: list[bytes | None] = []
    async with (
        KafkaProducer(login) as producer,
        KafkaConsumer(login, unique_name, group=unique_name, instance="one") as consumer,
    ):
        await eventually(lambda: producer.send(unique_name, [record(0)]))
        numbers += [each.value for each in await eventually(lambda: consumer.read(1.0))]
        file.write_text(token(unique_name, 3600))
        await asyncio.sleep(over - asyncio.get_running_loop().time() + 0.5)  # Kafka's clock decides, not ours
        await producer.send(unique_name, [record(1)])
        async with asyncio.timeout(20):
            while len(numbers) < 2:
                numbers += [each.value for each in await consumer.read(1.0)]
        assert producer.last_error is None
    assert numbers == [b"value 0", b"value 1"]


# What does not, and what it says


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password(real_kafka: RealKafka, unique_name: str, mechanism: str) -> None:
    real_kafka.add_user(unique_name, "another", mechanism)
    name = "gateway" if mechanism == "PLAIN" else unique_name
    login = cloud(real_kafka, sasl_mechanism=SaslMechanism(mechanism), sasl_username=name, sasl_password=PASSWORD)
    said = await failure(login)
    assert said.startswith("the login is refused: user name, password or token is wrong (Authentication failed")


async def test_a_refused_login_is_not_tried_again_at_once(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    login = cloud(real_kafka, sasl_username="gateway", sasl_password="wrong")
    before = real_kafka.logins_refused()
    async with KafkaProducer(login) as producer:
        for _ in range(20):
            with pytest.raises(SendOutage, match="the login is refused"):
                await producer.send(unique_name, [record(1)])
    assert real_kafka.logins_refused() == before + 1


async def test_a_token_that_kafka_does_not_take(real_kafka: RealKafka) -> None:
    login = cloud(real_kafka, sasl_mechanism=SaslMechanism.OAUTHBEARER, sasl_password="not.one.")
    assert await failure(login) == (
        'the login is refused: user name, password or token is wrong ({"status":"invalid_token"})'
    )


async def test_a_server_that_nobody_trusted_signed(real_kafka: RealKafka, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    login = cloud(real_kafka, ssl_ca_file=str(other.certificate), sasl_username="u", sasl_password=PASSWORD)
    said = await failure(login)
    assert said.startswith("its certificate is not accepted: ")
    assert said.endswith(" (kafka.ssl_ca_file names whom to trust)")


@pytest.mark.parametrize("which", ["none", "a stranger's", "an old one"])
async def test_a_client_certificate_that_kafka_does_not_take(real_kafka: RealKafka, tmp_path: Path, which: str) -> None:
    authority = Authority(tmp_path / "other") if which == "a stranger's" else real_kafka.authority
    identity = authority.sign("old", days=-1) if which == "an old one" else authority.sign("new")
    given = {} if which == "none" else {"ssl_cert_file": str(identity.certificate), "ssl_key_file": str(identity.key)}
    login = KafkaSettings(
        (real_kafka.certificate_bootstrap,),
        security_protocol=SecurityProtocol.SSL,
        ssl_ca_file=str(real_kafka.authority.certificate),
        **given,
    )
    assert "(kafka.ssl_cert_file)" in await failure(login)


async def test_a_certificate_file_that_is_gone_is_an_outage_until_it_is_there_again(
    real_kafka: RealKafka, unique_name: str, tmp_path: Path
) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    file = tmp_path / "ca.pem"
    login = cloud(real_kafka, ssl_ca_file=str(file), sasl_username="gateway", sasl_password="secret")
    async with (
        KafkaProducer(login) as producer,
        KafkaConsumer(login, unique_name, group=unique_name, instance="one") as consumer,
    ):
        with pytest.raises(SendOutage, match=f"kafka.ssl_ca_file {file} cannot be used"):
            await producer.send(unique_name, [record(1)])
        with pytest.raises(Outage, match=f"kafka.ssl_ca_file {file} cannot be used"):
            await consumer.read(0.1)
        file.write_bytes(real_kafka.authority.certificate.read_bytes())
        assert list((await producer.send(unique_name, [record(1)])).confirmed) == [record(1)]
        assert len(await consumer.read(0.1)) == 1


async def test_a_host_that_nobody_knows() -> None:
    assert (await failure(KafkaSettings(("kafka.invalid:9092",)))).startswith("the host name is not known (")


@pytest.mark.parametrize(
    ("spoken", "listener"),
    [
        ("PLAINTEXT", "cloud_bootstrap"),
        ("PLAINTEXT", "sasl_bootstrap"),
        ("SASL_PLAINTEXT", "cloud_bootstrap"),
        ("SASL_PLAINTEXT", "bootstrap"),
        ("SSL", "bootstrap"),
        ("SASL_SSL", "bootstrap"),
    ],
)
async def test_a_protocol_that_is_not_the_ports(real_kafka: RealKafka, spoken: str, listener: str) -> None:
    protocol = SecurityProtocol(spoken)
    login = KafkaSettings(
        (getattr(real_kafka, listener),),
        security_protocol=protocol,
        sasl_username="u" if protocol.logs_in else None,
        sasl_password=PASSWORD if protocol.logs_in else None,
    )
    assert "kafka.security_protocol" in await failure(login)


# Rights


async def eventually(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Rights take a moment until every part of Kafka knows of them."""
    until = time.monotonic() + 10
    while True:
        try:
            return await attempt()
        except Outage:
            if time.monotonic() > until:
                raise


async def test_a_producer_needs_write_on_its_topics_and_nothing_else(real_kafka: RealKafka, unique_name: str) -> None:
    mine, other = unique_name, f"{unique_name}-other"
    for topic in (mine, other):
        create_topic(real_kafka.bootstrap, topic)
    login, principal = user(real_kafka, unique_name), f"User:{unique_name}"
    with pytest.raises(SendOutage, match=r"may not write to any topic \(right Write on the topics; "):
        await sent(login, mine)
    real_kafka.allow(principal, (TOPIC, mine, WRITE))
    assert await eventually(lambda: sent(login, mine)) == 1
    with pytest.raises(TopicUnavailable, match=rf"{other}: this user may not use it \(right Write"):
        await sent(login, other)


async def test_a_consumer_needs_read_on_the_topic_and_on_the_group(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    assert await sent(KafkaSettings((real_kafka.bootstrap,)), unique_name) == 1
    login, principal = user(real_kafka, unique_name), f"User:{unique_name}"

    async def taken() -> Sequence[ConsumedRecord]:
        async with KafkaConsumer(login, unique_name, group=unique_name, instance="one") as consumer:
            found = await consumer.read(0.1)
            await consumer.commit(found)
            return found

    async def says(words: str) -> None:
        with pytest.raises(Outage, match=words):
            await taken()

    await says(r"it does not exist .* or is hidden from this user \(right Read\)$")
    real_kafka.allow(principal, (GROUP, unique_name, READ), (TOPIC, unique_name, DESCRIBE))
    await eventually(lambda: says(r"this user may not use it \(.* for the commands' topic Read\)$"))
    real_kafka.allow(principal, (TOPIC, unique_name, READ))
    assert [each.value for each in await eventually(taken)] == [b"value 1"]


async def test_a_consumer_without_its_group_says_so(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    login = user(real_kafka, unique_name)
    real_kafka.allow(f"User:{unique_name}", (TOPIC, unique_name, READ))

    async def says() -> None:
        with pytest.raises(Outage, match=r"may not use the consumer group \(right Read on the group\)$"):
            async with KafkaConsumer(login, unique_name, group=unique_name, instance="one") as consumer:
                await consumer.read(0.1)

    await eventually(says)


async def test_topics_are_made_with_create_on_their_names(real_kafka: RealKafka, unique_name: str) -> None:
    login = user(real_kafka, unique_name)
    spec = TopicSpec(f"{unique_name}.new", "", CleanupPolicy.COMPACT, None, 2)

    async def made() -> list[str]:
        async with KafkaAdmin(login) as admin:
            return await admin.create([spec])

    with pytest.raises(Refused, match=r"did not make the topic .*\.new: this user may not \(right Create\)$"):
        await made()
    real_kafka.allow(f"User:{unique_name}", (TOPIC, f"{unique_name}.", CREATE), pattern="PREFIXED")
    until = time.monotonic() + 10
    while True:
        try:
            assert await made() == [spec.name]
            break
        except Refused:
            assert time.monotonic() < until


# The token


@pytest.mark.parametrize(
    ("holds", "said"),
    [(None, "No such file or directory"), (b"", "is empty"), ("ü".encode(), "holds no token")],
)
async def test_a_file_without_a_token_is_named(tmp_path: Path, holds: bytes | None, said: str) -> None:
    file = tmp_path / "token"
    if holds is not None:
        file.write_bytes(holds)
    with pytest.raises(TokenError, match=said) as error:
        await Token("", str(file)).token()
    assert str(file) in str(error.value)


async def test_a_token_of_another_kind_is_kafkas_to_judge() -> None:
    for text in ("opaque", "a.b.c", "a.e30.c", "a.bnVsbA.c"):
        assert await Token(text, None).token() == text
