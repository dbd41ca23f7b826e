"""Recharge points as Modbus TCP servers, with cars that charge.

car, connector, limiting, codes, identity, device   what happens and what registers hold: pure
wire                                                Modbus TCP frames: pure
server, recharge_point, simulation                  sockets, faults, clocks
"""

from __future__ import annotations

from evedge.simulator.clock import Clock, ManualClock, fast_clock
from evedge.simulator.faults import MEANINGS, Fault, parse_faults
from evedge.simulator.recharge_point import SimulatedRechargePoint
from evedge.simulator.simulation import Simulation

__all__ = [
    "MEANINGS",
    "Clock",
    "Fault",
    "ManualClock",
    "SimulatedRechargePoint",
    "Simulation",
    "fast_clock",
    "parse_faults",
]
