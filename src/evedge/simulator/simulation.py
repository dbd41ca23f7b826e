"""Several recharge points of one profile in one process, each on a port of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from evedge.core.errors import UsageError
from evedge.core.profile import Profile
from evedge.simulator.clock import Clock
from evedge.simulator.faults import Fault
from evedge.simulator.recharge_point import SimulatedRechargePoint

_LAST_PORT = 65_535


class Simulation:
    """`async with Simulation(profile, count=10, port=5020) as simulation:` ten of them, ready inside, gone after.

    Ports are `port` … `port` + `count` - 1; with port 0 the system picks a free one for each. Their seeds are `seed`,
    `seed` + 1, …, so each has its own serial number and cars, and the same every time. Raises UsageError for ports
    that do not exist; entering raises EvedgeError when a port cannot be had, and then none is left open.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        count: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 1,
        faults: Iterable[Fault | str] = (),
        connectors: int = 1,
        clock: Clock = time.monotonic,
        slow_s: float = 2.0,
    ) -> None:
        if port and port + count - 1 > _LAST_PORT:
            raise UsageError(f"{count} recharge points from port {port} on need ports beyond {_LAST_PORT}")
        faults = tuple(faults)
        self.recharge_points = [
            SimulatedRechargePoint(
                profile,
                host=host,
                port=port + n if port else 0,
                seed=seed + n,
                faults=faults,
                connectors=connectors,
                clock=clock,
                slow_s=slow_s,
            )
            for n in range(count)
        ]
        self._open = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Simulation of {len(self.recharge_points)}>"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            for recharge_point in self.recharge_points:
                await opening.enter_async_context(recharge_point)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()
