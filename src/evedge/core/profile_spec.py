"""The shape of a profile's TOML, section by section. What it means is said at each key; docs/PROFILES.md has examples.

Shape only: that names exist, that addresses do not collide and that expressions can be read is checked in
`profile_build`. Strict: a key that is not listed here is a mistake, and so is a number in quotes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Address = Annotated[int, Field(ge=0, le=65_535)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
TableName = Literal["holding", "input", "coil", "discrete"]
TypeName = Literal[
    "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "string", "bytes", "bool"
]
FormatName = Literal[
    "decimal",
    "hex",
    "version_bytes",
    "version_bcd",
    "version_words",
    "version_nibbles",
    "version_pairs",
    "hhmmss",
    "yymmdd",
]
Order = Literal["big", "little"]


class Shape(BaseModel):
    """What all sections share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Device(Shape):
    """`[device]`: whose register map it is."""

    vendor: Text
    model: Text
    aliases: list[Text] = []
    description: str = Field(default="", description="what an engineer should know before relying on it")
    setup: str = Field(default="", description="what must be switched on at the device first")
    sources: list[Text] = Field(default=[], description="where the facts come from")
    tested: bool = Field(default=False, description="whether somebody saw it work on hardware")


class Connectors(Shape):
    """`[connection] connectors`: how one connector of several is told from another."""

    by: Literal["unit_id", "tcp_port", "address_stride"]
    count: int = Field(default=2, ge=2, le=64, description="the most the device can have")
    stride: int | None = Field(
        default=None, ge=1, le=10_000, description="addresses between connectors, with address_stride"
    )
    station_unit_id: int | None = Field(
        default=None, ge=0, le=255, description='where `scope = "station"` registers are'
    )


class Connection(Shape):
    """`[connection]`: how the device is reached and what it bears. Everything but the port has a careful default."""

    port: int = Field(default=502, ge=1, le=65_535)
    unit_id: int = Field(default=1, ge=0, le=255)
    connectors: Connectors | None = None
    max_connections: int | None = Field(default=None, ge=1, description="clients it serves at once; absent: not known")
    max_connection_lifetime_s: Positive | None = Field(default=None, description="it hangs up after this long")
    connect_timeout_s: Positive = 5.0
    response_timeout_s: Positive = 3.0
    pause_between_requests_s: Seconds = 0.0
    pause_after_connect_s: Seconds = 0.0
    poll_interval_s: float = Field(
        default=1.0, ge=1, le=3600, description="recommended, and the default of the configuration"
    )


class AddressRange(Shape):
    """Addresses from `first` to `last`, both included."""

    table: TableName = "holding"
    first: Address
    last: Address


class Span(AddressRange):
    """Addresses that may be read in one request across their holes; of connector 1, moved along with `stride`."""

    scope: Literal["connector", "station"] = "connector"


class Forbidden(AddressRange):
    """Addresses that must never be touched, of the device as a whole."""

    access: Literal["r", "w", "rw"] = "rw"
    why: Text


class Reads(Shape):
    """`[reads]`: how registers may be joined into requests. By default only neighbours are."""

    max_registers: int = Field(default=125, ge=1, le=125, description="per request")
    one_value: bool = Field(default=False, description="each quantity must be asked for alone")
    spans: list[Span] = []
    deny: list[Forbidden] = []


class Defaults(Shape):
    """`[defaults]`: what holds for registers that do not say otherwise."""

    table: TableName = "holding"
    type: TypeName = "uint16"
    word_order: Order = "big"
    byte_order: Order = "big"
    write_fc: Literal[5, 6, 15, 16] | None = None
    scope: Literal["connector", "station"] = "connector"
    confidence: Literal["high", "medium", "low"] = "medium"
    source: str = ""


class RegisterShape(Shape):
    """`[registers] NAME = { … }`. A name that is a measurand's (or an identity field's) makes it that."""

    address: Address
    table: TableName | None = None
    type: TypeName | None = None
    count: int | None = Field(default=None, ge=1, le=125, description="registers, for string and bytes")
    word_order: Order | None = Field(default=None, description="big: the most significant register comes first")
    byte_order: Order | None = Field(default=None, description="little: the two bytes of each register are swapped")
    scale: Positive = Field(default=1.0, description="physical = raw x scale")
    unit: Text | None = Field(default=None, description="A, V, W, Wh, s, °C, % … after scaling")
    mask: int | None = Field(
        default=None, ge=1, le=0xFFFF_FFFF_FFFF_FFFF, description="raw & mask >> shift is what is meant"
    )
    shift: int = Field(default=0, ge=0, le=63)
    bit: int | None = Field(default=None, ge=0, le=63, description="a single bit: a truth value")
    bits: dict[str, Text] = Field(default={}, description="names of bits, for flags of errors")
    enum: dict[str, Text] = Field(default={}, description="names of values")
    na: list[Finite | Literal["NaN", "Inf"]] = Field(default=[], description="raw values that mean not available")
    characters: Literal["packed", "utf16", "low_byte"] = "packed"
    format: FormatName | None = Field(default=None, description="a number or bytes given as text")
    parts: int | None = Field(
        default=None, ge=1, le=8, description="of version_bytes and version_bcd: the first ones count"
    )
    prefix: str = Field(default="", description="what stands before the text and does not belong to it")
    access: Literal["r", "w", "rw"] = "r"
    write_fc: Literal[5, 6, 15, 16] | None = None
    min: Finite | None = Field(default=None, description="lowest that may be written, in the unit")
    max: Finite | None = None
    step: Positive | None = None
    also: list[Finite] = Field(default=[], description="values allowed besides min to max")
    self_clearing: bool = Field(
        default=False, description="reads something else than was written, so cannot be verified"
    )
    readback: str | None = Field(default=None, description="the register that shows what was written here")
    optional: bool = Field(
        default=False, description="the device may lack it (exception 2) without that being an error"
    )
    group: Literal["poll", "identity", "config"] | None = Field(default=None, description="absent: by what needs it")
    scope: Literal["connector", "station"] | None = None
    meaning: str = ""
    confidence: Literal["high", "medium", "low"] | None = None
    source: str | None = None


class StateRule(Shape):
    """`[[state]]`: the first rule whose condition holds gives the state; none: unknown."""

    state: Literal[
        "available",
        "preparing",
        "charging",
        "suspended_ev",
        "suspended_evse",
        "finishing",
        "reserved",
        "unavailable",
        "faulted",
        "unknown",
    ] = Field(alias="is")
    when: Text | None = None


class Plugged(Shape):
    """`[plugged]`: whether a vehicle is connected."""

    when: Text


class ValueRule(Shape):
    """`[[values]]`: a measurand that is not simply a register. The first that holds and has all its names counts."""

    measurand: str
    value: Text
    when: Text | None = None
    derived: bool = Field(
        default=True, description="computed here, so named in telemetry; false for a mere choice of scale"
    )


class Step(Shape):
    """One write of a sequence. `value = "limit"` stands for the limit that is being set."""

    register_name: str = Field(alias="register")
    value: Finite | bool | str
    then_wait_s: Seconds = Field(default=0.0, description="before the next write")


class LimitShape(Shape):
    """`[limit]`: how the current of a recharge point is limited, paused and resumed."""

    register_name: str = Field(alias="register", description="unit A (per phase), or W with watts_per_ampere")
    watts_per_ampere: Positive | None = Field(default=None, description="volts x phases, for devices limited in watts")
    min_current_a: Positive = Field(default=6.0, description="below it nothing charges: pause instead")
    max_current_a: Positive | None = Field(default=None, description="absent: the register's max")
    in_force: str | None = Field(default=None, description="register with the limit in force; absent: current_limit_a")
    set: list[Step] = Field(default=[], description="absent: the register alone")
    pause: list[Step] = Field(min_length=1)
    resume: list[Step] = Field(default=[], description="absent: the same as set")
    min_write_interval_s: Seconds = 0.0
    min_pause_interval_s: Seconds = 0.0
    wears_out: bool = Field(default=False, description="kept in memory that bears a limited number of writes")


class FailsafeShape(Shape):
    """`[failsafe]`: what the device does when nobody speaks to it, and what counts as speaking."""

    kind: Literal[
        "any_request",
        "any_read",
        "any_write",
        "rewrite_setpoint",
        "rewrite_timeout",
        "heartbeat_value",
        "heartbeat_toggle",
        "none",
        "unknown",
    ]
    timeout: str | None = Field(
        default=None, description="register with the time-out, in seconds; the writable one if any"
    )
    timeout_s: Positive | None = Field(default=None, description="as delivered")
    timeout_off: Finite | None = Field(default=None, description="value of the time-out register that switches it off")
    fallback_current: str | None = Field(default=None, description="register with the current that follows")
    refresh: list[Step] = Field(default=[], description="the writes that keep it alive, for the heartbeat kinds")
    refresh_every_s: Positive | None = Field(default=None, description="absent: half the time-out")
    recovery: list[Step] = Field(default=[], description="writes that end the fallback; absent: setting the limit does")
    closes_connection: bool = False
    description: str = ""


SECTIONS = ("device", "connection", "reads", "defaults", "registers", "state", "plugged", "values", "limit", "failsafe")
"""Every top-level key."""
