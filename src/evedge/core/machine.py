"""The machine the gateway runs on, as it goes to Kafka and MQTT. What cannot be read here is absent, never 0."""

from __future__ import annotations

import msgspec


class MachineReading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """CPU is over the time since the reading before. `disk_…` is where `state_dir` lies."""

    cpu_percent: float | None = None
    load_1m: float | None = None
    memory_used_percent: float | None = None
    memory_available_bytes: int | None = None
    disk_used_percent: float | None = None
    disk_free_bytes: int | None = None
    temperature_c: float | None = None
    process_cpu_percent: float | None = None
    process_rss_bytes: int | None = None


class GatewayTelemetry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The machine, and how the gateway keeps up. `waiting`: records by Kafka topic."""

    gateway: str
    measured_at: str
    machine: MachineReading | None = None
    loop_lag_s: float
    journal_bytes: int
    journal_max_bytes: int
    waiting: dict[str, int]
    mqtt_clients: int | None = None
    kafka_up: bool | None = None
