"""The agent's way to its gateway's broker: publishes records, hears commands, is there or not there for all to see.

`async with MqttClient(…) as client`: ready inside whether or not the broker is there; a task connects, and connects
again with backoff and jitter. Sessions are clean: nothing is left to the broker's memory. What is sent is confirmed by
PUBACK, and sent again on the next connection when that did not come, so the gateway may get it twice.

Around aiomqtt (2.5): a new `Client` for each connection, as one that is used again believes in its old state; no bound
on its incoming queue, as it throws away beyond it (the gateway bounds what waits for a session); and a publish that
waits is not told that the connection is gone, nor taken back when its time is up: the connection is given up then.

Invariants:
- Messages of one `send` go out in their order; at most MAX_IN_FLIGHT of them wait for a PUBACK.
- `online` is published after the subscriptions stand, `offline` by the will or before a clean goodbye.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiomqtt
import structlog

from evedge.core.backoff import Backoff
from evedge.core.delivery import SendOutage, SendResult, TopicUnavailable
from evedge.core.errors import UsageError
from evedge.core.model import Record

log = structlog.get_logger()
_Result = TypeVar("_Result")

LANE = "mqtt"
"""The one lane of what goes this way."""
KEEP_ALIVE_S = 15
CONNECT_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 60.0
"""For one window of messages. Long: a gateway whose journal is full acknowledges late, and has them already."""
PATIENCE_S = 3.0
"""How long a send waits for a connection before it is an outage: a start, or a gateway that restarts, is none."""
GOODBYE_S = 2.0
LASTS_S = 10.0
"""A connection that lasted this long was a good one: the next try is soon."""
GRANTED = frozenset({0, 1, 2})
MAX_IN_FLIGHT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Where the broker is, and who comes. `subscribe`: the topics that `heard` gets."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    status_topic: str
    online: bytes
    offline: bytes
    subscribe: tuple[str, ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


class MqttClient:
    """`heard` gets each message's topic and payload. `connected` is called on every connection, before it is used."""

    def __init__(
        self,
        settings: ClientSettings,
        *,
        heard: Callable[[str, bytes], None],
        connected: Callable[[], None] = lambda: None,
        chance: Callable[[], float] = random.random,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self.up = False
        self.last_error: str | None = None
        self.settings = settings
        self._heard = heard
        self._connected = connected
        self._chance = chance
        self._send_timeout_s = send_timeout_s
        self._tls = _tls_context(settings)
        self._client: aiomqtt.Client | None = None
        self._there = asyncio.Event()  # while there is a client
        self._given_up = asyncio.Event()  # of the connection that is there: it is of no use any more
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<MqttClient {self.settings}, {'up' if self.up else f'down: {self.last_error}'}>"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._serve(), name="mqtt_client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye, if there is somebody to say it to. May be called twice."""
        self._stopping.set()
        self._given_up.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=2 * GOODBYE_S)
            if not done:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def send(self, topic: str, records: Sequence[Record]) -> SendResult:
        """Publish each record on its `mqtt_topic`, QoS 1. Nothing is refused. Raises SendOutage.

        topic: the lane; one of another name was filled under another configuration and stays where it is.
        """
        if topic != LANE:
            raise TopicUnavailable(f"what waits for Kafka topic {topic} stays: this is an agent now")
        if self._task is not None and self._task.done() and not self._stopping.is_set():
            self._task.result()  # a defect: it ends the process as it would anywhere else
        if self._client is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await self._there.wait()
        client, given_up = self._client, self._given_up
        if client is None:
            raise SendOutage(f"{self.settings}: {self.last_error or 'not connected yet'}")
        confirmed: list[Record] = []
        for start in range(0, len(records), MAX_IN_FLIGHT):
            window = records[start : start + MAX_IN_FLIGHT]
            done = await self._publish(client, given_up, window)
            confirmed += done
            if len(done) < len(window):
                error = self.last_error or "the connection was lost"
                raise SendOutage(f"{self.settings}: {error}", SendResult(confirmed=tuple(confirmed)))
        return SendResult(confirmed=tuple(confirmed))

    async def _publish(self, client: aiomqtt.Client, given_up: asyncio.Event, window: Sequence[Record]) -> list[Record]:
        """Those of a window that were acknowledged. When not all were, the connection is given up."""
        # Tasks start in the order of their making, and each gives its message to the client before it waits.
        calls = [asyncio.create_task(_publish(client, record)) for record in window]
        lost = asyncio.create_task(given_up.wait())
        acknowledged = asyncio.create_task(asyncio.wait(calls))
        either: set[asyncio.Task[Any]] = {acknowledged, lost}
        try:
            await asyncio.wait(either, timeout=self._send_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not acknowledged.done() and not given_up.is_set():
                self.last_error = f"no acknowledgement within {self._send_timeout_s:g} s"
                given_up.set()
        finally:
            for task in (*calls, *either):
                task.cancel()
            await asyncio.gather(*calls, *either, return_exceptions=True)
        failed = [call.exception() for call in calls if not call.cancelled() and call.exception() is not None]
        for error in failed:
            if not isinstance(error, aiomqtt.MqttError) and error is not None:
                raise error
            self.last_error = str(error)
            given_up.set()
        return [
            record
            for record, call in zip(window, calls, strict=True)
            if not call.cancelled() and call.exception() is None
        ]

    async def _serve(self) -> None:
        """Be connected until `close`."""
        backoff = Backoff(first_s=0.5, longest_s=15.0)
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            self._given_up = asyncio.Event()
            if self._stopping.is_set():
                return
            began_s = loop.time()
            try:
                await self._connect()
            except aiomqtt.exceptions.MqttConnectError as error:
                self.last_error = (
                    f"the broker lets user {self.settings.username or 'nobody'} not in ({error}): it needs the right "
                    f"password, and the right to publish on {self.settings.status_topic}"
                )
            except (aiomqtt.MqttError, OSError, ssl.SSLError, ValueError) as error:
                self.last_error = _words(error)
            if self._stopping.is_set():
                return
            if loop.time() - began_s >= LASTS_S:
                backoff.succeeded()
            wait_s = backoff.failed(self._chance())
            log.warning("mqtt_lost", url=str(self.settings), error=self.last_error, retry_in_s=round(wait_s, 1))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()

    async def _connect(self) -> None:
        """One connection, from its beginning to its end."""
        settings = self.settings
        client = aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password,
            identifier=settings.client_id,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            keepalive=KEEP_ALIVE_S,
            timeout=CONNECT_TIMEOUT_S,
            max_inflight_messages=MAX_IN_FLIGHT,
            will=aiomqtt.Will(settings.status_topic, settings.offline, qos=1, retain=True),
            tls_context=self._tls,
        )
        client.pending_calls_threshold = 2 * MAX_IN_FLIGHT
        given_up = self._given_up
        async with client:
            listening = asyncio.create_task(self._listen(client, given_up), name="mqtt_client[messages]")
            try:
                await self._be_there(client, given_up)
            except _Lost:
                self.last_error = f"{self.last_error}, before it took {settings.status_topic}: the user's rights?"
            finally:
                self._client = None
                self.up = False
                self._there.clear()
                given_up.set()
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _be_there(self, client: aiomqtt.Client, given_up: asyncio.Event) -> None:
        settings = self.settings
        if settings.subscribe:
            granted = await _unless(given_up, client.subscribe([(topic, 1) for topic in settings.subscribe]))
            refused = [
                topic
                for topic, code in zip(settings.subscribe, granted, strict=True)
                if getattr(code, "value", code) not in GRANTED
            ]
            if refused:
                log.error("subscribe_refused", url=str(settings), topics=refused, reason="outside the user's rights")
        await _unless(given_up, client.publish(settings.status_topic, settings.online, qos=1, retain=True))
        self._client, self.up = client, True
        self._there.set()
        log.info("mqtt_connected", url=str(settings), client_id=settings.client_id)
        self._connected()
        await given_up.wait()
        if self._stopping.is_set():
            with contextlib.suppress(aiomqtt.MqttError):
                await client.publish(settings.status_topic, settings.offline, qos=1, retain=True, timeout=GOODBYE_S)

    async def _listen(self, client: aiomqtt.Client, given_up: asyncio.Event) -> None:
        """A task of its own: whoever waits for a message with a deadline may lose one."""
        try:
            async for message in client.messages:
                payload = message.payload
                self._heard(str(message.topic), payload if isinstance(payload, bytes) else b"")
        except (aiomqtt.MqttError, OSError) as error:
            self.last_error = _words(error)
        finally:
            given_up.set()


class _Lost(Exception):  # noqa: N818 -- it names a condition, and never leaves this module
    pass


async def _unless(given_up: asyncio.Event, call: Coroutine[Any, Any, _Result]) -> _Result:
    """The call's result. Raises _Lost when the connection is given up first: aiomqtt would wait on."""
    task = asyncio.create_task(call)
    lost = asyncio.create_task(given_up.wait())
    both: set[asyncio.Task[Any]] = {task, lost}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _Lost
        return task.result()
    finally:
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _publish(client: aiomqtt.Client, record: Record) -> None:
    found = dict(record.headers)
    retain = found.get("mqtt_retain") == b"true"
    topic = found.get("mqtt_topic", b"").decode()
    await client.publish(topic, record.value, qos=1, retain=retain, timeout=2 * SEND_TIMEOUT_S)


def _words(error: BaseException) -> str:
    if isinstance(error, aiomqtt.MqttError) and error.__cause__ is not None:
        return f"the connection was lost ({error.__cause__})"
    return str(error) or type(error).__name__


def _tls_context(settings: ClientSettings) -> ssl.SSLContext | None:
    """Verifies the broker's certificate and name always. Raises UsageError for files that are not what they should."""
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"[mqtt] tls_ca_file: {settings.tls_ca_file}: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls_cert_file is not None:
        try:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
        except (OSError, ssl.SSLError) as error:
            files = f"{settings.tls_cert_file}, {settings.tls_key_file}"
            raise UsageError(f"[mqtt] tls_cert_file or tls_key_file: {files}: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"does not hold what it should ({error.reason})"
    return error.strerror or str(error)
