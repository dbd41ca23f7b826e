"""Which codes the registers hold that a profile's rules read a state from.

A profile says how to read a state ("charging when mode3_state == 4"); a device has to say it. This turns the rules
round: among the values those registers can have (the names the profile gives them, the numbers its rules compare with)
it finds those that are read as the wanted state and plug. So every profile that can be read can be simulated, also one
that somebody writes tomorrow. That the rules themselves are right is not shown by that: the tests hold golden codes
from vendors' documents against it.

Pure. Invariant: a code that is given is read back as the state, or there is none that would be; then the nearest state
the device can express is said instead (many know no `finishing`).
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from evedge.core.expressions import Expression, Failed, Missing, Names
from evedge.core.measurands import Kind, State
from evedge.core.model import Value
from evedge.core.profile import Profile, Register

_MOST_TRIES = 20_000
_NEAREST: Mapping[State, tuple[State, ...]] = {
    State.PREPARING: (State.SUSPENDED_EV, State.SUSPENDED_EVSE),
    State.SUSPENDED_EV: (State.FINISHING, State.PREPARING, State.SUSPENDED_EVSE, State.CHARGING),
    State.SUSPENDED_EVSE: (State.PREPARING, State.SUSPENDED_EV, State.CHARGING),
    State.FINISHING: (State.SUSPENDED_EV, State.SUSPENDED_EVSE, State.PREPARING),
}

Lookup = Callable[[str], Value | None]


class StateCodes:
    """The registers that `names` holds say the state; all others in the rules are given by `lookup`."""

    def __init__(self, profile: Profile, is_given: Callable[[Register], bool]) -> None:
        self._rules = profile.state
        self._plugged = profile.plugged
        conditions = [rule.when for rule in profile.state if rule.when is not None]
        if profile.plugged is not None:
            conditions.append(profile.plugged)
        used = sorted({name for condition in conditions for name in condition.names}, key=list(profile.registers).index)
        constants = list(dict.fromkeys(itertools.chain.from_iterable(map(_constants, conditions))))
        registers = [profile.registers[name] for name in used]
        self.names: tuple[str, ...] = tuple(register.name for register in registers if not is_given(register))
        self._given = tuple(register.name for register in registers if is_given(register))
        self._registers = {name: profile.registers[name] for name in self.names}
        self._choices = {name: _choices(register, constants) for name, register in self._registers.items()}
        self._last: dict[tuple[State, bool], tuple[tuple[Value | None, ...], tuple[Value, ...]]] = {}

    def values(self, state: State, plugged: bool, lookup: Lookup) -> Mapping[str, Value]:
        """The codes for this state and plug; `lookup` gives the other registers' values of this moment."""
        if not self.names:
            return {}
        given = tuple(lookup(name) for name in self._given)
        wanted = (state, plugged)
        before = self._last.get(wanted)
        if before is not None and (before[0] == given or self._reads(before[1], given) == wanted):
            return dict(zip(self.names, before[1], strict=True))
        codes = self._search(wanted, given)
        self._last[wanted] = (given, codes)
        return dict(zip(self.names, codes, strict=True))

    def _search(self, wanted: tuple[State, bool], given: tuple[Value | None, ...]) -> tuple[Value, ...]:
        state, plugged = wanted
        choices = [plausible_first(self._registers[name], choice, plugged) for name, choice in self._choices.items()]
        ranks = {read: rank for rank, read in enumerate((state, *_NEAREST.get(state, ())))}
        best, best_rank = tuple(choice[0] for choice in choices), len(ranks) * 2
        for codes in itertools.islice(itertools.product(*choices), _MOST_TRIES):
            read_state, read_plugged = self._reads(codes, given)
            rank = ranks.get(read_state, len(ranks))
            if read_plugged is not None and read_plugged != plugged:
                rank += len(ranks)
            if rank < best_rank:
                best, best_rank = codes, rank
                if rank == 0:
                    break
        return best

    def _reads(self, codes: Sequence[Value], given: Sequence[Value | None]) -> tuple[State, bool | None]:
        """What a client makes of these registers."""
        names = Names()
        names.update(zip(self.names, codes, strict=True))
        names.update((name, value) for name, value in zip(self._given, given, strict=True) if value is not None)
        holding = (rule.state for rule in self._rules if rule.when is None or _holds(rule.when, names))
        state = next(holding, State.UNKNOWN)
        return state, None if self._plugged is None else _holds(self._plugged, names)


_ILL = re.compile(r"inoperative|not available|unavailable|(?<!no )error|(?<!no )fault")
_LOCKS = re.compile(r"lock|plug|cable|socket")


def plausible_first(register: Register, choices: Sequence[Value], plugged: bool) -> list[Value]:
    """The choices with what a healthy device would say first, by the profile's texts for them.

    Rules often look at a register in one state only; in the others it should not contradict them: no "inoperative"
    while a car charges, no "no cable" while one is plugged in.
    """
    about_plug = _LOCKS.search(register.name) is not None

    def misfit(value: Value) -> tuple[bool, bool, bool]:
        text = register.enum.get(value if isinstance(value, str) else int(value), "").lower()
        ill = _ILL.search(text) is not None
        if not about_plug:
            return ill, False, False
        with_vehicle = "vehicle" in text and "no vehicle" not in text
        unlocked = "unlock" in text or "lock" not in text
        return ill, with_vehicle != plugged, unlocked == plugged

    return sorted(choices, key=misfit)


def _holds(condition: Expression, names: Names) -> bool:
    try:
        return bool(condition(names))
    except (Missing, Failed):
        return False


def _constants(condition: Expression) -> Iterable[Value]:
    for node in ast.walk(ast.parse(condition.text.strip(), mode="eval")):
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
            yield node.value


def _choices(register: Register, constants: Sequence[Value]) -> list[Value]:
    """What the register can hold that makes a difference: 0, its named codes, what rules compare with."""
    if register.kind is Kind.TRUTH:
        return [False, True]
    found: list[Value] = []
    if register.kind is Kind.TEXT:
        candidates: list[Value] = [key for key in register.enum if isinstance(key, str)]
        candidates += [constant for constant in constants if isinstance(constant, str)]
    else:
        numbers = [number for number in constants if not isinstance(number, bool | str)]
        candidates = [0, *(key for key in register.enum if isinstance(key, int))]
        candidates += numbers if register.enum else [n + d for n in numbers for d in (0, -1, 1)]
    for candidate in candidates:
        try:
            decoded = register.decode(register.encode(candidate))
        except ValueError:
            continue
        if decoded == candidate and decoded not in found:
            found.append(candidate)
    return found or [0 if register.kind is Kind.NUMBER else ""]
