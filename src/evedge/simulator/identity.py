"""Who a simulated device says it is: plausible, the same for the same seed, different for the next one. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

from evedge.core.profile import Profile, Register

_FIRMWARE = (1, 8, 32, 0, 4, 1, 0, 2)


def identity_text(profile: Profile, register: Register, seed: int) -> str | int:
    """The value for a register that is part of the identity. Tries shapes until the register holds one."""
    for text in _candidates(profile, register, seed):
        try:
            decoded = register.decode(register.encode(text))
        except ValueError:
            continue
        if decoded is not None:
            return text
    return serial_digits(seed) % 60_000


def serial_digits(seed: int) -> int:
    """Eight digits; neighbours among seeds never share them."""
    series = random.Random(f"{seed // 10_000}/series").randrange(1000, 9999)
    return series * 10_000 + seed % 10_000


def _candidates(profile: Profile, register: Register, seed: int) -> Iterator[str | int]:
    size = register.words * 2
    if register.identity == "firmware":
        for parts in (3, 4, 2, 1, 5, 6, 7, 8):
            yield ".".join(str(part) for part in _FIRMWARE[:parts])
        yield f"{10832:0{2 * size}d}"
        yield 10832
        return
    if register.identity in {"vendor", "model"}:
        text = profile.vendor if register.identity == "vendor" else profile.model
        characters = size // 2 if register.characters != "packed" else size
        yield text[: max(0, characters - len(register.prefix))]
    digits = serial_digits(seed)
    yield f"{''.join(filter(str.isalnum, profile.vendor))[:3].upper()}{digits:08d}"
    yield f"{digits:0{2 * size}d}"  # a register that is read as hexadecimal digits
    yield f"{digits:08d}"
    yield f"{digits % 10_000:04d}"
    yield f"{seed % 100:02d}"
    yield digits
