"""Tokens from an identity provider: asked for once, renewed in time, and each failure in one line without a secret."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from confluent_kafka.admin import AclOperation, ResourceType

from evedge.core.delivery import SendOutage
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.kafka_settings import KafkaSettings, SaslMechanism, SecurityProtocol
from evedge.links.kafka_token import TokenError
from evedge.links.kafka_token_endpoint import TokenEndpoint
from kafka_server import RealKafka
from links.kafka_tools import create_topic, record

SECRET = "hunter2 & ümlaut"


def json_web_token(subject: str, for_s: float = 3600) -> str:
    now = time.time()
    parts = ({"alg": "none"}, {"sub": subject, "iat": now, "exp": now + for_s})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


class Provider:
    """Answers as an identity provider does; `answer` makes each answer."""

    def __init__(self, answer: Callable[[], web.Response]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.Response:
        user = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        self.asked.append((user, {name: str(value) for name, value in (await request.post()).items()}))
        return self.answer()


@asynccontextmanager
async def provider(answer: Callable[[], web.Response]) -> AsyncIterator[Provider]:
    found = Provider(answer)
    app = web.Application()
    app.router.add_post("/token", found.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
        yield found
    finally:
        await runner.cleanup()


def fresh(**more: object) -> web.Response:
    return web.json_response({"access_token": "one", "token_type": "Bearer", **more})


async def test_a_token_is_asked_for_once_and_anew_when_most_of_its_life_is_over() -> None:
    now_s = 1000.0
    async with provider(lambda: fresh(expires_in=100)) as idp:
        endpoint = TokenEndpoint(idp.url, "site-042", SECRET, scope="kafka", now_s=lambda: now_s)
        assert [await endpoint.token() for _ in range(3)] == ["one"] * 3
        assert idp.asked == [(f"site-042:{SECRET}", {"grant_type": "client_credentials", "scope": "kafka"})]
        now_s += 79
        await endpoint.token()
        assert len(idp.asked) == 1
        now_s += 1
        await endpoint.token()
    assert len(idp.asked) == 2


async def test_a_token_that_says_its_end_itself_is_kept_until_then() -> None:
    async with provider(lambda: fresh(access_token=json_web_token("site-042"))) as idp:
        endpoint = TokenEndpoint(idp.url, "site-042", SECRET)
        await endpoint.token()
        await endpoint.token()
    assert len(idp.asked) == 1


async def test_a_token_of_unknown_life_serves_one_login() -> None:
    async with provider(fresh) as idp:
        endpoint = TokenEndpoint(idp.url, "site-042", SECRET)
        await endpoint.token()
        await endpoint.token()
    assert len(idp.asked) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: web.json_response({"error": "invalid_client"}, status=401), "answers 401 (invalid_client)"),
        (lambda: web.Response(status=502, text="<html>"), "answers 502"),
        (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1/"}), "answers 302"),
        (lambda: web.json_response({"token": "one"}), "its answer holds no access_token"),
        (lambda: web.Response(body=b"\xff"), "its answer holds no access_token"),
    ],
)
async def test_what_the_provider_refuses_is_one_line(answer: Callable[[], web.Response], said: str) -> None:
    async with provider(answer) as idp:
        with pytest.raises(TokenError) as error:
            await TokenEndpoint(idp.url, "site-042", SECRET).token()
    assert error.value.args[0] == f"no token from {idp.url} (kafka.sasl_token_url): {said}"


async def test_a_provider_that_is_away_is_named() -> None:
    async with provider(fresh) as idp:
        pass
    with pytest.raises(TokenError, match=r"no token from http://127\.0\.0\.1"):
        await TokenEndpoint(idp.url, "site-042", SECRET).token()


@pytest.mark.kafka
async def test_kafka_takes_the_token_with_its_extensions(real_kafka: RealKafka, unique_name: str) -> None:
    create_topic(real_kafka.bootstrap, unique_name)
    real_kafka.allow(f"User:{unique_name}", (ResourceType.TOPIC, unique_name, AclOperation.WRITE))
    broken = [True]

    def answer() -> web.Response:
        return web.Response(status=503) if broken else fresh(access_token=json_web_token(unique_name))

    async with provider(answer) as idp:
        login = KafkaSettings(
            (real_kafka.cloud_bootstrap,),
            security_protocol=SecurityProtocol.SASL_SSL,
            sasl_mechanism=SaslMechanism.OAUTHBEARER,
            sasl_username="site-042",
            sasl_password=SECRET,
            sasl_token_url=idp.url,
            sasl_extensions=("logicalCluster=lkc-abcdef", "identityPoolId=pool-a=b"),
            ssl_ca_file=str(real_kafka.authority.certificate),
        )
        async with KafkaProducer(login) as producer:
            with pytest.raises(SendOutage, match=r"cannot be reached: no token from .*: answers 503$"):
                await producer.send(unique_name, [record(1)])
            broken.clear()
            assert list((await producer.send(unique_name, [record(1)])).confirmed) == [record(1)]
