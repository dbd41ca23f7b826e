"""The MQTT broker's face: listens, lets clients in, keeps their sessions, speaks for them when they die.

`async with MqttFront(…) as front`: listening inside, all sockets closed after. `stop_intake` ends what comes in while
what goes out goes on. What a client may do follows from its user (`mqtt_login`, `core.rights`); what a connection does
is in `mqtt_connection`; who gets what is the router's business.

Invariants:
- A client id belongs to one session, a session to one user, for as long as it lives: nobody else resumes it, takes it
  over or learns more than that they may not.
- At most `max_clients` clients, as many sockets that have not said who they are (the oldest of these makes room), and
  `max_sessions` sessions that outlive their connection.
- A will is published once, when its client ends without DISCONNECT and the broker is not stopping.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from types import TracebackType
from typing import Self

import structlog

from evedge.core.counters import MqttCounters
from evedge.core.log_budget import LogBudget
from evedge.core.model import Publish, Publisher
from evedge.core.rights import Ownership
from evedge.links.mqtt_connection import Connection
from evedge.links.mqtt_flow import MESSAGE_OVERHEAD, Flow
from evedge.links.mqtt_frames import Connect, ReturnCode, Will
from evedge.links.mqtt_listen import common_name, listen, tls_context
from evedge.links.mqtt_login import Grant, Logins
from evedge.links.mqtt_protocols import FrontSettings, Intake, Presence, Router
from evedge.links.mqtt_session import Session
from evedge.links.mqtt_socket import Hold

log = structlog.get_logger()

MAX_CLIENT_ID = 256
LOGIN_S = 30.0
"""How long a client waits for its password to be checked when many come at once."""
MAX_WILL_BYTES = 4_194_304
"""Wills on their way to being accepted. More are dropped: nobody is there who could be made to wait."""
CLOSE_S = 2.0
LOG_LINES = 20


class MqttFront:
    """The endpoint of MQTT 3.1.1. `port` and `tls_port` are where it listens, once entered."""

    def __init__(
        self,
        settings: FrontSettings,
        *,
        intake: Intake,
        router: Router,
        presence: Presence,
        ownership: Ownership,
        counters: MqttCounters | None = None,
    ) -> None:
        self.settings = settings
        self.intake = intake
        self.router = router
        self.presence = presence
        self.ownership = ownership
        self.counters = counters if counters is not None else MqttCounters()
        self.flow = Flow()
        self.log_budget = LogBudget(lines=LOG_LINES)
        self.port = 0
        self.tls_port = 0
        self._logins = Logins(settings.users, allow_anonymous=settings.allow_anonymous)
        self._login_tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._sockets: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}  # no CONNECT yet, in the order they came
        self._clients: dict[str, Connection] = {}
        self._sessions: dict[str, Session] = {}
        self._away: dict[str, float] = {}  # sessions without a connection, and when they end; the first to end first
        self._expiry: asyncio.TimerHandle | None = None
        self._will_bytes = 0
        self._stopping = False
        self._all_gone = asyncio.Event()

    def __repr__(self) -> str:
        where = self.settings.bind or self.settings.tls_bind
        return f"<MqttFront on {where}, {len(self._clients)} clients, {len(self._sessions)} sessions>"

    async def __aenter__(self) -> Self:
        settings = self.settings
        tls: ssl.SSLContext | None = tls_context(settings) if settings.tls_bind else None
        try:
            if settings.bind is not None:
                self.port = await self._listen("bind", settings.bind, None)
            if settings.tls_bind:
                self.tls_port = await self._listen("tls_bind", settings.tls_bind, tls)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def stop_intake(self, deadline_s: float = 5.0) -> bool:
        """No new connections, no more from the clients; waits until what they sent is accepted and acknowledged.

        False when that was not done by the deadline. Deliveries to subscribers go on.
        """
        self._stop_listening()
        for stranger in list(self._strangers):
            stranger.abort()
        for connection in list(self._sockets):
            connection.hold(Hold.STOP)
            connection.finish()
        try:
            async with asyncio.timeout(deadline_s):
                await self.flow.empty()
        except TimeoutError:
            log.warning("mqtt_intake_cut", bytes_not_accepted=self.flow.in_flight)
            return False
        return True

    # What a connection calls.

    def arrived(self, connection: Connection) -> None:
        """A socket is open. Beyond the bound the stranger who has been silent longest makes room."""
        self._sockets.add(connection)
        self._strangers[connection] = None
        if self._stopping:
            connection.abort()
        elif len(self._strangers) > self.settings.max_clients:
            silent = next(iter(self._strangers))
            del self._strangers[silent]
            self.counters.refused["silent"] += 1
            silent.abort()

    def knocked(self, connection: Connection, connect: Connect) -> None:
        """A client says who it is."""
        self._strangers.pop(connection, None)
        if connect.client_id == "" and not connect.clean_session:
            connection.refuse(ReturnCode.IDENTIFIER_REJECTED, "client_id")  # 3.1.3.1
            return
        if len(connect.client_id) > MAX_CLIENT_ID:
            connection.refuse(ReturnCode.IDENTIFIER_REJECTED, "client_id")
            return
        assert connection.transport is not None  # noqa: S101
        decision = self._logins.at_once(connect, common_name(connection.transport))
        if decision is not None:
            self._decided(connection, connect, decision)
            return
        connection.hold(Hold.LOGIN)
        task = asyncio.create_task(self._login(connection, connect), name=f"mqtt_login[{connection.peer}]")
        self._login_tasks.add(task)
        task.add_done_callback(self._login_tasks.discard)

    def ended(self, connection: Connection) -> None:
        """A connection is over: whatever it held of the house is let go."""
        self._strangers.pop(connection, None)
        session, publisher = connection.session, connection.publisher
        if session is None or publisher is None:
            return
        del self._clients[publisher.client_id]
        self.counters.clients = len(self._clients)
        session.detach()
        if session.clean:
            self._end_session(session)
        else:
            self._away[session.client_id] = asyncio.get_running_loop().time() + self.settings.session_expiry_s
            self._watch_expiry()
        if connection.will is not None and not self._stopping:
            self._publish_will(publisher, connection.will)
        self.presence.disconnected(publisher)

    def gone(self, connection: Connection) -> None:
        """A socket is closed."""
        self._sockets.discard(connection)
        if not self._sockets:
            self._all_gone.set()

    # Letting in.

    async def _login(self, connection: Connection, connect: Connect) -> None:
        try:
            async with asyncio.timeout(LOGIN_S):
                decision = await self._logins.checked(connect)
        except TimeoutError:
            decision = ReturnCode.UNAVAILABLE
        if not connection.ended:
            self._decided(connection, connect, decision)

    def _decided(self, connection: Connection, connect: Connect, decision: Grant | ReturnCode) -> None:
        if isinstance(decision, ReturnCode):
            reason = "busy" if decision is ReturnCode.UNAVAILABLE else "login"
            self._refuse(connection, connect, decision, reason)
            return
        publisher = Publisher(connect.client_id or f"auto-{secrets.token_hex(8)}", decision.user)
        obstacle = self._obstacle(publisher, connect, decision)
        if obstacle is not None:
            self._refuse(connection, connect, *obstacle)
            return
        taken_over = self._clients.get(publisher.client_id)
        if taken_over is not None:
            taken_over.close("taken_over")  # 3.1.4
        session, present = self._session_for(publisher, clean=connect.clean_session)
        self._clients[publisher.client_id] = connection
        self.counters.clients = len(self._clients)
        left_out = self.log_budget.take("client_connected", asyncio.get_running_loop().time())
        if left_out is not None:
            log.info(
                "client_connected",
                client_id=publisher.client_id,
                user=publisher.user,
                peer=connection.peer,
                left_out=left_out,
            )
        connection.open(publisher, decision.rights, session, connect, present=present)

    def _obstacle(self, publisher: Publisher, connect: Connect, grant: Grant) -> tuple[ReturnCode, str] | None:
        """Why a client whose login is right is not let in all the same; None: nothing."""
        session = self._sessions.get(publisher.client_id)
        if session is not None and session.user != publisher.user:
            return ReturnCode.NOT_AUTHORISED, "client_id"
        if connect.will is not None and not self._may_will(publisher, connect.will, grant):
            return ReturnCode.NOT_AUTHORISED, "will"
        if publisher.client_id not in self._clients and len(self._clients) >= self.settings.max_clients:
            return ReturnCode.UNAVAILABLE, "max_clients"
        if not connect.clean_session and (session is None or session.clean) and self._is_full_of_sessions():
            return ReturnCode.UNAVAILABLE, "max_sessions"
        return None

    def _may_will(self, publisher: Publisher, will: Will, grant: Grant) -> bool:
        refusal = self.ownership.refusal(publisher, will.topic)
        if refusal is None and not will.topic.startswith("$") and grant.rights.may_publish(will.topic):
            return True
        left_out = self.log_budget.take(f"will_denied:{publisher.name}", asyncio.get_running_loop().time())
        if left_out is not None:
            reason = f"the topic {refusal or 'is outside the user’s rights'}"
            log.warning(
                "will_denied",
                user=publisher.user,
                client_id=publisher.client_id,
                topic=will.topic,
                reason=reason,
                left_out=left_out,
            )
        return False

    def _refuse(self, connection: Connection, connect: Connect, code: ReturnCode, reason: str) -> None:
        host = connection.peer.rpartition(":")[0]
        left_out = self.log_budget.take(f"client_refused:{host}", asyncio.get_running_loop().time())
        if left_out is not None:
            log.warning(
                "client_refused",
                client_id=connect.client_id,
                user=connect.username,
                peer=connection.peer,
                reason=reason,
                left_out=left_out,
            )
        connection.refuse(code, reason)

    # Sessions.

    def _session_for(self, publisher: Publisher, *, clean: bool) -> tuple[Session, bool]:
        """The session to go on with, and whether there was one (3.1.2.4)."""
        client_id = publisher.client_id
        session = self._sessions.get(client_id)
        if session is not None and not clean:
            del self._away[client_id]
            return session, True
        if session is not None:
            self._end_session(session)
        elif clean:
            self.intake.forget_session(client_id)
        session = Session(
            client_id,
            publisher.user,
            clean=clean,
            max_bytes=self.settings.max_session_bytes,
            counters=self.counters,
            received_ids=() if clean else self.intake.received_ids(client_id),
        )
        self._sessions[client_id] = session
        self.counters.sessions = len(self._sessions)
        self.router.open(client_id, session)
        return session, False

    def _end_session(self, session: Session) -> None:
        self.router.close(session.client_id)
        session.discard()
        del self._sessions[session.client_id]
        self._away.pop(session.client_id, None)
        self.counters.sessions = len(self._sessions)
        self.intake.forget_session(session.client_id)

    def _is_full_of_sessions(self) -> bool:
        if len(self._sessions) < self.settings.max_sessions:
            return False
        return sum(not session.clean for session in self._sessions.values()) >= self.settings.max_sessions

    def _watch_expiry(self) -> None:
        if self._expiry is None and self._away and not self._stopping:
            first = next(iter(self._away.values()))
            self._expiry = asyncio.get_running_loop().call_at(first, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        now = asyncio.get_running_loop().time()
        for client_id, ends_at in list(self._away.items()):
            if ends_at > now:
                break
            session = self._sessions[client_id]
            log.info("session_expired", client_id=client_id, user=session.user, messages_dropped=session.waiting)
            self.counters.dropped["session_expired"] += session.waiting
            self._end_session(session)
        self._watch_expiry()

    # Wills.

    def _publish_will(self, publisher: Publisher, will: Will) -> None:
        size = len(will.payload) + MESSAGE_OVERHEAD
        if self._will_bytes + size > MAX_WILL_BYTES:
            self.counters.wills_dropped += 1
            left_out = self.log_budget.take("will_dropped", asyncio.get_running_loop().time())
            if left_out is not None:
                log.error("will_dropped", client_id=publisher.client_id, topic=will.topic, left_out=left_out)
            return
        self.counters.wills_published += 1
        future = self.intake.accept(publisher, (Publish(will.topic, will.payload, will.qos, will.retain),))
        if future is None:
            return
        self._will_bytes += size
        self.flow.add(publisher.user, size)

        def accepted(done: asyncio.Future[None]) -> None:
            self._will_bytes -= size
            self.flow.done(publisher.user, size)
            if done.cancelled() or done.exception() is not None:
                self.counters.wills_dropped += 1

        future.add_done_callback(accepted)

    # Opening and closing.

    async def _listen(self, key: str, bind: str, tls: ssl.SSLContext | None) -> int:
        server = await listen(key, bind, lambda: Connection(self), tls, self.settings.connect_timeout_s)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        log.info("mqtt_listening", bind=bind, port=port, tls=tls is not None)
        return port

    def _stop_listening(self) -> None:
        self._stopping = True
        for server in self._servers:
            server.close()

    async def _close(self) -> None:
        """Sockets get a moment for their last bytes; then all are gone, whatever their peers do."""
        self._stop_listening()
        self._logins.close()
        if self._expiry is not None:
            self._expiry.cancel()
        for task in self._login_tasks:
            task.cancel()
        if self._login_tasks:
            await asyncio.wait(self._login_tasks, timeout=CLOSE_S)
        for connection in list(self._sockets):
            connection.close("stopping")
        if self._sockets:
            await self._wait_for_sockets(CLOSE_S)
        for connection in list(self._sockets):
            connection.abort()
        if self._sockets:
            await self._wait_for_sockets(1.0)
        for session in list(self._sessions.values()):
            self.router.close(session.client_id)
            session.discard()
        self._sessions.clear()
        for server in self._servers:
            # From Python 3.12 on this waits for connections too; handshakes that hang are left to the loop's end.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await server.wait_closed()
        self._servers = []

    async def _wait_for_sockets(self, deadline_s: float) -> None:
        self._all_gone.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._all_gone.wait()
