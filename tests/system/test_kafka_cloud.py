"""A managed Kafka that will not have the gateway: told once, tried gently, nothing lost, and well again by itself.

One gateway per trouble, all at the same time on one Kafka with TLS, logins and an authorizer.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from evedge.core.delivery import ConsumedRecord
from evedge.links.kafka_settings import KafkaSettings
from kafka_server import RealKafka
from system.harness import DEADLINE_S, STREAMS, GatewayProcess, configuration, decoded, end, free_port

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

WATCHED_S = 20.0
PASSWORD = "Correct-Horse,Battery=Staple"
SECRETS = (PASSWORD, "Tr0ub4dor")
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
WRITE, READ = AclOperation.WRITE, AclOperation.READ


class Site(GatewayProcess):
    """A gateway whose Kafka is read back, and furnished with topics, by somebody who may do everything."""

    port: int
    superuser: KafkaSettings

    @property
    def kafka(self) -> KafkaSettings:
        return self.superuser


@dataclass(frozen=True)
class Trouble:
    """What is wrong in [kafka] at first, what its alerts must say by their kind, and how it is mended."""

    keys: dict[str, str]
    says: dict[str, str]
    mend: Callable[[Site], None]


@asynccontextmanager
async def site(kafka: RealKafka, folder: Path, name: str, trouble: Trouble) -> AsyncIterator[Site]:
    """A running gateway in trouble."""
    folder.mkdir()
    port = free_port()
    text = with_kafka(configuration(folder, name, kafka="replaced", mqtt_port=port), trouble.keys)
    process = Site(folder, text)
    process.port = port
    process.superuser = KafkaSettings((kafka.bootstrap,))
    try:
        await process.create_topics()
        yield await process.start()
        assert await process.stop() == 0, process.said()
        process.check_log()
    finally:
        await end(process)


def with_kafka(text: str, keys: dict[str, str]) -> str:
    """The configuration with other keys in [kafka]."""
    before, _, rest = text.partition("[kafka]\n")
    _, _, after = rest.partition("[kafka.topics]")
    return (
        before + "[kafka]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) + "[kafka.topics]" + after
    )


def login(kafka: RealKafka, user: str) -> dict[str, str]:
    return {
        "bootstrap_servers": json.dumps([kafka.cloud_bootstrap]),
        "security_protocol": '"SASL_SSL"',
        "sasl_mechanism": '"SCRAM-SHA-512"',
        "sasl_username": json.dumps(user),
        "sasl_password": json.dumps(PASSWORD),
        "ssl_ca_file": json.dumps(str(kafka.authority.certificate)),
    }


def user(kafka: RealKafka, name: str, password: str = PASSWORD) -> str:
    kafka.add_user(name, password)
    return name


def allow(kafka: RealKafka, principal: str, name: str) -> None:
    """The least rights, as docs/KAFKA.md lists them."""
    written = [f"{name}.{stream}" for stream in STREAMS if stream != "commands"] + [f"{name}.factory"]
    kafka.allow(principal, *((TOPIC, topic, WRITE) for topic in written))
    kafka.allow(principal, (TOPIC, f"{name}.commands", READ), (GROUP, f"evedge-{name}", READ))


def token(subject: str, for_s: float) -> str:
    now = time.time()
    parts = ({"alg": "none"}, {"sub": subject, "iat": now - 600, "exp": now + for_s})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def reconfigured(keys: dict[str, str]) -> Callable[[Site], None]:
    def mend(run: Site) -> None:
        run.reconfigure(with_kafka(run.text, keys))
        run.signal(signal.SIGHUP)

    return mend


def troubles(kafka: RealKafka, folder: Path, names: dict[str, str]) -> dict[str, Trouble]:
    """`names`: the gateway of each, who is also the user where there is one."""
    both = ("kafka_lost", "commands_unavailable")
    good = {trouble: login(kafka, name) for trouble, name in names.items()}
    identity = kafka.authority.sign("fleet")
    certificate = {
        "bootstrap_servers": json.dumps([kafka.certificate_bootstrap]),
        "security_protocol": '"SSL"',
        "ssl_ca_file": json.dumps(str(kafka.authority.certificate)),
    }
    with_certificate = {
        **certificate,
        "ssl_cert_file": json.dumps(str(identity.certificate)),
        "ssl_key_file": json.dumps(str(identity.key)),
    }
    file = folder / "token"
    file.write_text(token(names["old token"], -60))
    with_token = {
        **{key: value for key, value in good["old token"].items() if key not in {"sasl_username", "sasl_password"}},
        "sasl_mechanism": '"OAUTHBEARER"',
        "sasl_password_file": json.dumps(str(file)),
    }
    user(kafka, names["wrong password"], SECRETS[1])
    for other in ("unknown authority", "unknown host", "no rights", "missing rights"):
        user(kafka, names[other])
    partly = names["missing rights"]
    kafka.allow(f"User:{partly}", (TOPIC, f"{partly}.telemetry", WRITE), (TOPIC, f"{partly}.commands", READ))
    for trouble, name in names.items():
        if trouble not in {"no rights", "missing rights", "no certificate"}:
            allow(kafka, f"User:{name}", name)
    allow(kafka, "User:CN=fleet", names["no certificate"])
    unknown_authority = {key: value for key, value in good["unknown authority"].items() if key != "ssl_ca_file"}
    unknown_host = {**good["unknown host"], "bootstrap_servers": '["broker.invalid:9092"]'}
    return {
        "wrong password": Trouble(
            good["wrong password"],
            dict.fromkeys(both, "the login is refused: user name, password or token is wrong"),
            lambda run: kafka.add_user(names["wrong password"], PASSWORD),
        ),
        "unknown authority": Trouble(
            unknown_authority,
            dict.fromkeys(both, "its certificate is not accepted: "),
            reconfigured(good["unknown authority"]),
        ),
        "no certificate": Trouble(
            certificate, dict.fromkeys(both, "(kafka.ssl_cert_file)"), reconfigured(with_certificate)
        ),
        "old token": Trouble(
            with_token,
            dict.fromkeys(both, "expired at 20"),
            lambda run: _replace(file, token(names["old token"], 3600)),
        ),
        "unknown host": Trouble(
            unknown_host, dict.fromkeys(both, "the host name is not known"), reconfigured(good["unknown host"])
        ),
        "no rights": Trouble(
            good["no rights"],
            {"kafka_lost": "may not write to any topic (right Write", "commands_unavailable": "(right Read)"},
            lambda run: allow(kafka, f"User:{names['no rights']}", names["no rights"]),
        ),
        "missing rights": Trouble(
            good["missing rights"],
            {
                f"topic_unavailable:{partly}.factory": "this user may not use it (right Write",
                f"topic_unavailable:{partly}.gateway_status": "this user may not use it (right Write",
                "commands_unavailable": "this user may not use the consumer group (right Read on the group)",
            },
            lambda run: allow(kafka, f"User:{partly}", partly),
        ),
    }


def _replace(file: Path, text: str) -> None:
    """In one step, as whoever renews a token should."""
    fresh = file.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(file)


TROUBLES = (
    "wrong password",
    "unknown authority",
    "no certificate",
    "old token",
    "unknown host",
    "no rights",
    "missing rights",
)


async def test_what_kafka_refuses_is_told_once_and_nothing_is_lost(
    real_kafka: RealKafka, tmp_path: Path, unique_name: str
) -> None:
    names = {trouble: f"{unique_name[-8:]}-{trouble.replace(' ', '-')}" for trouble in TROUBLES}
    found = troubles(real_kafka, tmp_path, names)
    async with AsyncExitStack() as stack:
        runs = {
            trouble: await stack.enter_async_context(
                site(real_kafka, tmp_path / names[trouble], names[trouble], found[trouble])
            )
            for trouble in TROUBLES
        }
        await asyncio.gather(*(_kept(run) for run in runs.values()))
        for trouble, run in runs.items():
            for kind, words in found[trouble].says.items():
                assert words in (await run.logged("alert_raised", kind=kind))["message"], trouble
        before = {trouble: len(run.events()) for trouble, run in runs.items()}
        await asyncio.sleep(WATCHED_S)  # the subject: what is said while nothing changes
        said = {trouble: run.events()[before[trouble] :] for trouble, run in runs.items()}
        assert {trouble: len(lines) for trouble, lines in said.items() if len(lines) > 3} == {}, said
        for trouble, run in runs.items():
            found[trouble].mend(run)
        for trouble, run in runs.items():
            await _well(run, found[trouble])


async def _kept(run: Site) -> None:
    """A message whose acknowledgement says that it is on disk."""
    async with aiomqtt.Client("127.0.0.1", run.port, timeout=DEADLINE_S) as client:
        await client.publish("factory/press/1", b"kept", qos=1)


async def _well(run: Site, trouble: Trouble) -> None:
    (arrived,) = await run.records("factory", until=bool)
    assert arrived.value == b"kept"
    await run.logged("command_topic_found")
    # A reload is a new run, which begins without alerts: none is left that could be cleared.
    cleared = frozenset() if run.events("reload_accepted") else trouble.says.keys()
    told = decoded(
        await run.records(
            "alerts",
            until=lambda records: (
                trouble.says.keys() <= _kinds(records, "raised") and cleared <= _kinds(records, "cleared")
            ),
        )
    )
    raised = Counter(alert["kind"] for alert in told if alert["state"] == "raised")
    assert {kind: raised[kind] for kind in trouble.says} == dict.fromkeys(trouble.says, 1), told
    for secret in (*SECRETS, token("", 0)[:20]):
        assert secret not in run.said()


def _kinds(records: Sequence[ConsumedRecord], state: str) -> set[str]:
    return {alert["kind"] for alert in decoded(records) if alert["state"] == state}
