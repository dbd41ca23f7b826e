"""One connector as a whole: the car that stands there, the limit it is given, and what a perfect meter would show.

Pure: `now` is given. Time moves only in `advance`, which also lets the failsafe run out at the moment it does and not
when somebody looks next.
"""

from __future__ import annotations

import random

from evedge.core.measurands import MEASURANDS, State
from evedge.core.model import Value
from evedge.core.profile import Profile, Register
from evedge.simulator.car import Car, Phase
from evedge.simulator.limiting import Limiter

_HARDWARE_A = 32.0
_CABLES_A = (32.0, 32.0, 32.0, 20.0)
_PHASES = 3
_NOMINAL_V = 230.0
_STATES = {
    Phase.AWAY: State.AVAILABLE,
    Phase.PREPARING: State.PREPARING,
    Phase.CHARGING: State.CHARGING,
    Phase.PAUSING: State.SUSPENDED_EV,
    Phase.FULL: State.SUSPENDED_EV,
    Phase.LEAVING: State.FINISHING,
}


MEASURED = frozenset(MEASURANDS) - {"state"}
"""The measurands that `Connector.truth` gives."""


class Connector:
    """Number 1 is the first. Its seed gives its cars, its meter's start and its cable."""

    def __init__(self, profile: Profile, number: int, seed: int, now: float) -> None:
        self.number = number
        self.car = Car(seed, now)
        most = profile.limit.max_current_a if profile.limit else _HARDWARE_A
        cable_a = random.Random(f"{seed}/cable").choice(_CABLES_A)
        self.limiter = Limiter(profile, hardware_a=min(most, _HARDWARE_A), cable_a=cable_a)

    def __repr__(self) -> str:
        return f"<Connector {self.number} {self.state}, offers {self.limiter.offered_a:g} A, {self.car!r}>"

    def advance(self, now: float) -> None:
        """Live until `now`."""
        lapses_at = self.limiter.lapses_at
        if lapses_at is not None and lapses_at <= now:
            self.car.advance(lapses_at, self.limiter.offered_a)
            self.limiter.lapse()
        self.car.advance(now, self.limiter.offered_a)

    def write(self, register: Register, value: Value | None, now: float) -> None:
        """A register of this connector was written; what follows from it holds from the next tick on."""
        self.limiter.write(register, value, now)

    @property
    def state(self) -> State:
        """What the connector is doing, whatever the device can say of it."""
        state = _STATES[self.car.phase]
        withheld = self.limiter.offered_a == 0.0
        if withheld and state in {State.CHARGING, State.SUSPENDED_EV}:
            return State.SUSPENDED_EVSE
        return state

    def truth(self) -> dict[str, Value | None]:
        """Every measurand, as exact as it is known here; None for what no such device can know."""
        car, offered_a = self.car, self.limiter.offered_a
        (u1, u2, u3), (i1, i2, i3), (p1, p2, p3) = car.voltages_v, car.currents_a, car.powers_w
        return {
            "plugged": car.plugged,
            "active_power_w": p1 + p2 + p3,
            "active_power_l1_w": p1,
            "active_power_l2_w": p2,
            "active_power_l3_w": p3,
            "current_l1_a": i1,
            "current_l2_a": i2,
            "current_l3_a": i3,
            "voltage_l1_v": u1,
            "voltage_l2_v": u2,
            "voltage_l3_v": u3,
            "energy_import_wh": car.energy_wh,
            "session_energy_wh": car.session_energy_wh,
            "session_duration_s": car.session_s,
            "current_limit_a": offered_a,
            "power_limit_w": offered_a * _PHASES * _NOMINAL_V,
            "current_max_a": self.limiter.hardware_a,
            "temperature_c": car.temperature_c,
            "soc_percent": car.soc * 100.0 if car.plugged else None,
            "error_code": 0,
        }
