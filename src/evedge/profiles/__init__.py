"""The register maps that come with evedge, and the way to any other: a name, or the path of a TOML file."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from pathlib import Path

from evedge.core.errors import UsageError
from evedge.core.profile import Profile, ProfileError, load

_SUFFIX = ".toml"


def names() -> tuple[str, ...]:
    """The built-in profiles' names, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX)))


def load_profile(name_or_path: str) -> Profile:
    """A built-in profile by its name, or one from a file: anything with a path separator or ending in `.toml`.

    Raises ProfileError (a UsageError) with every mistake in the file, or UsageError with one line when there is none.
    """
    if "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith(_SUFFIX):
        return _from_file(Path(name_or_path))
    if name_or_path in names():
        return _built_in(name_or_path)
    near = [name for name in names() if name_or_path.lower() in name] if name_or_path else []
    near = near or difflib.get_close_matches(name_or_path, names(), n=1)
    hint = (
        f"did you mean {' or '.join(near[:3])}?"
        if near
        else "`evedge profiles` lists them; a file's path ends in .toml"
    )
    raise UsageError(f"there is no profile {name_or_path!r}; {hint}")


@cache
def _built_in(name: str) -> Profile:
    text = (resources.files(__name__) / f"{name}{_SUFFIX}").read_text(encoding="utf-8")
    return load(text, name)


def _from_file(path: Path) -> Profile:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the profile {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ProfileError(str(path), ["is not UTF-8 text"]) from None
    return load(text, path.stem)
