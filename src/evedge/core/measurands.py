"""What is measured, under which name, in which unit: the table every profile, payload and page refers to.

A measurand's name ends in its unit. The OCPP names are those of OCPP 1.6 (MeterValues, StatusNotification), for readers
who come from there; nothing here speaks OCPP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """What a recharge point is doing, in the words of OCPP 1.6 ChargePointStatus; `unknown`: it does not say."""

    AVAILABLE = "available"
    PREPARING = "preparing"
    CHARGING = "charging"
    SUSPENDED_EV = "suspended_ev"
    SUSPENDED_EVSE = "suspended_evse"
    FINISHING = "finishing"
    RESERVED = "reserved"
    UNAVAILABLE = "unavailable"
    FAULTED = "faulted"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What sort of value it is. Numbers are floats on the wire whatever the register holds: a schema can rely on it."""

    NUMBER = "number"
    TRUTH = "truth"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Measurand:
    """One row of the table. `unit` is None where the value is no quantity; `phase` is 1 to 3 or None."""

    name: str
    kind: Kind
    unit: str | None = None
    ocpp: str | None = None
    phase: int | None = None


def _per_phase(name: str, unit: str, ocpp: str) -> list[Measurand]:
    return [Measurand(name.format(phase), Kind.NUMBER, unit, ocpp, phase) for phase in (1, 2, 3)]


MEASURANDS: Mapping[str, Measurand] = MappingProxyType(
    {
        measurand.name: measurand
        for measurand in (
            Measurand("state", Kind.TEXT, None, "ChargePointStatus"),
            Measurand("plugged", Kind.TRUTH),
            Measurand("active_power_w", Kind.NUMBER, "W", "Power.Active.Import"),
            *_per_phase("active_power_l{}_w", "W", "Power.Active.Import"),
            *_per_phase("current_l{}_a", "A", "Current.Import"),
            *_per_phase("voltage_l{}_v", "V", "Voltage"),
            Measurand("energy_import_wh", Kind.NUMBER, "Wh", "Energy.Active.Import.Register"),
            Measurand("session_energy_wh", Kind.NUMBER, "Wh", "Energy.Active.Import.Register"),
            Measurand("session_duration_s", Kind.NUMBER, "s"),
            Measurand("current_limit_a", Kind.NUMBER, "A", "Current.Offered"),
            Measurand("power_limit_w", Kind.NUMBER, "W", "Power.Offered"),
            Measurand("current_max_a", Kind.NUMBER, "A"),
            Measurand("temperature_c", Kind.NUMBER, "°C", "Temperature"),
            Measurand("soc_percent", Kind.NUMBER, "%", "SoC"),
            Measurand("error_code", Kind.TEXT),
        )
    }
)
"""Every measurand by its name, in the order in which telemetry gives them."""

IDENTITY = ("vendor", "model", "serial_number", "firmware")
"""Who a device says it is: read once per connection, text, never in telemetry."""
