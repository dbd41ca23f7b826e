"""A profile as values: the register map of one kind of device, and what follows from it.

Built by `profile_build` from TOML, checked as a whole, then never changed. Knows no connector and no requests: `plan`
makes those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from evedge.core.errors import UsageError
from evedge.core.expressions import Expression
from evedge.core.measurands import State
from evedge.core.profile_limit import Failsafe, Limit
from evedge.core.profile_register import Register, Scope, Table


class ProfileError(UsageError):
    """A profile that cannot be used. `mistakes` holds one line each: where, what stands there, what is allowed."""

    def __init__(self, name: str, mistakes: Sequence[str]) -> None:
        self.name = name
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(f"profile {name}: {mistake}" for mistake in self.mistakes))


class ConnectorsBy(StrEnum):
    """How one connector of several is told from another."""

    UNIT_ID = "unit_id"
    TCP_PORT = "tcp_port"
    ADDRESS_STRIDE = "address_stride"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How the device is reached and what it bears. Seconds; None where nothing is known."""

    port: int = 502
    unit_id: int = 1
    connectors_by: ConnectorsBy | None = None
    connector_count: int = 1
    stride: int = 0
    station_unit_id: int | None = None
    max_connections: int | None = None
    max_connection_lifetime_s: float | None = None
    connect_timeout_s: float = 5.0
    response_timeout_s: float = 3.0
    pause_between_requests_s: float = 0.0
    pause_after_connect_s: float = 0.0
    poll_interval_s: float = 1.0

    def endpoint(self, connector: int = 1, *, port: int | None = None, unit_id: int | None = None) -> tuple[int, int]:
        """TCP port and unit id of a connector. What the configuration gives stands as it is; the rest is counted up."""
        by = self.connectors_by
        if port is None:
            port = self.port + (connector - 1 if by is ConnectorsBy.TCP_PORT else 0)
        if unit_id is None:
            unit_id = self.unit_id + (connector - 1 if by is ConnectorsBy.UNIT_ID else 0)
        return port, unit_id

    def connector_problem(self, connector: int) -> str | None:
        """Why the device has no such connector; None when it may."""
        if 1 <= connector <= self.connector_count:
            return None
        return f"has connectors 1 to {self.connector_count}" if self.connector_count > 1 else "has one connector, 1"


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses `first` to `last`, both included. `access`: what is forbidden there, for those that are."""

    table: Table
    first: int
    last: int
    scope: Scope = Scope.CONNECTOR
    access: str = "rw"
    why: str = ""

    def covers(self, first: int, last: int) -> bool:
        """Whether all of `first` to `last` lies inside."""
        return self.first <= first and last <= self.last

    def touches(self, first: int, last: int) -> bool:
        """Whether any of `first` to `last` lies inside."""
        return self.first <= last and first <= self.last


@dataclass(frozen=True, slots=True)
class Reads:
    """How registers may be joined into requests: neighbours always, across holes only inside a span."""

    max_registers: int = 125
    one_value: bool = False
    spans: tuple[AddressRange, ...] = ()
    deny: tuple[AddressRange, ...] = ()


@dataclass(frozen=True, slots=True)
class StateRule:
    """The device is in `state` when `when` holds (None: always). The first rule that holds counts."""

    state: State
    when: Expression | None


@dataclass(frozen=True, slots=True)
class ValueRule:
    """`value` is the measurand's when `when` holds and all its names are there. `derived`: computed, not read."""

    value: Expression
    when: Expression | None
    derived: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """The register map of one kind of device. Two are equal when they are the same object, so one can be a key.

    registers: all of them by name, in the file's order. measurands: what telemetry can hold, in the contract's order.
    values: rules per measurand that is not simply a register of the same name. limit: None where nothing can be set.
    """

    name: str
    vendor: str
    model: str
    aliases: tuple[str, ...]
    description: str
    setup: str
    sources: tuple[str, ...]
    tested: bool
    connection: Connection
    reads: Reads
    registers: Mapping[str, Register]
    state: tuple[StateRule, ...]
    plugged: Expression | None
    values: Mapping[str, tuple[ValueRule, ...]]
    measurands: tuple[str, ...]
    limit: Limit | None
    failsafe: Failsafe

    def readback(self, register: Register) -> Register | None:
        """The register that shows what was written to `register`: another, itself, or None where nothing does."""
        return self.registers[register.shown_by] if register.shown_by is not None else None

    def denied(self, table: Table, first: int, last: int, access: str) -> str | None:
        """Why addresses must not be read (`access` "r") or written ("w"); None when they may."""
        for forbidden in self.reads.deny:
            if forbidden.table is table and access in forbidden.access and forbidden.touches(first, last):
                return forbidden.why
        return None

    def __repr__(self) -> str:
        return f"<Profile {self.name}: {self.vendor} {self.model}, {len(self.registers)} registers>"
