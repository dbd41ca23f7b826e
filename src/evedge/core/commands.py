"""A command's value, its checks, and its life as a transition table.

A command asks; what it asks for becomes part of a recharge point's desired state (`desired.py`); its life is what the
reconciler reports about that part. Exactly one step of a life is final. Two steps stand outside it and are never final:
`duplicate` (the id was seen before) and `lapsed` (the lease ran out, after the end).

Knows no clock (`now_ms` is given), no device and no Kafka.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeAlias

import msgspec

from evedge.core.errors import EvedgeError
from evedge.core.model import Value
from evedge.core.times import from_rfc3339, to_rfc3339

MAX_ID_CHARACTERS = 200
MAX_LEASE_S = 10 * 365 * 86_400
"""Ten years: far enough for anybody, and near enough for a time to be written down."""


class Action(StrEnum):
    """What a command may ask for in this version."""

    SET_CURRENT_LIMIT = "set_current_limit"
    PAUSE = "pause"
    RESUME = "resume"
    PING = "ping"


GATEWAY_ACTIONS = frozenset({Action.PING})


class Purpose(StrEnum):
    """Why a limit is asked for. Each purpose holds one limit per recharge point; the lowest of them applies."""

    GRID = "grid"
    SITE = "site"
    MARKET = "market"
    USER = "user"


class Step(StrEnum):
    """One step of a command's life; the `state` of a result."""

    ACCEPTED = "accepted"
    WRITTEN = "written"
    VERIFIED = "verified"
    EFFECTIVE = "effective"
    NOT_EFFECTIVE = "not_effective"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    LAPSED = "lapsed"


ENDS = frozenset({Step.EFFECTIVE, Step.NOT_EFFECTIVE, Step.REJECTED, Step.EXPIRED, Step.SUPERSEDED, Step.FAILED})
"""Steps that always end a life. `written` and `verified` end it where nothing more can be found out."""

TRANSITIONS: Mapping[Step | None, frozenset[Step]] = {
    None: frozenset({Step.ACCEPTED, Step.REJECTED, Step.EXPIRED}),
    Step.ACCEPTED: frozenset({Step.WRITTEN, Step.VERIFIED, Step.EXPIRED, Step.SUPERSEDED, Step.FAILED}),
    Step.WRITTEN: frozenset({Step.VERIFIED, Step.SUPERSEDED, Step.FAILED}),
    Step.VERIFIED: frozenset({Step.EFFECTIVE, Step.NOT_EFFECTIVE, Step.SUPERSEDED, Step.FAILED}),
}


def may_follow(before: Step | None, after: Step) -> bool:
    """Whether a life may go from one step to the next."""
    return after in TRANSITIONS.get(before, frozenset())


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command that passed its own checks. `current_a` is per phase; `lease_s` None: until it is replaced.

    accepted_at_ms: when its recharge point took it, which is when its lease begins; None until then.
    """

    id: str
    gateway: str
    recharge_point: str | None
    action: Action
    issued_at_ms: int | None
    expires_at_ms: int
    lease_s: float | None
    issuer: str | None
    purpose: Purpose
    current_a: float | None = None
    accepted_at_ms: int | None = None

    @property
    def lease_ends_at_ms(self) -> int | None:
        """When the lease of an accepted command runs out; None: never."""
        if self.lease_s is None or self.accepted_at_ms is None:
            return None
        return self.accepted_at_ms + round(self.lease_s * 1000)

    @property
    def write_before_ms(self) -> int:
        """From when on it may not be written any more: it expired, or nothing of its lease is left."""
        ends_at_ms = self.lease_ends_at_ms
        return self.expires_at_ms if ends_at_ms is None else min(self.expires_at_ms, ends_at_ms)


class CommandResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a command's life, as it goes to Kafka and MQTT."""

    id: str
    gateway: str
    action: str
    state: Step
    final: bool
    at: str
    recharge_point: str | None = None
    reason: str | None = None
    details: dict[str, Value] = {}


@dataclass(frozen=True, slots=True)
class Rejection:
    """A value that asks this gateway for something it will not do; it gets a result that says why."""

    id: str
    action: str
    recharge_point: str | None
    reason: str
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value that is no command to this gateway: another one's, or nothing that can be answered."""

    reason: str


Judged: TypeAlias = Command | Rejection | Foreign


@dataclass(frozen=True, slots=True)
class IssuerRights:
    """What one issuer may ask for. `recharge_points` are globs; `signed`: only with a signature."""

    purposes: frozenset[str]
    recharge_points: tuple[str, ...]
    actions: frozenset[str]
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about commands. `issuers` empty: whoever may write to the topic may command."""

    gateway: str
    recharge_points: frozenset[str]
    default_lease_s: float
    max_age_s: float
    issuers: Mapping[str, IssuerRights] = field(default_factory=dict)


class _CommandText(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    gateway: str
    action: Action
    arguments: dict[str, Value]
    expires_at: str
    lease_s: float
    purpose: Purpose
    recharge_point: str | None = None
    issued_at: str | None = None
    issuer: str | None = None


def encode_command(command: Command) -> bytes:
    """The value of a command that was judged, for an agent: what was left out stands in it as it was understood."""
    lease_s = command.lease_s or 0.0
    return msgspec.json.encode(
        _CommandText(
            id=command.id,
            gateway=command.gateway,
            recharge_point=command.recharge_point,
            action=command.action,
            arguments={} if command.current_a is None else {"current_a": command.current_a},
            issued_at=None if command.issued_at_ms is None else to_rfc3339(command.issued_at_ms),
            expires_at=to_rfc3339(command.expires_at_ms),
            lease_s=lease_s,
            issuer=command.issuer,
            purpose=command.purpose,
        )
    )


class _RejectedError(EvedgeError):
    pass


def judge(value: bytes, rules: Rules, now_ms: int, *, issuer: str | None = None, only_for: str | None = None) -> Judged:
    """What a value from Kafka is to this gateway, or from MQTT: then `issuer` is the user, and `only_for` the recharge
    point on whose topic it was published, as the user's rights say no more than that.
    """
    fields, problem = _fields(value)
    if fields is None:
        return Foreign(f"is not a JSON object: {problem}")
    if fields.get("gateway") != rules.gateway:
        return Foreign(f"is for gateway {_shown(fields.get('gateway'))}")
    command_id, action = _named(fields.get("id")), _named(fields.get("action"))
    if not command_id or not action:
        return Foreign("has no id or no action")
    recharge_point = fields.get("recharge_point")
    named = _named(recharge_point) if isinstance(recharge_point, str) else None
    try:
        if only_for is not None and recharge_point != only_for:
            raise _RejectedError(f"recharge_point is {_shown(recharge_point)}, and the topic is that of {only_for}")
        if problem is not None:
            raise _RejectedError(f"the value holds what no JSON can say: {problem}")
        command = _checked(fields, command_id, action, rules, issuer)
    except _RejectedError as reason:
        shown = named[:MAX_ID_CHARACTERS] if named is not None else None
        return Rejection(command_id[:MAX_ID_CHARACTERS], action[:MAX_ID_CHARACTERS], shown, str(reason))
    forbidden = _forbidden(command, rules)
    if forbidden is not None:
        return Rejection(command.id, command.action, named, forbidden)
    if command.expires_at_ms <= now_ms:
        return Rejection(command.id, command.action, named, "expires_at is past", expired=True)
    if command.expires_at_ms > now_ms + rules.max_age_s * 1000:
        return Rejection(command.id, command.action, named, f"expires_at is more than {rules.max_age_s:g} s ahead")
    return command


def _fields(value: bytes) -> tuple[Mapping[str, object] | None, str | None]:
    """A JSON object's fields, and what is wrong with it. Of a name that comes twice the last counts."""
    try:
        return msgspec.json.decode(value, type=dict[str, object]), None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = str(error)
    try:
        # NaN, numbers beyond every float, lone surrogates: a sender who can be told from it gets an answer to those.
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    return (found if isinstance(found, dict) else None), problem


def _named(value: object) -> str | None:
    """An id or an action as it can be answered to, if at all; whether it is one is checked later."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()  # a lone surrogate can be neither written nor sent
    return str(value)[: MAX_ID_CHARACTERS + 1] if isinstance(value, bool | float | int) else None


def _forbidden(command: Command, rules: Rules) -> str | None:
    if not rules.issuers:
        return None
    issuer = _shown(command.issuer)
    rights = rules.issuers.get(command.issuer or "")
    if rights is None:
        return f"issuer {issuer} is not one of the issuers configured"
    if rights.signed:
        return f"issuer {issuer} must sign its commands, and this version cannot check signatures"
    if command.action not in rights.actions:
        return f"issuer {issuer} may not {command.action}"
    if command.purpose not in rights.purposes:
        return f"issuer {issuer} may not act for purpose {command.purpose}"
    if command.recharge_point is not None and not any(
        fnmatchcase(command.recharge_point, pattern) for pattern in rights.recharge_points
    ):
        return f"issuer {issuer} may not touch {command.recharge_point}"
    return None


def _checked(
    fields: Mapping[str, object], command_id: str, action_name: str, rules: Rules, issuer: str | None
) -> Command:
    for name, text in (("id", command_id), ("action", action_name)):
        if fields.get(name) != text:
            raise _RejectedError(f"{name} is {_shown(fields.get(name))}, not text")
    if len(command_id) > MAX_ID_CHARACTERS:
        raise _RejectedError(f"id is longer than {MAX_ID_CHARACTERS} characters")
    if action_name not in set(Action):
        raise _RejectedError(f"action {_shown(action_name)} is not known; this version knows {', '.join(Action)}")
    action = Action(action_name)
    recharge_point = fields.get("recharge_point")
    if action in GATEWAY_ACTIONS:
        if recharge_point is not None:
            raise _RejectedError(f"{action} is for the gateway: leave recharge_point out")
    elif not isinstance(recharge_point, str):
        raise _RejectedError(f"{action} needs a recharge_point")
    elif recharge_point not in rules.recharge_points:
        raise _RejectedError(f"recharge_point {_shown(recharge_point)} is not known here")
    arguments = {} if fields.get("arguments") is None else fields["arguments"]
    if not isinstance(arguments, dict):
        raise _RejectedError("arguments is not an object")
    wanted = {"current_a"} if action is Action.SET_CURRENT_LIMIT else set()
    for name in arguments:
        if name not in wanted:
            raise _RejectedError(f"argument {_shown(name)} is not known to {action}")
    current_a = None
    if action is Action.SET_CURRENT_LIMIT:
        current_a = _number(arguments.get("current_a"), "arguments.current_a")
        if current_a < 0:
            raise _RejectedError("arguments.current_a is negative")
    try:
        purpose = Purpose.MARKET if fields.get("purpose") is None else Purpose(str(fields["purpose"]))
    except ValueError:
        raise _RejectedError(f"purpose {_shown(fields['purpose'])} is none of {', '.join(Purpose)}") from None
    named_issuer = issuer if issuer is not None else fields.get("issuer")
    if named_issuer is not None and not isinstance(named_issuer, str):
        raise _RejectedError("issuer is not text")
    issued_at_ms = None if fields.get("issued_at") is None else _time(fields["issued_at"], "issued_at")
    return Command(
        id=command_id,
        gateway=rules.gateway,
        recharge_point=recharge_point if isinstance(recharge_point, str) else None,
        action=action,
        issued_at_ms=issued_at_ms,
        expires_at_ms=_time(fields.get("expires_at"), "expires_at"),
        lease_s=_lease(fields.get("lease_s"), action, rules),
        issuer=named_issuer,
        purpose=purpose,
        current_a=current_a,
    )


def _lease(value: object, action: Action, rules: Rules) -> float | None:
    if value is None:
        # A pause holds until resume unless it says otherwise: nobody is surprised by a car that starts by itself.
        return rules.default_lease_s or None if action is Action.SET_CURRENT_LIMIT else None
    lease_s = _number(value, "lease_s")
    if lease_s < 0:
        raise _RejectedError("lease_s is negative")
    if lease_s > MAX_LEASE_S:
        raise _RejectedError(f"lease_s is more than {MAX_LEASE_S} s; 0 means until it is replaced")
    return lease_s or None


def _number(value: object, name: str) -> float:
    if value is None:
        raise _RejectedError(f"{name} is missing")
    try:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError  # noqa: TRY004 -- one answer for everything that is no number
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise _RejectedError(f"{name} is {_shown(value)}, not a number that can be used") from None
    return number


def _time(value: object, name: str) -> int:
    if value is None:
        raise _RejectedError(f"{name} is missing")
    try:
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004 -- one answer for every wrong time
        return from_rfc3339(value)
    except ValueError:
        raise _RejectedError(f"{name} is {_shown(value)}, not an RFC 3339 time such as 2026-11-23T09:00:00Z") from None


def _shown(value: object) -> str:
    """For a reason: short, and without what cannot be sent."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:  # Python shows no integers of thousands of digits
        text = "a number of thousands of digits"
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
