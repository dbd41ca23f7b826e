"""Where values come from: the file, over it the environment, and for secrets files of their own.

For one key the environment wins over the file. A secret is looked for as the value itself, then as `<key>_file`, then
as a file named by its key (`kafka.sasl_password`) in `$CREDENTIALS_DIRECTORY`; the value and `<key>_file` side by side
are a mistake, but one of them in the environment replaces both in the file. Relative paths, wherever they are given,
start at the configuration file's directory.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evedge.config.mistakes import ConfigError, Data, Location, Mistake, nearest, quoted
from evedge.config.schema import Key, Kind, keys
from evedge.config.tree import Config, Section

PREFIX = "EVEDGE__"
_MAX_FILE_BYTES = 8 * 1_048_576
_MAX_SECRET_BYTES = 65_536
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(slots=True)
class Gathered:
    """Plain data in the shape of the tree, which environment variable gave what, and what went wrong on the way.

    damaged: keys that would have a value if it could have been read; rules say nothing about them.
    """

    data: dict[str, Data]
    given_by: dict[Location, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    damaged: set[Location] = field(default_factory=set)


def read_toml(path: Path) -> dict[str, Data]:
    """The file as plain data. Raises ConfigError with one line."""
    name = str(path) if str(path).isprintable() else quoted(str(path))

    def refuse(what: str) -> ConfigError:
        return ConfigError([Mistake((), what, source=name)])

    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise refuse("does not exist") from None
    except IsADirectoryError:
        raise refuse("is a directory; name the file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > _MAX_FILE_BYTES:
        raise refuse(f"is larger than {_MAX_FILE_BYTES} bytes")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))  # with a byte order mark where an editor wrote one
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise refuse(f"line {line}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise refuse(_toml_problem(str(error))) from None
    except RecursionError:
        raise refuse("is nested too deep") from None
    except ValueError:
        raise refuse("is not TOML: a number has too many digits") from None


def _toml_problem(message: str) -> str:
    """`Invalid value (at line 3, column 5)` to `line 3, column 5: invalid value`."""
    match = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", message, re.DOTALL)
    if match is None:
        return f"is not TOML: {quoted(message)}"
    what = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in match[1])
    return f"{match[2]}: is not TOML: {what[:1].lower()}{what[1:]}"


def gather(data: Mapping[str, Data], base: Path, environ: Mapping[str, str]) -> Gathered:
    """Everything that is given for a configuration whose file stands in `base` and holds `data`."""
    gathered = Gathered(copy_table(data))
    _add_environment(gathered, environ)
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    for location, table, values in list(_tables(gathered.data)):
        for key in keys(table).values():
            _resolve_path(values, key, base)
        in_list = any(isinstance(part, int) for part in location)
        for key in keys(table).values():
            if credentials and not in_list and _takes_credential(key, values):
                _add_credential(gathered, (*location, key.name), key, values, Path(credentials))
            if key.kind is Kind.SECRET:
                _add_secret_file(gathered, (*location, key.name), values)
    return gathered


def copy_table(value: Mapping[str, Data]) -> dict[str, Data]:
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


# The environment


def variables() -> dict[str, tuple[Location, Key]]:
    """Every variable that can be given, with what it stands for."""
    found: dict[str, tuple[Location, Key]] = {}

    def walk(at: tuple[str, ...], table: type[Section]) -> None:
        for key in keys(table).values():
            location = (*at, key.name)
            found[PREFIX + "__".join(location).upper()] = (location, key)
            if key.kind is Kind.TABLE and key.table is not None:
                walk(location, key.table)

    walk((), Config)
    return found


def _add_environment(gathered: Gathered, environ: Mapping[str, str]) -> None:
    known = variables()
    names = sorted(name for name in environ if name.upper().startswith(PREFIX))
    given: dict[Location, str] = {}
    for name in names:
        if name.upper() not in known:
            close = nearest_variable(name, known)
            gathered.mistakes.append(Mistake((), "names no key of the configuration", suggestion=close, source=name))
            continue
        location, key = known[name.upper()]
        if key.kind in {Kind.TABLE, Kind.TABLES}:
            what = "names a table" if key.kind is Kind.TABLE else "names a list of tables, which only the file can give"
            allowed = f"one key of it, such as {next(iter(_keys_below(name, known)), 'the file')}"
            gathered.mistakes.append(
                Mistake(location, what, allowed=allowed if key.kind is Kind.TABLE else None, source=name)
            )
            continue
        if location in given:
            gathered.mistakes.append(Mistake(location, f"is given as {given[location]} too", source=name))
            continue
        given[location] = name
        _set(gathered, location, key, environ[name], name)
    for location, name in given.items():
        partner = _partner(location)
        if partner in given and str(location[-1]).endswith("_file"):
            gathered.mistakes.append(
                Mistake(location, f"stands beside {given[partner]}", allowed="one of the two", source=name)
            )
        if partner not in given or str(partner[-1]).endswith("_file"):
            _delete(gathered.data, partner)


def nearest_variable(name: str, known: Mapping[str, object]) -> str | None:
    """The variable that was probably meant, in capitals as they are documented."""
    close = nearest(name[len(PREFIX) :], [variable[len(PREFIX) :].casefold() for variable in known])
    return None if close is None else PREFIX + close.upper()


def _keys_below(name: str, known: Mapping[str, object]) -> Iterator[str]:
    return (variable for variable in known if variable.startswith(name.upper() + "__"))


def _set(gathered: Gathered, location: Location, key: Key, text: str, name: str) -> None:
    table: Data = gathered.data
    for part in location[:-1]:
        if not isinstance(table, dict):
            return  # the file has something else there, which is a mistake of its own
        table = table.setdefault(str(part), {})
    if isinstance(table, dict):
        table[key.name] = from_text(text, key.kind)
        gathered.given_by[location] = name


def _delete(data: dict[str, Data], location: Location) -> None:
    table: Data = data
    for part in location[:-1]:
        table = table.get(str(part), {}) if isinstance(table, dict) else {}
    if isinstance(table, dict):
        table.pop(str(location[-1]), None)


def _partner(location: Location) -> Location:
    """`sasl_password` for `sasl_password_file`, and the other way round."""
    name = str(location[-1])
    return (*location[:-1], name.removesuffix("_file") if name.endswith("_file") else f"{name}_file")


def from_text(text: str, kind: Kind) -> Data:
    """What a variable's text means for a key of this kind; the text itself, to be refused, where it means nothing."""
    if kind is Kind.WHOLE and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if kind is Kind.NUMBER and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?", text):
        return float(text)
    if kind is Kind.TRUTH:
        return _TRUTHS.get(text.casefold(), text)
    if kind is Kind.LIST:
        if text.lstrip().startswith("["):
            try:
                items = json.loads(text)
            except (ValueError, RecursionError):
                return text
            return items if isinstance(items, list) else text
        return [item.strip() for item in text.split(",")] if text.strip() else []
    return text


# Files


def _resolve_path(values: dict[str, Data], key: Key, base: Path) -> None:
    value = values.get(key.name)
    if not isinstance(value, str) or not value:
        return
    is_profile_file = key.name == "profile" and ("/" in value or value.endswith(".toml"))
    if key.type is Path or is_profile_file:
        values[key.name] = str(base / value)


def _takes_credential(key: Key, values: Mapping[str, Data]) -> bool:
    if key.kind is Kind.SECRET:
        return key.name not in values and f"{key.name}_file" not in values
    return key.type is Path and key.name.endswith("key_file") and key.name not in values


def _add_credential(
    gathered: Gathered, location: Location, key: Key, values: dict[str, Data], credentials: Path
) -> None:
    file = credentials / ".".join(map(str, location))
    if not file.exists():
        return
    if key.type is Path:
        values[key.name] = str(file)
    else:
        _read_secret(
            gathered, location, values, file, Mistake(location, "", source=f"$CREDENTIALS_DIRECTORY/{file.name}")
        )


def _add_secret_file(gathered: Gathered, location: Location, values: dict[str, Data]) -> None:
    name = str(location[-1])
    file = values.get(f"{name}_file")
    if file is None:
        return
    at = (*location[:-1], f"{name}_file")
    source = gathered.given_by.get(at)
    if name in values:
        gathered.mistakes.append(Mistake(at, f"stands beside {name}", allowed="one of the two", source=source))
        return
    if isinstance(file, str):
        _read_secret(gathered, location, values, Path(file), Mistake(at, "", source=source))


def _read_secret(gathered: Gathered, location: Location, values: dict[str, Data], file: Path, mistake: Mistake) -> None:
    """The file's text without its last line break. Mistakes name the file only by its key: it might be a password."""
    what: str | None = None
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_SECRET_BYTES + 1)
        if len(raw) > _MAX_SECRET_BYTES:
            what = f"names a file of more than {_MAX_SECRET_BYTES} bytes"
        else:
            values[str(location[-1])] = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        what = "names a file that is not UTF-8 text"
    except (OSError, ValueError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or 'is no file name'}"
    if what is not None:
        gathered.damaged.add(location)
        gathered.mistakes.append(Mistake(mistake.location, what, source=mistake.source))


def unreadable(path: Path) -> str | None:
    """Why a file that the configuration names cannot be read; None when it can."""
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'is no file name'}"
    return None
