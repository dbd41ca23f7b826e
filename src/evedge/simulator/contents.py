"""What each register of a profile shows: a measurand, what was written, a code of the state, who the device is.

Pure. Knows no addresses and no requests.
"""

from __future__ import annotations

from collections.abc import Callable

from evedge.core.measurands import Kind
from evedge.core.model import Value
from evedge.core.profile import Profile, Register
from evedge.simulator.codes import StateCodes, plausible_first
from evedge.simulator.connector import MEASURED, Connector
from evedge.simulator.identity import identity_text


class Contents:
    """Where each register's content comes from, worked out once per device."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile = profile
        registers = profile.registers.values()
        self.written_as = {register.readback: register.name for register in registers if register.readback}
        self.identity = {
            register.name: identity_text(profile, register, seed) for register in registers if register.identity
        }
        self.same_as = _aliases(profile, self._is_known)
        self.codes = StateCodes(profile, self._is_given)

    def shown_by(self, connector: Connector) -> Shown:
        """What this connector's registers show at this moment."""
        return Shown(self, connector)

    def _is_given(self, register: Register) -> bool:
        """Whether something else than the state says what the register holds."""
        return register.name in self.same_as or self._is_known(register)

    def _is_known(self, register: Register) -> bool:
        """Whether physics, a write or the device's identity says what the register holds."""
        name = register.name
        return register.writable or name in self.written_as or name in self.identity or name in MEASURED


class Shown:
    """One connector's registers at one moment. Only what is asked for is worked out."""

    __slots__ = ("_codes", "_connector", "_contents", "_truth")

    def __init__(self, contents: Contents, connector: Connector) -> None:
        self._contents = contents
        self._connector = connector
        self._truth = connector.truth()
        self._codes: dict[str, Value] | None = None

    def words(self, register: Register) -> tuple[int, ...]:
        """The register's words, as a client reads them."""
        return _encode(register, self.value(register))

    def value(self, register: Register) -> Value | None:
        """What the register means now; None for "not available"."""
        contents, name, cells = self._contents, register.name, self._connector.limiter.cells
        if name in contents.same_as:
            return register.decode(self.words(contents.same_as[name]))
        if name in contents.codes.names:
            return self._state_codes()[name]
        if register.self_clearing and register.readable:
            return False if register.kind is Kind.TRUTH else 0
        if name in cells:
            return cells[name]
        if name in contents.written_as:
            return cells[contents.written_as[name]]
        if name in contents.identity:
            return contents.identity[name]
        if name in self._truth:
            return self._truth[name]
        return self._other(register)

    def _state_codes(self) -> dict[str, Value]:
        if self._codes is None:
            registers = self._contents.profile.registers

            def lookup(name: str) -> Value | None:
                register = registers[name]
                return register.decode(self.words(register))

            state, plugged = self._connector.state, self._connector.car.plugged
            self._codes = dict(self._contents.codes.values(state, plugged, lookup))
        return self._codes

    def _other(self, register: Register) -> Value | None:
        """Registers that no measurand, rule or write is behind: common ones by their name, else nothing much."""
        name, limiter = register.name, self._connector.limiter
        limit = self._contents.profile.limit
        if limit is not None and limit.in_force is not None and limit.in_force.name == name:
            return limiter.offered_a * (limit.watts_per_ampere or 230.0 if register.unit == "W" else 1.0)
        source = _BY_NAME.get(name.removeprefix("station_"))
        if source is not None:
            value = self._truth[source]
            return value / 3 if name.startswith("energy_l") and isinstance(value, float) else value
        if register.unit == "A" and "cable" in name:
            return limiter.cable_a
        if register.unit == "A" and name.removesuffix("_a").endswith("_min"):
            return limiter.min_current_a
        if name.startswith("power_factor"):
            return 1.0
        if register.unit == "Hz":
            return 50.0
        if register.kind is Kind.TEXT:
            return ""
        if register.enum:
            return self._healthiest(register)
        return 0

    def _healthiest(self, register: Register) -> Value:
        """A named code for a register that nothing is known of; one that lets Modbus work where that is a choice."""
        for code, text in register.enum.items():
            if text.lower() == "modbus":
                return code
        choices = [0, *register.enum] if 0 in register.enum else list(register.enum)
        return plausible_first(register, choices, self._connector.car.plugged)[0]


_BY_NAME = {
    "power": "active_power_w",
    "apparent_power": "active_power_w",
    **{f"apparent_power_l{n}": f"active_power_l{n}_w" for n in (1, 2, 3)},
    **{f"current_l{n}": f"current_l{n}_a" for n in (1, 2, 3)},
    **{f"energy_l{n}": "energy_import_wh" for n in (1, 2, 3)},
    "connection_duration": "session_duration_s",
    "current_limit": "current_limit_a",
}
"""Registers beside the measurands that many profiles list, and the measurand they follow. Power factor 1: VA is W."""


def _aliases(profile: Profile, is_known: Callable[[Register], bool]) -> dict[str, Register]:
    """Registers that are another reading of the same words: the version as a number, the error's bits that matter."""
    known = {
        (r.table, r.scope, r.address, r.words): r for r in profile.registers.values() if is_known(r) and r.readable
    }
    places = {r.name: known.get((r.table, r.scope, r.address, r.words)) for r in profile.registers.values()}
    return {
        name: other
        for name, other in places.items()
        if other is not None and other.name != name and not is_known(profile.registers[name])
    }


def _encode(register: Register, value: Value | None) -> tuple[int, ...]:
    """The words for a value; what the register cannot hold becomes "not available", or 0 where that cannot be said."""
    if register.kind is Kind.TEXT and isinstance(value, int | float):
        value = _as_text(register, value)
    for attempt in (value, None):
        try:
            return register.encode(attempt)
        except ValueError:
            continue
    return (0,) * register.words


def _as_text(register: Register, value: float) -> str:
    if register.format == "hhmmss":
        seconds = int(value)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return "" if register.name == "error_code" and not value else f"{value:g}"
