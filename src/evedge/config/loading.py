"""From a file to a `Config`, or to every mistake at once.

`Settings` joins the sources and checks values by themselves. The ones that are wrong are then left out, and the rules
between values run over what remains: so one round shows all there is to correct.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from evedge.config.files import read_toml, unreadable
from evedge.config.mistakes import ConfigError, Data, Location, Mistake, looks_secret, nearest, shown
from evedge.config.rules import RULES, Rule
from evedge.config.schema import Kind, key_at, keys, secret_names, table_at
from evedge.config.settings import Settings
from evedge.config.sources import Gathering, copy_table
from evedge.config.tree import Config, Section

_ROUNDS = 8  # a value that is left out may leave its table incomplete, which then is left out: tables nest 3 deep

_GAP: dict[str, Data] = {}  # stands for a table that was left out of a list: what follows keeps its number

_WORDS = {
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "finite_number": "is not a number one can count with",
    "bool_type": "is not true or false",
    "string_type": "is not text",
    "path_type": "is not text",
    "tuple_type": "is not a list",
    "model_type": "is not a table",
    "too_short": "is empty",
    "literal_error": "is not known",
    "missing": "is missing",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
}


def load(path: Path, environ: Mapping[str, str] | None = None, *, rules: Sequence[Rule] = ()) -> Config:
    """The configuration in this file, with the environment (default: the process's) over it.

    rules: more of them, for what only others know, such as profiles. Raises ConfigError with every mistake.
    """
    data = read_toml(path)
    environ = os.environ if environ is None else environ
    return parse(data, base=path.parent.absolute(), environ=environ, rules=rules)


def parse(
    data: Mapping[str, Data],
    *,
    base: Path = Path("/"),
    environ: Mapping[str, str] | None = None,
    rules: Sequence[Rule] = (),
) -> Config:
    """The same for data that was read already. `base`: where relative paths start. The environment defaults to none."""
    return _Check(Gathering(data, base, environ or {}), [*RULES, *rules]).config()


class _Check:
    """One configuration on its way from its sources to the tree."""

    def __init__(self, gathering: Gathering, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._given = gathering
        self._mistakes: list[Mistake] = []
        self._left_out: set[Location] = set()
        self._kept: dict[Location, list[int]] = {}

    def config(self) -> Config:
        config: Config | None = None
        details: list[ErrorDetails] = []
        try:
            config = Settings(self._given)
        except ValidationError as error:
            details = _details(error)
        self._mistakes += self._given.mistakes
        self._left_out |= self._given.damaged
        if config is None:
            self._mistakes += self._field_mistakes(details)
            config = self._without(details)
        if config is not None:
            self._mistakes += self._between(config)
            self._mistakes += self._files(config)
        if self._mistakes or config is None:
            order = list(Config.model_fields)
            raise ConfigError(sorted(self._mistakes, key=lambda mistake: _order(mistake, order)))
        return config

    def _without(self, details: list[ErrorDetails]) -> Config | None:
        """The tree of what is right, for the rules to look at."""
        remaining = copy_table(self._given.data)
        for _ in range(_ROUNDS):
            for detail in details:
                self._leave_out(remaining, detail)
            self._kept = {}
            try:
                return Config.model_validate(self._without_gaps(remaining, ()))
            except ValidationError as error:
                details = _details(error)
        return None

    def _field_mistakes(self, details: list[ErrorDetails]) -> list[Mistake]:
        places = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
        unknown = {place: self._unknown(place) for place in places}
        meant = {(*place[:-1], mistake.suggestion) for place, mistake in unknown.items() if mistake.suggestion}
        self._left_out |= meant
        found = []
        lists = {detail["loc"][:-1] for detail in details if isinstance(detail["loc"][-1], int)}
        for detail in details:
            location = detail["loc"]
            if location in unknown:
                found.append(unknown[location])
                continue
            if detail["type"] == "missing" and location in meant:
                continue  # it is there under a wrong name
            if detail["type"] == "too_short" and location in lists:
                continue  # pydantic counts only the items that are right
            own = detail.get("ctx", {}).get("error")
            what = str(own) if own is not None else _WORDS.get(detail["type"], "is not allowed")
            found += [self._field_mistake(place, what) for place in _required_below(location, detail["type"])]
        return found

    def _field_mistake(self, location: Location, what: str) -> Mistake:
        key = key_at(location)
        return self._mistake(location, what, None if key is None else key.allowed(item=isinstance(location[-1], int)))

    def _unknown(self, location: Location) -> Mistake:
        table = table_at(location)
        known = list(keys(table)) if table is not None else []
        close = nearest(str(location[-1]), known)
        return self._mistake(location, "is not a known key", ", ".join(known), close)

    def _mistake(self, location: Location, what: str, allowed: str | None, suggestion: str | None = None) -> Mistake:
        given_by = self._given.given_by
        source = given_by.get(location)
        if source is None and location[:-1] in given_by and isinstance(location[-1], int):
            source = f"{given_by[location[:-1]]}[{location[-1]}]"
        return Mistake(location, what, self._shown(location), allowed, suggestion, source)

    def _shown(self, location: Location) -> str | None:
        value: Data | None = self._given.data
        for depth, part in enumerate(location, 1):
            if isinstance(part, str) and self._is_hidden(location[:depth]):
                return None
            value = _inner(value, part)
        key = key_at(location)
        is_table = key is not None and key.table is not None  # then whatever stands there has no key we know
        return None if value is None or is_table else shown(value)

    def _is_hidden(self, location: Location) -> bool:
        """Whether a key holds a secret, or the file of one (which might be the secret itself), or might."""
        name = str(location[-1])
        secrets = secret_names()
        return looks_secret(name, secrets) if key_at(location) is None else name.removesuffix("_file") in secrets

    # What remains without the mistakes

    def _without_gaps(self, value: Data, at: Location) -> Data:
        """A copy without the items that were left out; notes which ones stayed, because the rest moves up."""
        if isinstance(value, dict):
            return {name: self._without_gaps(item, (*at, name)) for name, item in value.items()}
        if isinstance(value, list):
            kept = [index for index, item in enumerate(value) if item is not _GAP]
            self._kept[at] = kept
            return [self._without_gaps(value[index], (*at, index)) for index in kept]
        return value

    def _original(self, location: Location) -> Location:
        """Where something stood before items were left out."""
        found: Location = ()
        for part in location:
            kept = self._kept.get(found, []) if isinstance(part, int) else []
            found = (*found, kept[part] if isinstance(part, int) and part < len(kept) else part)
        return found

    def _leave_out(self, remaining: dict[str, Data], detail: ErrorDetails) -> None:
        location = self._original(detail["loc"])
        self._left_out.add(location)
        if detail["type"] == "missing":
            location = location[:-1]
        key = key_at(location)
        if key is not None and key.kind is Kind.LIST:
            location = tuple(location[: location.index(key.name) + 1])
            self._left_out.add(location)
        if location in {(), ("gateway",), ("gateway", "id")}:
            gateway = remaining.get("gateway")
            remaining["gateway"] = {**(gateway if isinstance(gateway, dict) else {}), "id": "gateway"}
            self._left_out.add(("gateway", "id"))
            return
        parent: Data | None = remaining
        for part in location[:-1]:
            parent = _inner(parent, part)
        last = location[-1]
        if isinstance(parent, list) and isinstance(last, int):
            parent[last] = _GAP
        elif isinstance(parent, dict):
            parent.pop(str(last), None)

    # What needs the tree

    def _between(self, config: Config) -> list[Mistake]:
        found = []
        for finding in chain.from_iterable(rule(config) for rule in self._rules):
            involved = [self._original(location) for location in (finding.location, *finding.involved)]
            if not any(_within(place, gap) for place in involved for gap in self._left_out):
                found.append(self._mistake(involved[0], finding.what, finding.allowed))
        return found

    def _files(self, config: Config) -> list[Mistake]:
        found = []
        tables: dict[str, Section | None] = {"mqtt": config.mqtt, "kafka": config.kafka}
        for section, table in tables.items():
            known = keys(type(table)) if table is not None else {}
            for name in known:
                value = getattr(table, name)
                is_secret = name.removesuffix("_file") in known  # these were read already
                problem = unreadable(value) if isinstance(value, Path) and not is_secret else None
                if problem is not None:
                    found.append(self._mistake((section, name), problem, None))
        return found


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)  # the input may be a secret


def _required_below(location: Location, problem: str) -> list[Location]:
    """For a missing table its required keys: `gateway.id` says more than `gateway`."""
    key = key_at(location)
    if problem != "missing" or key is None or key.table is None:
        return [location]
    return [(*location, name) for name, below in keys(key.table).items() if below.is_required]


def _inner(value: Data | None, part: str | int) -> Data | None:
    """What stands under a key or at a place of a list; None where there is nothing."""
    if isinstance(value, dict) and isinstance(part, str):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _within(place: Location, gap: Location) -> bool:
    return place[: len(gap)] == gap or (len(place) > 1 and gap[: len(place)] == place)


def _order(mistake: Mistake, sections: list[str]) -> tuple[int, int]:
    """By section as documented, and by number within lists; what belongs to no section comes first."""
    location = mistake.location
    section = sections.index(str(location[0])) if location and location[0] in sections else -1
    return section, next((part for part in location if isinstance(part, int)), -1)
