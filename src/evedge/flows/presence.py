"""Which agents are there: while an agent is not connected, its recharge points are offline, and status says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import structlog

from evedge.core.model import Link, Publisher
from evedge.core.reading import LinkState

log = structlog.get_logger()


class Sink(Protocol):
    """Where status goes."""

    def status(self, recharge_point: str, state: LinkState) -> None: ...


class Commands(Protocol):
    """What waits for agents."""

    def subscribed(self, agent: str, topic_filter: str) -> None: ...


class AgentPresence:
    """`agents`: each agent's name and the recharge points it owns."""

    def __init__(self, agents: Mapping[str, tuple[str, ...]], sink: Sink, commands: Commands) -> None:
        self._agents = agents
        self._owners = {name: agent for agent, names in agents.items() for name in names}
        self._commands = commands
        self._sink = sink
        self._connections: dict[str, int] = {}

    def start(self) -> None:
        """Agents that have not come yet are not connected."""
        for agent in self._agents:
            if not self._connections.get(agent):
                self._offline(agent)

    def connected(self, publisher: Publisher) -> None:
        """A client is there. An agent tells its recharge points' status itself."""
        if publisher.name in self._agents:
            self._connections[publisher.name] = self._connections.get(publisher.name, 0) + 1
            log.info("agent_connected", agent=publisher.name, client_id=publisher.client_id)

    def disconnected(self, publisher: Publisher) -> None:
        """A client is gone."""
        if publisher.name not in self._agents:
            return
        left = self._connections.get(publisher.name, 0) - 1
        self._connections[publisher.name] = max(left, 0)
        log.info("agent_disconnected", agent=publisher.name, client_id=publisher.client_id)
        if left <= 0:
            self._offline(publisher.name)

    def spoke(self, recharge_point: str) -> None:
        """A status of an agent was accepted. When it left while the disk was busy with that, the last word is ours."""
        agent = self._owners[recharge_point]
        if not self._connections.get(agent):
            self._sink.status(recharge_point, _away(agent))

    def subscribed(self, publisher: Publisher, topic_filter: str) -> None:
        """A client subscribed; an agent gets the commands that it has not answered."""
        if publisher.name in self._agents:
            self._commands.subscribed(publisher.name, topic_filter)

    def _offline(self, agent: str) -> None:
        for recharge_point in self._agents[agent]:
            self._sink.status(recharge_point, _away(agent))


def _away(agent: str) -> LinkState:
    return LinkState(Link.OFFLINE, f"agent {agent} is not connected")
