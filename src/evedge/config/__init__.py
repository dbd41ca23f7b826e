"""The configuration: one TOML file, overridden by the environment, completed by files that hold secrets.

`load(path)` is the door: it gives a frozen `Config` or raises `ConfigError` with every mistake at once. The tree knows
no register maps (`evedge.config_profiles` reads those), opens no socket and reads nothing but the files named above.
"""

from __future__ import annotations

from evedge.config.loading import load, parse
from evedge.config.mistakes import ConfigError, Mistake
from evedge.config.tree import (
    Commands,
    Config,
    Gateway,
    Issuer,
    Journal,
    Kafka,
    KafkaTopics,
    Log,
    Meter,
    Mqtt,
    MqttUser,
    RechargePoint,
    RouteEntry,
    Site,
    Web,
)
from evedge.config.values import Address, RemoteBroker

__all__ = [
    "Address",
    "Commands",
    "Config",
    "ConfigError",
    "Gateway",
    "Issuer",
    "Journal",
    "Kafka",
    "KafkaTopics",
    "Log",
    "Meter",
    "Mistake",
    "Mqtt",
    "MqttUser",
    "RechargePoint",
    "RemoteBroker",
    "RouteEntry",
    "Site",
    "Web",
    "load",
    "parse",
]
