"""Who a CONNECT comes from, and what they may do.

By the common name of a client certificate where a user has it, by user name and password otherwise, or as nobody where
anonymous clients are allowed. There too a configured user's name needs that user's password: agents own topics by it.

A refusal tells nothing: an unknown user and a wrong password get the same answer after the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evedge.core.rights import EVERYTHING, Rights
from evedge.links.mqtt_frames import Connect, ReturnCode
from evedge.links.mqtt_protocols import User
from evedge.links.passwords import Busy, PasswordChecker


@dataclass(frozen=True, slots=True)
class Grant:
    """Let in, as this user (None: anonymous), with these rights."""

    user: str | None
    rights: Rights


class Logins:
    """The configured users. `close` ends the checks."""

    def __init__(self, users: Sequence[User], *, allow_anonymous: bool) -> None:
        self._by_name = {user.name: user for user in users}
        self._by_common_name = {user.tls_common_name: user for user in users if user.tls_common_name is not None}
        self._allow_anonymous = allow_anonymous
        hashes = [user.password_hash for user in users if user.password_hash is not None]
        self._checker = PasswordChecker(decoy=hashes[0] if hashes else None)

    def at_once(self, connect: Connect, common_name: str | None) -> Grant | ReturnCode | None:
        """The decision; None when it takes a password check: ask `checked`."""
        by_certificate = self._by_common_name.get(common_name) if common_name is not None else None
        if by_certificate is not None and connect.username in {None, by_certificate.name}:
            return self._grant(by_certificate)
        if connect.username is None:
            return Grant(None, EVERYTHING) if self._allow_anonymous else ReturnCode.NOT_AUTHORISED
        user = self._by_name.get(connect.username)
        if user is None and self._allow_anonymous:
            return Grant(None, EVERYTHING)
        if connect.password is None:
            return ReturnCode.BAD_USER_OR_PASSWORD
        known_hash = user.password_hash if user is not None else None
        remembered = self._checker.remembered(connect.username, known_hash, connect.password)
        if remembered is None:
            return None
        return self._answer(user, right=remembered)

    async def checked(self, connect: Connect) -> Grant | ReturnCode:
        """The decision after a password check in a thread."""
        name = connect.username or ""
        user = self._by_name.get(name)
        known_hash = user.password_hash if user is not None else None
        try:
            right = await self._checker.check(name, known_hash, connect.password or b"")
        except Busy:
            return ReturnCode.UNAVAILABLE
        return self._answer(user, right=right)

    def close(self) -> None:
        self._checker.close()

    def _answer(self, user: User | None, *, right: bool) -> Grant | ReturnCode:
        return self._grant(user) if user is not None and right else ReturnCode.BAD_USER_OR_PASSWORD

    def _grant(self, user: User) -> Grant:
        return Grant(user.name, EVERYTHING if self._allow_anonymous else user.rights)
