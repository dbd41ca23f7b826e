"""Passwords: hashed with Argon2id, checked in threads, few at a time.

A check costs memory and tens of milliseconds on purpose. So nothing is checked on the event loop, at most `WORKERS` run
at once, and the queue before them is bounded: who comes when it is full is told to come again. What was checked is
remembered by a digest under a key that lives and ends with this process, so that a thousand clients that come back
after a power cut cost one check each, and a client that insists on a wrong password costs one.

Does not know users' rights or MQTT.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError

WORKERS = 2
MAX_WAITING = 256
_MAX_WRONG = 1000
MAX_PASSWORD_BYTES = 1024

# OWASP's first choice for Argon2id: 19 MiB, two passes, one lane. The library's default takes 64 MiB, more than the
# whole gateway is meant to.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$WUnUHBrNfKb7OJqtETd/Ig$SsH4oLdpvkmsBpPGRK1kXM4biM2hkCJLeKx4IDq4/Bc"


class Busy(Exception):  # noqa: N818 -- it names a condition
    """More checks wait than there is room for. Come again."""


def hash_password(password: str) -> str:
    """The hash for `password_hash` in `[[mqtt.users]]`."""
    return _HASHER.hash(password)


def hash_problem(password_hash: str) -> str | None:
    """What is wrong with a `password_hash`; None when nothing is."""
    try:
        parameters = argon2.extract_parameters(password_hash)
    except InvalidHashError:
        return "is not an Argon2 hash: `evedge hash-password` makes one"
    if parameters.type is not argon2.Type.ID:
        return "is not of the kind Argon2id: `evedge hash-password` makes one"
    return None


class PasswordChecker:
    """Checks passwords against hashes.

    Invariants: at most `WORKERS` checks run and `max_waiting` wait; one right password is remembered per user, and a
    bounded number of wrong ones.
    """

    def __init__(self, decoy: str | None = None, max_waiting: int = MAX_WAITING) -> None:
        """decoy: any real user's hash. Who names an unknown user is checked against it, and it takes as long."""
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="password")
        self._max_waiting = max_waiting
        self._under_way = 0
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._decoy = decoy or _NOBODY

    def __repr__(self) -> str:
        return f"<PasswordChecker {self._under_way} under way, {len(self._right)} users remembered>"

    def remembered(self, user: str, password_hash: str | None, password: bytes) -> bool | None:
        """What a check would say, where one was made before; None where it must be made."""
        digest = self._digest(user, password_hash, password)
        known = self._right.get(user)
        if known is not None and secrets.compare_digest(known, digest):
            return True
        return False if digest in self._wrong else None

    async def check(self, user: str, password_hash: str | None, password: bytes) -> bool:
        """Whether it is this user's password. password_hash None: no such user, at the same cost. Raises Busy."""
        if self._under_way >= WORKERS + self._max_waiting:
            raise Busy
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._threads, _matches, password_hash or self._decoy, password)
        finally:
            self._under_way -= 1
        right = right and password_hash is not None
        digest = self._digest(user, password_hash, password)
        if right:
            self._right[user] = digest
        else:
            self._wrong[digest] = None
            if len(self._wrong) > _MAX_WRONG:
                self._wrong.popitem(last=False)
        return right

    def close(self) -> None:
        """Checks that have not begun are given up. May be called twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _digest(self, user: str, password_hash: str | None, password: bytes) -> bytes:
        # The hash is part of it: a user who was given a new one is not let in with the old password.
        parts = (user.encode(), (password_hash or "").encode(), password)
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()


def _matches(password_hash: str, password: bytes) -> bool:
    if len(password) > MAX_PASSWORD_BYTES:
        return False
    try:
        return _HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False
