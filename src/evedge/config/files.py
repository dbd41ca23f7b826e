"""Reads what a configuration consists of: the TOML file, and the files that hold one secret each.

Whatever goes wrong is a few words that never repeat what stands in a file, and for a secret's file not its name either:
it might be the password itself.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from evedge.config.mistakes import ConfigError, Data, Mistake, quoted

_MAX_FILE_BYTES = 8 * 1_048_576
_MAX_SECRET_BYTES = 65_536


class SecretFileError(Exception):
    """Why a secret's file gave nothing: the rest of a sentence that begins with the key."""


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


def read_secret(file: Path) -> str:
    """The file's text without its last line break. Raises SecretFileError."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_SECRET_BYTES + 1)
        if len(raw) > _MAX_SECRET_BYTES:
            raise SecretFileError(f"names a file of more than {_MAX_SECRET_BYTES} bytes")
        return raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretFileError("names a file that is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise SecretFileError(f"cannot be read: {getattr(error, 'strerror', None) or 'is no file name'}") from None


def unreadable(path: Path) -> str | None:
    """Why a file that the configuration names cannot be read; None when it can."""
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'is no file name'}"
    return None
