"""A command's value, its checks, and its life as a transition table.

A command asks; what it asks for becomes part of a recharge point's desired state (`desired.py`); its life is what the
reconciler reports about that part. Exactly one step of a life is final. Two steps stand outside it and are never final:
`duplicate` (the id was seen before) and `lapsed` (the lease ran out, after the end).

Knows no clock (`now_ms` is given), no device and no Kafka.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeAlias

import msgspec

from evedge.core.errors import EvedgeError
from evedge.core.model import Value
from evedge.core.times import from_rfc3339

MAX_ID_CHARACTERS = 200


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
    """A command that passed its own checks. `current_a` is per phase; `lease_s` None: until it is replaced."""

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


class _RejectedError(EvedgeError):
    pass


def judge(value: bytes, rules: Rules, now_ms: int, *, issuer: str | None = None) -> Judged:
    """What a value from Kafka (or, with the user as `issuer`, from MQTT) is to this gateway."""
    try:
        fields = msgspec.json.decode(value, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Foreign(f"is not a JSON object: {error}")
    if fields.get("gateway") != rules.gateway:
        return Foreign(f"is for gateway {_shown(fields.get('gateway'))}")
    command_id, action = fields.get("id"), fields.get("action")
    if not isinstance(command_id, str) or not command_id or not isinstance(action, str) or not action:
        return Foreign("has no id or no action")
    recharge_point = fields.get("recharge_point")
    named = recharge_point if isinstance(recharge_point, str) else None
    try:
        command = _checked(fields, command_id, action, rules, issuer)
    except _RejectedError as reason:
        return Rejection(command_id[:MAX_ID_CHARACTERS], action[:MAX_ID_CHARACTERS], named, str(reason))
    forbidden = _forbidden(command, rules)
    if forbidden is not None:
        return Rejection(command.id, command.action, named, forbidden)
    if command.expires_at_ms <= now_ms:
        return Rejection(command.id, command.action, named, "expires_at is past", expired=True)
    if command.expires_at_ms > now_ms + rules.max_age_s * 1000:
        return Rejection(command.id, command.action, named, f"expires_at is more than {rules.max_age_s:g} s ahead")
    return command


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
    arguments = fields.get("arguments", {})
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
        purpose = Purpose(str(fields.get("purpose", Purpose.MARKET)))
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
    return lease_s or None


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _RejectedError(f"{name} is {_shown(value)}, not a number" if value is not None else f"{name} is missing")
    return float(value)


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
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
