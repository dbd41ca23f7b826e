"""The vehicles that come to one connector, one after the other: when they come, how they draw, when they leave.

Pure: time is given as `now` (seconds on any clock that only grows), chance comes from a seed. What stands here knows
nothing of Modbus, profiles or limits' origins; it is told the current that is offered and answers with what is drawn.

Two layers, so that a story is the same whoever watches it:

- *Story*: `visit(seed, n)` is the n-th car. When it plugs in, prepares, pauses and leaves depends on the seed alone.
- *Physics*: `Car` walks the story in ticks of `TICK_S` on a grid that starts at its birth. Reading more or less often
  changes nothing, and energy is exactly the sum of power times tick.

Invariants: a drawn current never exceeds the offered one; below `MIN_CURRENT_A` nothing is drawn; power is the sum of
voltage times current per phase (power factor 1, as charging electronics come close to); energies never fall, but for
the session's when the next car plugs in.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import StrEnum

TICK_S = 0.5
"""A limit is obeyed at the next tick, well within the second that people see as at once."""
MIN_CURRENT_A = 6.0
"""IEC 61851-1: less than this cannot be signalled to a vehicle."""

_RAMP_A_PER_TICK = 3.0  # vehicles rise over a second or two and fall at once
_RESTART_S = 1.0  # from being offered current again to the first ampere
_LEAVING_S = 3.0  # session stopped, cable still in
_TAPER_FROM = 0.97  # state of charge from which an AC vehicle draws less and less
_TAPER_TO = 0.4  # what is left of the current when it is full
_ONBOARD_EFFICIENCY = 0.9
_NOMINAL_V = 230.0
_SAG_V_PER_A = 0.12  # the house's wiring
_AMBIENT_C = 19.0
_HEAT_C_PER_A2 = 0.022  # 32 A on three phases ends near 41 °C
_HEAT_TIME_S = 400.0
_MAX_BACKLOG_TICKS = 7 * 24 * 3600 * 2  # a week unwatched; a jump beyond that is a changed clock


class Phase(StrEnum):
    """Where a visit stands, as the vehicle sees it; whether current is offered is not its business."""

    AWAY = "away"
    PREPARING = "preparing"
    CHARGING = "charging"
    PAUSING = "pausing"
    FULL = "full"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Pause:
    """The vehicle takes nothing for a while, of its own will. Seconds since it plugged in."""

    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Visit:
    """One car's stay. Seconds; `comes_after_s` counts from the last car's leaving, the others from plugging."""

    comes_after_s: float
    prepares_s: float
    stays_s: float
    pauses: tuple[Pause, ...]
    phases: int
    max_current_a: float
    battery_wh: float
    soc_at_arrival: float
    appetite: float

    def phase(self, since_plugged_s: float) -> Phase:
        """Where the visit stands, for a battery that is not full."""
        if since_plugged_s < self.prepares_s:
            return Phase.PREPARING
        if since_plugged_s >= self.stays_s - _LEAVING_S:
            return Phase.LEAVING
        if any(pause.from_s <= since_plugged_s < pause.to_s for pause in self.pauses):
            return Phase.PAUSING
        return Phase.CHARGING


_ONBOARD_CHARGERS = ((3, 16.0), (3, 16.0), (3, 16.0), (1, 32.0), (1, 16.0), (2, 16.0), (3, 32.0))
"""Phases and current per phase of what drives about, the common ones more often."""
_BATTERIES_WH = (28_000.0, 42_000.0, 52_000.0, 60_000.0, 77_000.0, 82_000.0, 95_000.0)


def visit(seed: int, number: int) -> Visit:
    """The `number`-th car (from 0) of a seed. The first one comes at once and stays for a demonstration."""
    chance = random.Random(f"{seed}/{number}")
    first = number == 0
    phases, max_current_a = chance.choice(_ONBOARD_CHARGERS)
    prepares_s = chance.uniform(1.0, 4.0)
    stays_s = chance.uniform(420.0 if first else 180.0, 1500.0)
    pauses = []
    if chance.random() < 0.5:
        begins_s = prepares_s + chance.uniform(45.0, 150.0)
        pauses.append(Pause(begins_s, begins_s + chance.uniform(8.0, 20.0)))
    nearly_full = not first and chance.random() < 0.3
    return Visit(
        comes_after_s=chance.uniform(0.5, 3.0) if first else chance.uniform(5.0, 25.0),
        prepares_s=prepares_s,
        stays_s=stays_s,
        pauses=tuple(pauses),
        phases=phases,
        max_current_a=max_current_a,
        battery_wh=chance.choice(_BATTERIES_WH),
        soc_at_arrival=chance.uniform(0.96, 0.995) if nearly_full else chance.uniform(0.12, 0.8),
        appetite=chance.uniform(0.965, 0.99),
    )


PerPhase = tuple[float, float, float]
_NOTHING: PerPhase = (0.0, 0.0, 0.0)


class Car:
    """Whoever stands at one connector now. Attributes are what a perfect meter would show at the last tick."""

    def __init__(self, seed: int, now: float) -> None:
        self._seed = seed
        self._born = now
        self._tick = 0
        self._number = 0
        self._visit = visit(seed, 0)
        self._came: float | None = None  # seconds since birth when it plugged in; None: nobody there
        self._gone = 0.0  # when the last one left
        self._drawn_a = 0.0
        self._idle_until = 0.0
        chance = random.Random(f"{seed}/meter")
        self._wobble = chance.uniform(0.0, 100.0)
        self.phase = Phase.AWAY
        self.currents_a: PerPhase = _NOTHING
        self.energy_wh = float(chance.randrange(150_000, 9_000_000))
        self.session_energy_wh = 0.0
        self.session_s = 0.0
        self.soc = 0.0
        self.temperature_c = _AMBIENT_C
        self.voltages_v: PerPhase = self._grid(0.0)

    def __repr__(self) -> str:
        return f"<Car {self._number} {self.phase}, {self.power_w:.0f} W, {self.session_energy_wh:.0f} Wh>"

    @property
    def plugged(self) -> bool:
        return self._came is not None

    @property
    def visit(self) -> Visit | None:
        """The car that is there; None when nobody is."""
        return self._visit if self.plugged else None

    @property
    def powers_w(self) -> PerPhase:
        (u1, u2, u3), (i1, i2, i3) = self.voltages_v, self.currents_a
        return u1 * i1, u2 * i2, u3 * i3

    @property
    def power_w(self) -> float:
        return sum(self.powers_w)

    @property
    def wants_current(self) -> bool:
        """Whether it would draw if it were offered current: states C and D of IEC 61851."""
        return self.phase is Phase.CHARGING

    def advance(self, now: float, offered_a: float) -> None:
        """Live until `now` with this current offered per phase all the while (0: none). Time does not run backwards."""
        target = int((now - self._born) / TICK_S)
        if target - self._tick > _MAX_BACKLOG_TICKS:
            self._tick = target - _MAX_BACKLOG_TICKS
        while self._tick < target:
            self._tick += 1
            self._live(self._tick * TICK_S, offered_a)

    def _live(self, at: float, offered_a: float) -> None:
        self._turn_page(at)
        if self._came is not None and self.phase is not Phase.LEAVING:
            self.session_s = at - self._came
        drawn = self._draw(at, offered_a)
        factor = 1.0 - 0.004 * (1.0 + math.sin(at * 0.9 + self._wobble))
        measured = drawn * self._visit.appetite * factor
        phases = self._visit.phases
        self.currents_a = (measured, measured if phases > 1 else 0.0, measured if phases > 2 else 0.0)
        self.voltages_v = self._grid(at)
        gained = self.power_w * TICK_S / 3600.0
        self.energy_wh += gained
        if self._came is not None:
            self.session_energy_wh += gained
            self.soc = min(1.0, self.soc + gained * _ONBOARD_EFFICIENCY / self._visit.battery_wh)
        heat = _AMBIENT_C + _HEAT_C_PER_A2 * measured * measured
        self.temperature_c += (heat - self.temperature_c) * TICK_S / _HEAT_TIME_S

    def _turn_page(self, at: float) -> None:
        """Where the story stands at this moment."""
        if self._came is None:
            if at < self._gone + self._visit.comes_after_s:
                return
            self._came = at
            self.session_energy_wh = self.session_s = 0.0
            self.soc = self._visit.soc_at_arrival
        since = at - self._came
        if since >= self._visit.stays_s:
            self._came, self._gone = None, at
            self._number += 1
            self._visit = visit(self._seed, self._number)
            self.phase, self.soc = Phase.AWAY, 0.0
            return
        self.phase = self._visit.phase(since)
        if self.phase is Phase.CHARGING and self.soc >= 1.0:
            self.phase = Phase.FULL

    def _draw(self, at: float, offered_a: float) -> float:
        """The current per phase the vehicle settles on: up in steps, down at once, nothing below the minimum."""
        wanted = min(offered_a, self._visit.max_current_a)
        if self.phase is not Phase.CHARGING or offered_a < MIN_CURRENT_A:
            self._drawn_a, self._idle_until = 0.0, at + _RESTART_S
            return 0.0
        if at < self._idle_until:
            return 0.0
        if self.soc > _TAPER_FROM:
            left = (1.0 - self.soc) / (1.0 - _TAPER_FROM)
            wanted = min(wanted, max(MIN_CURRENT_A, self._visit.max_current_a * (_TAPER_TO + (1.0 - _TAPER_TO) * left)))
        self._drawn_a = min(wanted, max(MIN_CURRENT_A, self._drawn_a + _RAMP_A_PER_TICK))
        return self._drawn_a

    def _grid(self, at: float) -> PerPhase:
        i1, i2, i3 = self.currents_a
        slow = at * 0.043 + self._wobble
        return (
            _NOMINAL_V + 1.6 * math.sin(slow) - _SAG_V_PER_A * i1,
            _NOMINAL_V + 1.4 * math.sin(slow + 2.1) - _SAG_V_PER_A * i2,
            _NOMINAL_V + 1.5 * math.sin(slow + 4.2) - _SAG_V_PER_A * i3,
        )
