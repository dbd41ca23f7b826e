"""The conditions somebody should know of: which are raised, since when, and when they are over.

One alert stands for one kind on one recharge point (or on the gateway). Raising what is raised changes nothing, so that
whoever watches a condition may say so as often as it looks.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from evedge.core.model import Alert, AlertState, Severity, Value
from evedge.core.times import to_rfc3339


class AlertBook:
    """All open alerts of one gateway. Bounded by the kinds there are times the recharge points configured."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._open: dict[tuple[str, str | None], Alert] = {}

    def open(self) -> tuple[Alert, ...]:
        """What is raised now, oldest first."""
        return tuple(self._open.values())

    def raise_alert(
        self,
        kind: str,
        message: str,
        now_ms: int,
        *,
        recharge_point: str | None = None,
        severity: Severity = Severity.WARNING,
        details: Mapping[str, Value] | None = None,
    ) -> Alert | None:
        """The new alert; None when it is raised already."""
        key = (kind, recharge_point)
        if key in self._open:
            return None
        place = self._gateway if recharge_point is None else f"{self._gateway}/{recharge_point}"
        alert = Alert(
            id=f"{place}/{kind}/{now_ms}",
            gateway=self._gateway,
            recharge_point=recharge_point,
            kind=kind,
            severity=severity,
            state=AlertState.RAISED,
            raised_at=to_rfc3339(now_ms),
            message=message,
            details=dict(details or {}),
        )
        self._open[key] = alert
        return alert

    def clear(self, kind: str, now_ms: int, *, recharge_point: str | None = None) -> Alert | None:
        """The alert that is over now; None when it was not raised."""
        alert = self._open.pop((kind, recharge_point), None)
        if alert is None:
            return None
        return msgspec.structs.replace(alert, state=AlertState.CLEARED, cleared_at=to_rfc3339(now_ms))
