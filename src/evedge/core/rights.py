"""Who may publish and subscribe where: a user's configured rights, and the topics that belong to somebody.

Both must allow a publish. Rights are topic filters from the configuration; ownership follows from it: nobody tells a
recharge point's story but who reads it, not even a user whose rights are `#`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evedge.core.model import Publisher
from evedge.core.topics import Leaf, OwnTopics, covers, matches


@dataclass(frozen=True, slots=True)
class Rights:
    """What one user may do: topic filters. `everything` is for the broker that trusts its whole network."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    everything: bool = False

    def may_publish(self, topic: str) -> bool:
        return self.everything or any(matches(allowed, topic) for allowed in self.publish)

    def may_subscribe(self, topic_filter: str) -> bool:
        """Whether one of the user's filters covers all that this one can match."""
        return self.everything or any(covers(allowed, topic_filter) for allowed in self.subscribe)


EVERYTHING = Rights(everything=True)


class Ownership:
    """The reserved topics of one gateway. A command is for whoever has the right; what is told has one teller."""

    def __init__(self, topics: OwnTopics, recharge_points: Mapping[str, str | None]) -> None:
        """recharge_points: each configured one, with the agent that owns it; None where the gateway polls it."""
        self._topics = topics
        self._agents = dict(recharge_points)
        self._gateways_own = frozenset({topics.status, topics.telemetry, topics.alert, topics.result})
        self._agent_start = f"{topics.prefix}/{topics.gateway}/agent/"

    def refusal(self, publisher: Publisher, topic: str) -> str | None:
        """Why this client may not publish on this topic, as part of a sentence; None when nobody owns it but them."""
        if topic in self._gateways_own:
            return "belongs to the gateway"
        agent = self._agent_of_status(topic)
        if agent is not None:
            return None if publisher.name == agent else f"belongs to agent {agent}"
        named = self._topics.parse(topic)
        if named is None or named[1] is Leaf.COMMAND or named[0] not in self._agents:
            return None
        owner = self._agents[named[0]]
        if owner is None:
            return "belongs to a recharge point that the gateway polls"
        return None if publisher.name == owner else f"belongs to a recharge point of agent {owner}"

    def _agent_of_status(self, topic: str) -> str | None:
        if not topic.startswith(self._agent_start):
            return None
        agent, _, leaf = topic[len(self._agent_start) :].partition("/")
        return agent if leaf == "status" else None
