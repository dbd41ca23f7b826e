"""The one door for messages: decide where they go, have them kept, hand them to local subscribers.

A message of an MQTT client on a routed topic becomes one record for each of its Kafka topics; QoS 1 and 2 are durable
(their acknowledgement waits for the disk), QoS 0 is not. A message that no route takes is for local subscribers only.
Commands that a local user publishes go to the commander.

Does not know sockets, sessions, Kafka or files; who may publish what is decided before a message comes here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import structlog

from evedge.core import codec
from evedge.core.codec import Headers
from evedge.core.dead_letters import letter_for
from evedge.core.lanes import DeadLetter
from evedge.core.model import Publish, Publisher, Record, Stream
from evedge.core.times import from_rfc3339
from evedge.core.topics import Leaf, OwnTopics, Route, routes_for
from evedge.flows.clock import Clock

log = structlog.get_logger()

MAX_KNOWN_TOPICS = 10_000
RESULT_END = f"/{Leaf.RESULT}"
LEAF_STREAMS = {
    Leaf.TELEMETRY: Stream.TELEMETRY,
    Leaf.STATUS: Stream.STATUS,
    Leaf.ALERT: Stream.ALERTS,
    Leaf.RESULT: Stream.COMMAND_RESULTS,
}


class Journal(Protocol):
    """Keeps records until Kafka confirmed them."""

    def accept(
        self, records: Sequence[Record], received: Sequence[tuple[str, int]] = ()
    ) -> asyncio.Future[None] | None: ...

    def refuse(self, dead: DeadLetter, letter: Record | None) -> asyncio.Future[None] | None: ...

    def release(self, client_id: str, packet_ids: Sequence[int]) -> asyncio.Future[None] | None: ...

    def received_ids(self, client_id: str) -> frozenset[int]: ...

    def forget_session(self, client_id: str) -> None: ...


class Router(Protocol):
    """Hands a message to the local subscribers, and keeps it for later ones where it is retained."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None: ...


class Commands(Protocol):
    """Takes a command that a local user published on a recharge point's topic; False: there is no room for it now."""

    def submit(self, payload: bytes, issuer: str, recharge_point: str) -> bool: ...


Then: TypeAlias = Callable[[], asyncio.Future[None]]
"""What follows when something is kept; its future resolves when that is kept too."""


class Agents(Protocol):
    """Listens to what agents tell of their recharge points."""

    def result(self, recharge_point: str, payload: bytes) -> tuple[bool, Then | None]:
        """A step of a command. False: it is dropped. Then: what is done once it is kept, before it is acknowledged."""

    def told(self, recharge_point: str, leaf: Leaf, payload: bytes) -> None:
        """Telemetry or status that was accepted."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a message on one topic becomes one Kafka record. `own`: on one of the gateway's own topics, hence JSON."""

    lane: str
    key: bytes
    headers: Headers
    own: bool = False
    timed: bool = False


class Intake:
    """Accepts messages. `kafka_topics` None: there is no Kafka here, every message is local."""

    def __init__(
        self,
        journal: Journal,
        router: Router,
        *,
        own: OwnTopics,
        kafka_topics: Mapping[Stream, str] | None,
        routes: Sequence[Route],
        recharge_points: frozenset[str],
        clock: Clock,
    ) -> None:
        self.commands: Commands | None = None
        self.agents: Agents | None = None
        self._journal = journal
        self._router = router
        self._own = own
        self._kafka_topics = kafka_topics
        self._routes = tuple(routes)
        self._recharge_points = recharge_points
        self._clock = clock
        self._ways: dict[tuple[str, int, bool], tuple[Way, ...]] = {}
        self._own_topic_ways: dict[tuple[str, int, bool], Way] = {}

    # What the MQTT front asks.

    def accept(self, publisher: Publisher, publishes: Sequence[Publish]) -> asyncio.Future[None] | None:
        """Accept what one client sent at once. None: nothing to wait for. A future: acknowledge when it resolved."""
        records: list[Record] = []
        received: list[tuple[str, int]] = []
        futures: list[asyncio.Future[None]] = []
        thens: list[Then] = []
        now_ms = self._clock.wall_ms()
        if self.agents is not None and any(message.topic.endswith(RESULT_END) for message in publishes):
            publishes = self._hear_results(self.agents, publishes, thens)
        for message in publishes:
            ways = self._ways_for(message)
            for way in ways:
                record = self._record(way, message, now_ms)
                problem = codec.json_problem(message.payload) if way.own else None
                if problem is None:
                    records.append(record)
                    continue
                kept = self._refuse(record, message.topic, problem, now_ms)
                if kept is not None:
                    futures.append(kept)
            if ways and message.qos == 2:
                received.append((publisher.client_id, message.packet_id))
        if records or received:
            kept = self._journal.accept(records, received)
            if kept is not None:
                futures.append(kept)
        if thens:
            futures = [_afterwards(futures, thens)]
        if not futures:
            self._hand_over(publisher, publishes)
            return None
        done = futures[0] if len(futures) == 1 else _all_of(futures)

        def hand_over(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._hand_over(publisher, publishes)

        # Callbacks run in the order they were added: subscribers have it before the publisher is acknowledged.
        done.add_done_callback(hand_over)
        return done

    def release(self, client_id: str, packet_ids: Sequence[int]) -> asyncio.Future[None] | None:
        """Forget QoS 2 ids; PUBCOMP may go when the future resolved."""
        return self._journal.release(client_id, packet_ids)

    def received_ids(self, client_id: str) -> frozenset[int]:
        """QoS 2 ids of the client that an earlier run accepted and did not release."""
        return self._journal.received_ids(client_id)

    def forget_session(self, client_id: str) -> None:
        """The client's session ended."""
        self._journal.forget_session(client_id)

    # What the gateway itself publishes.

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        stream: Stream,
        recharge_point: str | None,
        timestamp_ms: int,
        durable: bool,
        retain: bool = False,
    ) -> asyncio.Future[None] | None:
        """A message of the gateway's own: kept for Kafka and handed to local subscribers at once."""
        kept = None
        if self._kafka_topics is not None:
            way = self._own_way(self._kafka_topics, topic, stream, recharge_point, 1, retain)
            kept = self._journal.accept([Record(way.lane, way.key, payload, way.headers, timestamp_ms, durable)])
        self._router.publish(topic, payload, 1, retain)
        return kept

    def refuse_foreign(
        self, value: bytes, key: bytes, headers: Headers, kafka_topic: str, reason: str
    ) -> asyncio.Future[None] | None:
        """A record from Kafka that is for this gateway and cannot be understood: a dead letter once it resolved."""
        given = {name for name, _ in headers}
        ours = (("ce_specversion", b"1.0"), ("ce_source", f"/evedge/{self._own.gateway}".encode()))
        complete = (*headers, *((name, text) for name, text in ours if name not in given))
        record = Record(kafka_topic, key, value, complete, self._clock.wall_ms(), durable=True)
        return self._refuse(record, "", reason, record.timestamp_ms, kind="not_understood")

    # Inside.

    def _record(self, way: Way, message: Publish, now_ms: int) -> Record:
        timestamp_ms = now_ms
        if way.timed:
            text = codec.measured_at(message.payload)
            if text is not None:
                with contextlib.suppress(ValueError):
                    measured_at_ms = from_rfc3339(text)
                    timestamp_ms = measured_at_ms if measured_at_ms >= 0 else now_ms  # Kafka knows no time before 1970
        return Record(way.lane, way.key, message.payload, way.headers, timestamp_ms, message.qos > 0)

    def _refuse(
        self, record: Record, mqtt_topic: str, error: str, now_ms: int, *, kind: str = "not_json"
    ) -> asyncio.Future[None] | None:
        log.warning("message_refused", mqtt_topic=mqtt_topic, kafka_topic=record.lane, error=error)
        if self._kafka_topics is None:
            return None
        dead = DeadLetter(now_ms, record.lane, mqtt_topic, kind, error, record)
        return self._journal.refuse(dead, letter_for(dead, self._kafka_topics[Stream.DEAD_LETTERS], None))

    def _hear_results(self, agents: Agents, publishes: Sequence[Publish], thens: list[Then]) -> Sequence[Publish]:
        """Lets agents' results end commands. Returns what is left to accept, and adds what follows when it is kept."""
        left = []
        for message in publishes:
            named = self._own.parse(message.topic)
            if named is not None and named[1] is Leaf.RESULT:
                passed_on, then = agents.result(named[0], message.payload)
                if then is not None:
                    thens.append(then)
                if not passed_on:
                    continue
            left.append(message)
        return left

    def _hand_over(self, publisher: Publisher, publishes: Sequence[Publish]) -> None:
        for message in publishes:
            named = self._own.parse(message.topic)
            if named is not None and named[1] is Leaf.COMMAND:
                self._command(publisher, message, named[0])
                continue
            self._router.publish(message.topic, message.payload, message.qos, message.retain)
            if named is not None and self.agents is not None:
                self.agents.told(*named, message.payload)

    def _command(self, publisher: Publisher, message: Publish, recharge_point: str) -> None:
        # Never retained, whatever the publisher says, and not handed on as it is: what an agent sees comes from the
        # commander, checked.
        if self.commands is None:
            log.warning("command_ignored", mqtt_topic=message.topic, user=publisher.name)
        elif not self.commands.submit(message.payload, publisher.name, recharge_point):
            log.error("command_dropped", mqtt_topic=message.topic, user=publisher.name, reason="too many wait")

    def _ways_for(self, message: Publish) -> tuple[Way, ...]:
        asked = (message.topic, message.qos, message.retain)
        ways = self._ways.get(asked)
        if ways is None:
            if len(self._ways) >= MAX_KNOWN_TOPICS:
                self._ways.clear()  # a client invents topics: start over rather than grow
            ways = self._ways[asked] = self._find_ways(*asked)
        return ways

    def _find_ways(self, topic: str, qos: int, retain: bool) -> tuple[Way, ...]:
        if self._kafka_topics is None:
            return ()
        ways: list[Way] = []
        named = self._own.parse(topic)
        if named is not None and named[0] in self._recharge_points and named[1] in LEAF_STREAMS:
            ways.append(self._own_way(self._kafka_topics, topic, LEAF_STREAMS[named[1]], named[0], qos, retain))
        for route, key in routes_for(topic, self._own.gateway, self._routes):
            headers = codec.headers(
                codec.ROUTE_TYPE,
                self._own.gateway,
                None,
                mqtt_topic=topic,
                mqtt_qos=qos,
                mqtt_retain=retain,
                content_type=route.content_type,
            )
            ways.append(Way(route.kafka_topic, key.encode(), headers))
        return tuple(ways)

    def _own_way(
        self,
        kafka_topics: Mapping[Stream, str],
        topic: str,
        stream: Stream,
        recharge_point: str | None,
        qos: int,
        retain: bool,
    ) -> Way:
        asked = (topic, qos, retain)
        way = self._own_topic_ways.get(asked)
        if way is None:
            gateway = self._own.gateway
            headers = codec.headers(
                codec.STREAM_TYPES[stream],
                gateway,
                recharge_point,
                mqtt_topic=topic,
                mqtt_qos=qos,
                mqtt_retain=retain,
            )
            way = Way(
                kafka_topics[stream],
                codec.key(gateway, recharge_point),
                headers,
                own=True,
                timed=stream is Stream.TELEMETRY,
            )
            self._own_topic_ways[asked] = way  # bounded: the topics of the recharge points configured
        return way


def _afterwards(futures: Sequence[asyncio.Future[None]], thens: Sequence[Then]) -> asyncio.Future[None]:
    """Resolves when all futures did, and then all that follows from them."""
    if not futures:
        return _all_of([then() for then in thens])
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def follow(first: asyncio.Future[None]) -> None:
        if not _failed(first, done):
            second = _all_of([then() for then in thens])
            second.add_done_callback(finish)

    def finish(second: asyncio.Future[None]) -> None:
        if not _failed(second, done) and not done.done():
            done.set_result(None)

    _all_of(futures).add_done_callback(follow)
    return done


def _failed(one: asyncio.Future[None], done: asyncio.Future[None]) -> bool:
    """Whether it did; `done` then fails in the same way."""
    error = None if one.cancelled() else one.exception()
    if one.cancelled():
        done.cancel()
    elif error is not None and not done.done():
        done.set_exception(error)
    return one.cancelled() or error is not None


def _all_of(futures: Sequence[asyncio.Future[None]]) -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def one_more(_: asyncio.Future[None]) -> None:
        if done.done() or not all(future.done() for future in futures):
            return
        for future in futures:
            if future.cancelled():
                done.cancel()
                return
            error = future.exception()
            if error is not None:
                done.set_exception(error)
                return
        done.set_result(None)

    for future in futures:
        future.add_done_callback(one_more)
    return done
