"""A recharge point that can be talked to: a simulated device behind a real Modbus TCP socket.

    async with SimulatedRechargePoint(load_profile("abb-terra-ac"), seed=7) as recharge_point:
        ...                                   # a client on recharge_point.port
        recharge_point.value("current_l1_a")  # what the device holds, whoever asks over Modbus
        recharge_point.set_faults("busy")     # from the next request on

Ready inside, gone after. Owns the clock's reading and the faults; the device below knows neither.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from evedge.core.errors import UsageError
from evedge.core.measurands import State
from evedge.core.model import Value
from evedge.core.profile import ConnectorsBy, Profile
from evedge.simulator.car import Car
from evedge.simulator.clock import Clock
from evedge.simulator.connector import Connector
from evedge.simulator.device import Accepted, Device
from evedge.simulator.faults import Fault, parse_faults
from evedge.simulator.identity import serial_digits
from evedge.simulator.server import ModbusServer, Requests
from evedge.simulator.wire import Frame


class SimulatedRechargePoint:
    """One device with `connectors` connectors; `car`, `state` and the like are the first one's unless told otherwise.

    port 0 lets the system choose. clock: seconds that only grow. slow_s: how long the slow fault takes per request.
    Raises UsageError for faults that are not known and more connectors than the profile has; entering raises
    EvedgeError when the port cannot be had.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 1,
        faults: Iterable[Fault | str] = (),
        connectors: int = 1,
        clock: Clock = time.monotonic,
        slow_s: float = 2.0,
    ) -> None:
        connection = profile.connection
        alone = connection.connectors_by is ConnectorsBy.TCP_PORT
        most = 1 if alone else connection.connector_count
        if not 1 <= connectors <= most:
            why = "each has a port of its own" if alone else f"has {most}"
            raise UsageError(f"profile {profile.name} cannot have {connectors} connectors here: {why}")
        self.profile = profile
        self.host = host
        self.port = port
        self.seed = seed
        self._clock = clock
        self._device = Device(profile, seed=seed, now=clock(), connectors=connectors)
        self._server = ModbusServer(self._answer, max_connections=connection.max_connections, slow_s=slow_s)
        self.set_faults(*faults)

    def __repr__(self) -> str:
        return f"<SimulatedRechargePoint {self.profile.name} on {self.host}:{self.port}, {self.state}>"

    async def __aenter__(self) -> Self:
        self.port = await self._server.start(self.host, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.close()

    # -- faults -----------------------------------------------------------------------------------------------------

    @property
    def faults(self) -> frozenset[Fault]:
        """What is wrong with it now."""
        return frozenset(self._server.faults)

    def set_faults(self, *names: Fault | str) -> None:
        """Exactly these faults from now on; none to heal it. Raises UsageError for a name that is not known."""
        wanted = parse_faults(names)
        self._device.advance(self._clock())
        self._device.freeze(Fault.FROZEN in wanted)
        self._device.ignores_writes = Fault.IGNORE_WRITES in wanted
        self._server.faults.clear()
        self._server.faults.update(wanted)

    def disconnect(self) -> None:
        """Cut every client's connection once; it may come back at once."""
        self._server.disconnect()

    # -- the truth --------------------------------------------------------------------------------------------------

    def value(self, name: str, *, connector: int = 1) -> Value | None:
        """What the register holds now, decoded; None for "not available". Raises KeyError for one the profile lacks.

        Under the frozen fault clients see old values; this is the true one.
        """
        return self.registers(connector=connector)[name]

    def registers(self, *, connector: int = 1) -> dict[str, Value | None]:
        """Every register of the profile as `value` gives it; write-only ones too."""
        self._device.advance(self._clock())
        return self._device.values(connector)

    def measured(self, *, connector: int = 1) -> dict[str, Value | None]:
        """Every measurand but the state as a perfect meter would show it now, whether the profile offers it or not."""
        return self._connector(connector).truth()

    @property
    def car(self) -> Car:
        """Whoever stands at the first connector, and its meter."""
        return self._connector(1).car

    @property
    def state(self) -> State:
        """What the first connector is doing."""
        return self._connector(1).state

    @property
    def limit_in_force_a(self) -> float:
        """Amperes per phase that are offered at the first connector; 0 while none are."""
        return self._connector(1).limiter.offered_a

    @property
    def fell_back(self) -> bool:
        """Whether nobody spoke to it for too long and the fallback current applies at the first connector."""
        return self._connector(1).limiter.lapsed

    @property
    def writes(self) -> Sequence[Accepted]:
        """Every write it acknowledged, oldest first (the last 10,000)."""
        return self._device.accepted

    @property
    def requests(self) -> Requests:
        """What came so far and what became of it."""
        return self._server.requests

    @property
    def unit_id(self) -> int:
        return self.profile.connection.unit_id

    @property
    def serial_number(self) -> str:
        """As the device gives it, or would if it did."""
        value = self.registers().get("serial_number")
        return str(value if value is not None else serial_digits(self.seed))

    def _connector(self, number: int) -> Connector:
        self._device.advance(self._clock())
        return self._device.connectors[number - 1]

    def _answer(self, frame: Frame) -> bytes | None:
        return self._device.answer(frame.unit_id, frame.pdu, self._clock())
