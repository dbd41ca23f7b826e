"""Profiles: register maps as data. The door to `profile_*`: everything the other rooms need is imported from here.

    profile = load(text, "abb-terra-ac")             # ProfileError with every mistake at once
    value = profile.registers["current_l1_a"].decode(words)
    writes = profile.limit.writes_for(10.55)         # rounded down to what the device can hold

Which requests read a profile's registers, and what telemetry follows from the answers, is `plan`.
"""

from __future__ import annotations

from evedge.core.profile_build import load
from evedge.core.profile_limit import Failsafe, FailsafeKind, Limit, Write
from evedge.core.profile_register import Group, Register, Scope, Table
from evedge.core.profile_types import AddressRange, Connection, ConnectorsBy, Profile, ProfileError, Reads

__all__ = [
    "AddressRange",
    "Connection",
    "ConnectorsBy",
    "Failsafe",
    "FailsafeKind",
    "Group",
    "Limit",
    "Profile",
    "ProfileError",
    "Reads",
    "Register",
    "Scope",
    "Table",
    "Write",
    "load",
]
