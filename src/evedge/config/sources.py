"""Where values come from, as the sources that pydantic-settings joins in `Settings`: each gives what it knows.

In the order in which they win: the environment, the file, the files that `<key>_file` names, and
`$CREDENTIALS_DIRECTORY`. A source sees what those above it gave (`current_state`): so `sasl_password` or
`sasl_password_file` in the environment replaces both in the file, and a credential is looked for only where nothing
else gave the secret, in a table that is there. Relative paths, wherever they are given, start at the configuration
file's directory.

The library's own sources of these kinds are not used, because what we promise is stricter. EnvSettingsSource reads only
`os.environ`, takes "yes" for true and "1_000" for a number, stops at the first list that is no JSON, and does not know
the names it has no key for. TomlConfigSettingsSource passes over a file that is not there.
NestedSecretsSettingsSource reads every file of the directory, strips spaces that may belong to a password, and would
switch [kafka] on because its password is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from evedge.config.environment import PREFIX, from_text, keys_below, nearest_variable, variables
from evedge.config.files import SecretFileError, read_secret
from evedge.config.mistakes import Data, Location, Mistake
from evedge.config.schema import Key, Kind, keys
from evedge.config.tree import Config, Section


@dataclass(slots=True)
class Gathering:
    """What a configuration is gathered from, and what its sources note on the way.

    file: what the TOML file holds; base: its directory; environ: the environment. data: everything joined, as it went
    into the tree. given_by: the variable that gave a value. damaged: keys that would have a value if it could have been
    read; rules say nothing about them.
    """

    file: Mapping[str, Data]
    base: Path
    environ: Mapping[str, str]
    data: dict[str, Data] = field(default_factory=dict)
    given_by: dict[Location, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    damaged: set[Location] = field(default_factory=set)


class Source(PydanticBaseSettingsSource):
    """One of our sources. It gives the whole tree at once, and notes what is wrong instead of stopping there."""

    def __init__(self, settings_cls: type[BaseSettings], gathering: Gathering) -> None:
        super().__init__(settings_cls)
        self.gathering = gathering

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[None, str, bool]:  # noqa: ARG002
        """The library wants it in every source and calls it in none that answers for all fields at once."""
        return None, field_name, False

    def note(self, location: Location, what: str, allowed: str | None = None, source: str | None = None) -> None:
        self.gathering.mistakes.append(Mistake(location, what, allowed=allowed, source=source))

    def resolved(self, value: Data, key: Key) -> Data:
        """A relative path as an absolute one; anything else as it is."""
        if not isinstance(value, str) or not value:
            return value
        is_profile_file = key.name == "profile" and ("/" in value or value.endswith(".toml"))
        return str(self.gathering.base / value) if key.type is Path or is_profile_file else value

    def secret(self, location: Location, file: Path, named_by: Location, source: str | None) -> str | None:
        """What a secret's file holds; None, and a mistake, when it cannot be read."""
        try:
            return read_secret(file)
        except SecretFileError as error:
            self.gathering.damaged.add(location)
            self.note(named_by, str(error), source=source)
            return None

    def secret_beside(self, location: Location, values: Mapping[str, Data]) -> str | None:
        """What the file named by `<key>_file` holds, for the secret at `location` in the table `values`."""
        name = str(location[-1])
        file = values.get(f"{name}_file")
        if file is None:
            return None
        named_by = (*location[:-1], f"{name}_file")
        source = self.gathering.given_by.get(named_by)
        if name in values:
            self.note(named_by, f"stands beside {name}", "one of the two", source)
            return None
        return self.secret(location, Path(file), named_by, source) if isinstance(file, str) else None


class Environment(Source):
    """`EVEDGE__SECTION__KEY`, in any case. A name that stands for no key is a mistake, at every level."""

    def __call__(self) -> dict[str, Data]:
        named = self._named()
        values: dict[str, Data] = {}
        for location, (name, key) in named.items():
            secret = (*location[:-1], str(location[-1]).removesuffix("_file"))
            if secret != location and secret in named:
                self.note(location, f"stands beside {named[secret][0]}", "one of the two", name)
                continue
            _put(values, location, self.resolved(from_text(self.gathering.environ[name], key.kind), key))
            self.gathering.given_by[location] = name
        return values

    def _named(self) -> dict[Location, tuple[str, Key]]:
        """Each key that is given, with its variable."""
        known = variables()
        named: dict[Location, tuple[str, Key]] = {}
        for name in sorted(name for name in self.gathering.environ if name.upper().startswith(PREFIX)):
            if name.upper() not in known:
                close = nearest_variable(name, known)
                what = "names no key of the configuration"
                self.gathering.mistakes.append(Mistake((), what, suggestion=close, source=name))
                continue
            location, key = known[name.upper()]
            if key.kind is Kind.TABLE:
                example = next(keys_below(name, known), "the file")
                self.note(location, "names a table", f"one key of it, such as {example}", name)
            elif key.kind is Kind.TABLES:
                self.note(location, "names a list of tables, which only the file can give", source=name)
            elif location in named:
                self.note(location, f"is given as {named[location][0]} too", source=name)
            else:
                named[location] = (name, key)
        return named


class TomlFile(Source):
    """What the configuration file holds, without the secrets that the environment replaces.

    The library joins tables and takes lists as wholes, so a lower source cannot add to a table in a list: the secrets
    of those are read here.
    """

    def __call__(self) -> dict[str, Data]:
        data = copy_table(self.gathering.file)
        for location, table, values in _tables(data):
            above = _table_in(self.current_state, location)
            for key in keys(table).values():
                at = (*location, key.name)
                if key.kind is Kind.SECRET and above.keys() & {key.name, f"{key.name}_file"}:
                    values.pop(key.name, None)
                    values.pop(f"{key.name}_file", None)
                elif key.kind is Kind.TABLE and key.name in above and not isinstance(values.get(key.name, {}), dict):
                    # joined, the environment's part of this table would hide that the file has no table there
                    self.note(at, "is not a table")
                    self.gathering.damaged.add(at)
                elif key.name in values:
                    values[key.name] = self.resolved(values[key.name], key)
            if _is_in_list(location):
                values.update(_secrets(self, location, table, values))
        return data


class SecretFiles(Source):
    """The secrets in the files that `<key>_file` names, wherever that was given."""

    def __call__(self) -> dict[str, Data]:
        found: dict[str, Data] = {}
        for location, table, values in _tables(self.current_state):
            if not _is_in_list(location):
                for name, text in _secrets(self, location, table, values).items():
                    _put(found, (*location, name), text)
        return found


class Credentials(Source):
    """Files of `$CREDENTIALS_DIRECTORY` (systemd's LoadCredential=), each named by its key: `kafka.sasl_password`.

    For secrets, and for the paths of private keys. They complete a table that is given, and switch none on.
    """

    def __call__(self) -> dict[str, Data]:
        found: dict[str, Data] = {}
        directory = self.gathering.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            return found
        for location, table, values in _tables(self.current_state):
            for key in keys(table).values():
                at = (*location, key.name)
                file = Path(directory) / ".".join(map(str, at))
                if _is_in_list(at) or not _takes_credential(key, values) or not file.exists():
                    continue
                given_by = f"$CREDENTIALS_DIRECTORY/{file.name}"
                value = str(file) if key.type is Path else self.secret(at, file, at, given_by)
                if value is not None:
                    _put(found, at, value)
        return found


class Joined(Source):
    """The last one: gives nothing, and notes what all the others together gave, for the messages about it."""

    def __call__(self) -> dict[str, Data]:
        self.gathering.data = self.current_state
        return {}


def copy_table(value: Mapping[str, Data]) -> dict[str, Data]:
    """A copy, also of all tables and lists in it."""

    def copy(item: Data) -> Data:
        if isinstance(item, dict):
            return {name: copy(inner) for name, inner in item.items()}
        return [copy(inner) for inner in item] if isinstance(item, list) else item

    return {name: copy(item) for name, item in value.items()}


def _tables(data: dict[str, Data]) -> Iterator[tuple[Location, type[Section], dict[str, Data]]]:
    """Every table that is given, with the type it has in the tree."""
    pending: list[tuple[Location, type[Section], Data]] = [((), Config, data)]
    while pending:
        location, table, values = pending.pop()
        if not isinstance(values, dict):
            continue
        yield location, table, values
        for key in keys(table).values():
            if key.table is None or key.name not in values:
                continue
            inner = values[key.name]
            if key.kind is Kind.TABLE:
                pending.append(((*location, key.name), key.table, inner))
            elif isinstance(inner, list):
                pending += [((*location, key.name, index), key.table, item) for index, item in enumerate(inner)]


def _table_in(data: Data, location: Location) -> Mapping[str, Data]:
    """The table at a location; an empty one where there is none."""
    for part in location:
        data = data.get(part, {}) if isinstance(data, dict) and isinstance(part, str) else {}
    return data if isinstance(data, dict) else {}


def _put(data: dict[str, Data], location: Location, value: Data) -> None:
    *tables, name = map(str, location)
    for table in tables:
        inner = data.setdefault(table, {})
        assert isinstance(inner, dict)  # noqa: S101 -- a source puts values under tables only
        data = inner
    data[name] = value


def _is_in_list(location: Location) -> bool:
    return any(isinstance(part, int) for part in location)


def _secrets(source: Source, location: Location, table: type[Section], values: Mapping[str, Data]) -> dict[str, Data]:
    """The secrets of one table that stand in files of their own."""
    names = [key.name for key in keys(table).values() if key.kind is Kind.SECRET]
    found = {name: source.secret_beside((*location, name), values) for name in names}
    return {name: text for name, text in found.items() if text is not None}


def _takes_credential(key: Key, values: Mapping[str, Data]) -> bool:
    if key.kind is Kind.SECRET:
        return key.name not in values and f"{key.name}_file" not in values
    return key.type is Path and key.name.endswith("key_file") and key.name not in values
