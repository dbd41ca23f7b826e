"""Topic filters with wildcards, by level: which of thousands match a topic, without asking each of them.

A client may take a thousand filters and invent topics; asking every filter for every new topic would cost the whole
house its pace. Pure: knows no sessions. Filters and topics are valid where they come here.
"""

from __future__ import annotations


class _Level:
    """What may follow so far, and the filter that ends here."""

    __slots__ = ("following", "topic_filter")

    def __init__(self) -> None:
        self.following: dict[str, _Level] = {}
        self.topic_filter: str | None = None


class FilterTree:
    """A set of filters. Invariant: every level leads to a filter, so that what is taken out leaves nothing behind."""

    def __init__(self) -> None:
        self._root = _Level()

    def __bool__(self) -> bool:
        return bool(self._root.following)

    def add(self, topic_filter: str) -> None:
        """Again is the same as once."""
        level = self._root
        for name in topic_filter.split("/"):
            following = level.following.get(name)
            if following is None:
                following = level.following[name] = _Level()
            level = following
        level.topic_filter = topic_filter

    def discard(self, topic_filter: str) -> None:
        """One that is not there is none."""
        path = []
        level = self._root
        for name in topic_filter.split("/"):
            following = level.following.get(name)
            if following is None:
                return
            path.append((level, name))
            level = following
        level.topic_filter = None
        for parent, name in reversed(path):
            if level.following or level.topic_filter is not None:
                return
            del parent.following[name]
            level = parent

    def matching(self, topic: str) -> list[str]:
        """The filters that match, in no order. Wildcards at the start do not match `$…` (4.7.2)."""
        names = topic.split("/")
        found: list[str] = []
        reached = [(self._root, 0)]
        while reached:
            level, depth = reached.pop()
            is_open = depth > 0 or not topic.startswith("$")
            rest = level.following.get("#") if is_open else None
            if rest is not None and rest.topic_filter is not None:
                found.append(rest.topic_filter)  # `a/#` matches `a` too (4.7.1.2)
            if depth == len(names):
                if level.topic_filter is not None:
                    found.append(level.topic_filter)
                continue
            for name in (names[depth], "+") if is_open else (names[depth],):
                following = level.following.get(name)
                if following is not None:
                    reached.append((following, depth + 1))
        return found
