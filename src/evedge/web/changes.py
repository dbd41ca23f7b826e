"""What of a status differs from an earlier one, for those who already hold that one. Pure.

Ages and uptimes grow by themselves: whoever holds a status counts them on, so they alone are no change.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from evedge.core.model import Alert
from evedge.core.status import GatewayNow, LinksNow, Queue, RechargePointNow, Status


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a status that are new, each whole. `recharge_points`: only those that changed, known by their id."""

    gateway: GatewayNow | UnsetType = UNSET
    recharge_points: list[RechargePointNow] | UnsetType = UNSET
    links: LinksNow | UnsetType = UNSET
    queues: list[Queue] | UnsetType = UNSET
    alerts: list[Alert] | UnsetType = UNSET


NOTHING = Changes()


def changes(before: Status, after: Status) -> Changes:
    """What somebody who holds `before` needs to hold `after`. Both list the same recharge points."""
    points = [
        new
        for old, new in zip(before.recharge_points, after.recharge_points, strict=True)
        if _timeless(old) != _timeless(new)
    ]
    same_gateway = msgspec.structs.replace(after.gateway, uptime_s=before.gateway.uptime_s) == before.gateway
    return Changes(
        gateway=UNSET if same_gateway else after.gateway,
        recharge_points=points or UNSET,
        links=UNSET if before.links == after.links else after.links,
        queues=UNSET if before.queues == after.queues else after.queues,
        alerts=UNSET if before.alerts == after.alerts else after.alerts,
    )


def _timeless(point: RechargePointNow) -> RechargePointNow:
    return msgspec.structs.replace(point, age_s=None)
