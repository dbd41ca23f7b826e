"""From the sections `[limit]` and `[failsafe]` to values, with everything that can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evedge.core import profile_spec as spec
from evedge.core.mistakes import Mistakes, unknown
from evedge.core.profile_limit import Failsafe, FailsafeKind, Limit, WriteStep
from evedge.core.profile_register import Register

_WRITTEN_TO_STAY_ALIVE = {FailsafeKind.HEARTBEAT_VALUE, FailsafeKind.HEARTBEAT_TOGGLE, FailsafeKind.REWRITE_TIMEOUT}


class References:
    """The registers of a profile for those who name one. `named`: all that the file names, broken ones too."""

    def __init__(self, registers: Mapping[str, Register], named: frozenset[str], mistakes: Mistakes) -> None:
        self._registers = registers
        self._named = named
        self.mistakes = mistakes

    def register(self, path: str, name: str, *, readable: bool = False, writable: bool = False) -> Register | None:
        """The register that stands at `path`, or None. Says nothing about one that is broken already."""
        register = self._registers.get(name)
        if register is None:
            if name not in self._named:
                self.mistakes.add_value(path, name, unknown(name, self._named, "register"))
        elif readable and not register.readable:
            self.mistakes.add_value(path, name, "is a register that cannot be read")
        elif writable and not register.writable:
            self.mistakes.add_value(path, name, "is a register that cannot be written")
        return register

    def optional(self, path: str, name: str | None, *, readable: bool = False) -> Register | None:
        """The same for a key that may be left out."""
        return self.register(path, name, readable=readable) if name is not None else None

    def has(self, name: str) -> bool:
        """Whether the file names such a register."""
        return name in self._named

    def steps(self, path: str, steps: Sequence[spec.Step], *, limit: bool) -> tuple[WriteStep, ...]:
        """A sequence of writes; `limit`: whether there is one to fill in."""
        built = []
        for index, step in enumerate(steps):
            where = f"{path}[{index}]"
            register = self.register(f"{where}.register", step.register_name, writable=True)
            if register is None:
                continue
            if step.value == "limit":
                if not limit:
                    self.mistakes.add_value(f"{where}.value", step.value, "there is no limit to fill in here")
                built.append(WriteStep(register, None, step.then_wait_s))
                continue
            try:
                register.encode(step.value)
            except ValueError as error:
                self.mistakes.add_value(f"{where}.value", step.value, str(error))
                continue
            built.append(WriteStep(register, step.value, step.then_wait_s))
        return tuple(built)


def build_limit(shape: spec.LimitShape, references: References) -> Limit | None:
    """The limit, or None when what it names does not exist."""
    register = references.register("limit.register", shape.register_name, writable=True)
    if register is None:
        return None
    wanted = "W" if shape.watts_per_ampere else "A"
    if register.unit != wanted:
        references.mistakes.add_value("limit.register", register.name, f"must be a register in {wanted}")
    in_force = shape.in_force or ("current_limit_a" if references.has("current_limit_a") else None)
    readback = register.shown_by
    set_steps = references.steps("limit.set", shape.set, limit=True) or (WriteStep(register, None),)
    return Limit(
        register=register,
        readback=references.optional(f"registers.{register.name}.readback", readback, readable=True),
        in_force=references.optional("limit.in_force", in_force, readable=True),
        min_current_a=shape.min_current_a,
        max_current_a=_max_current_a(shape, register, references.mistakes),
        watts_per_ampere=shape.watts_per_ampere,
        min_write_interval_s=shape.min_write_interval_s,
        min_pause_interval_s=shape.min_pause_interval_s,
        wears_out=shape.wears_out,
        set_steps=set_steps,
        pause_steps=references.steps("limit.pause", shape.pause, limit=False),
        resume_steps=references.steps("limit.resume", shape.resume, limit=True) or set_steps,
    )


def read_for_limit(shape: spec.LimitShape, registers: Mapping[str, Register]) -> set[str]:
    """The registers every poll must read so that a limit can be watched."""
    register = registers.get(shape.register_name)
    names = {register.shown_by if register else None, shape.in_force}
    return {name for name in names if name is not None}


def _max_current_a(shape: spec.LimitShape, register: Register, mistakes: Mistakes) -> float:
    maximum = shape.max_current_a
    if maximum is None:
        if register.maximum is None:
            mistakes.add("limit.max_current_a", f"is missing, and {register.name} has no max")
            return shape.min_current_a
        maximum = register.maximum / (shape.watts_per_ampere or 1.0)
    if maximum < shape.min_current_a:
        mistakes.add_value("limit.max_current_a", maximum, f"must be at least {shape.min_current_a:g}")
    return maximum


def build_failsafe(shape: spec.FailsafeShape, references: References) -> Failsafe:
    """What the device does when nobody speaks to it."""
    kind = FailsafeKind(shape.kind)
    if kind in _WRITTEN_TO_STAY_ALIVE and not shape.refresh:
        references.mistakes.add("failsafe.refresh", f"is missing: {kind} needs the writes that keep it alive")
    return Failsafe(
        kind=kind,
        timeout=references.optional("failsafe.timeout", shape.timeout),
        timeout_s=shape.timeout_s,
        timeout_off=shape.timeout_off,
        fallback_current=references.optional("failsafe.fallback_current", shape.fallback_current),
        refresh_steps=references.steps("failsafe.refresh", shape.refresh, limit=False),
        refresh_every_s=shape.refresh_every_s,
        recovery_steps=references.steps("failsafe.recovery", shape.recovery, limit=True),
        closes_connection=shape.closes_connection,
        description=shape.description,
    )
