"""What of a status differs from an earlier one, for those who already hold that one. Pure.

Ages and uptimes grow by themselves: whoever holds a status counts them on, so they alone are no change.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from evedge.core.model import Alert
from evedge.core.status import GatewayNow, LinksNow, Queue, RechargePointNow, Status

PointChange: TypeAlias = dict[str, object]
"""A recharge point's `id`, its `age_s`, and those fields of `RechargePointNow` that are new, each whole."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a status that are new. `recharge_points`: only those that changed; the other parts are whole."""

    gateway: GatewayNow | UnsetType = UNSET
    recharge_points: list[PointChange] | UnsetType = UNSET
    links: LinksNow | UnsetType = UNSET
    queues: list[Queue] | UnsetType = UNSET
    alerts: list[Alert] | UnsetType = UNSET


NOTHING = Changes()
_FIELDS = tuple(name for name in RechargePointNow.__struct_fields__ if name != "age_s")


def changes(before: Status, after: Status) -> Changes:
    """What somebody who holds `before` needs to hold `after`. Both list the same recharge points."""
    both = zip(before.recharge_points, after.recharge_points, strict=True)
    points = [change for old, new in both if (change := _point(old, new)) is not None]
    same_gateway = msgspec.structs.replace(after.gateway, uptime_s=before.gateway.uptime_s) == before.gateway
    return Changes(
        gateway=UNSET if same_gateway else after.gateway,
        recharge_points=points or UNSET,
        links=UNSET if before.links == after.links else after.links,
        queues=UNSET if before.queues == after.queues else after.queues,
        alerts=UNSET if before.alerts == after.alerts else after.alerts,
    )


def _point(old: RechargePointNow, new: RechargePointNow) -> PointChange | None:
    changed = {name: getattr(new, name) for name in _FIELDS if getattr(old, name) != getattr(new, name)}
    return {"id": new.id, "age_s": new.age_s, **changed} if changed else None
