"""The small language in which a profile says "when" and "how much": `mode3_state == 5 and socket_lock >= 0x101`.

Python's grammar for a few operators, read by Python's parser and compiled here into closures; nothing is ever
evaluated as Python. Names are registers of the profile. Kinds (number, truth, text) are checked when a profile is
loaded, so that evaluating can only meet values that are missing.

    comparison   == != < <= > >=, chained; `in (1, 2)`, `not in ("A", "E")`
    logic        and or not
    arithmetic   + - * / (a division by zero is a missing value)
    known(x)     whether x is there at all
    first(x, y)  the first that is there
    total(x, y)  the sum of those that are there; missing when none is

A name the device does not offer or marks as not available is *missing*; a name whose read failed has *failed*, and
that is never papered over: `known`, `first` and `total` let a failure through.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evedge.core.measurands import Kind
from evedge.core.model import Value

MAX_LENGTH = 500
"""Characters. Longer ones belong into two rules; and the parser's depth stays bounded."""


class Missing(Exception):  # noqa: N818 -- a condition, not a mistake
    """A value the expression needs is not there: the device does not offer it, or says it is not available."""


class Failed(Exception):  # noqa: N818
    """A value the expression needs could not be read. `args[0]` is the reason."""


class Names(dict[str, Value]):
    """The values an expression sees: registers by name, those that were read; why others failed; those known before.

    derived: filled by those who compute a measurand, with its name.

    A plain dict for what is there, so that a look-up costs what a dict costs; only a miss is Python.
    """

    __slots__ = ("derived", "failed", "known_before")

    def __init__(self, known_before: Mapping[str, Value] | None = None) -> None:
        super().__init__()
        self.failed: dict[str, str] = {}
        self.derived: set[str] = set()
        self.known_before = known_before

    def __missing__(self, name: str) -> Value:
        if name in self.failed:
            raise Failed(self.failed[name])
        if self.known_before is not None and name in self.known_before:
            return self.known_before[name]
        raise Missing(name)


Evaluate = Callable[[Names], Value]
"""Gives the value; raises Missing or Failed, and nothing else."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression: what it gives, which registers it reads, and how to get the value."""

    text: str
    kind: Kind
    names: frozenset[str]
    evaluate: Evaluate

    def __call__(self, names: Names) -> Value:
        return self.evaluate(names)


def compile_expression(text: str, kinds: Mapping[str, Kind]) -> Expression:
    """Compile against the names that exist and their kinds. Raises ValueError with one line for anything else."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():  # '\d' in a text is a mistake of the profile, not news for the log
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"cannot be read: {getattr(error, 'msg', None) or error}") from None
    compiler = _Compiler(kinds)
    try:
        kind, evaluate = compiler.node(tree.body)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return Expression(text, kind, frozenset(compiler.names), evaluate)


_Compiled = tuple[Kind, Evaluate]

_ORDER: Mapping[type[ast.cmpop], Callable[..., bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUAL: Mapping[type[ast.cmpop], Callable[..., bool]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_ARITHMETIC: Mapping[type[ast.operator], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class _Compiler:
    """Turns nodes into closures; remembers which names were met."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self.names: set[str] = set()

    def node(self, node: ast.expr) -> _Compiled:
        match node:
            case ast.Constant(value=value):
                return self._constant(value)
            case ast.Name(id=name):
                return self._name(name)
            case ast.BoolOp(op=op, values=values):
                return self._logic(op, values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._of(operand, Kind.TRUTH)
                return Kind.TRUTH, lambda names: not inner(names)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return self._constant(-value)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._arithmetic(_ARITHMETIC[type(op)], left, right)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._comparison(left, ops, comparators)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if args:
                return self._call(name, args)
        raise ValueError(f"holds {ast.unparse(node)!r}, which is not part of this language")

    def _of(self, node: ast.expr, wanted: Kind) -> Evaluate:
        kind, evaluate = self.node(node)
        if kind is not wanted:
            raise ValueError(f"uses {ast.unparse(node)!r}, a {kind}, where a {wanted} is needed")
        return evaluate

    def _constant(self, value: object) -> _Compiled:
        if isinstance(value, bool):
            return Kind.TRUTH, lambda _: value
        if isinstance(value, int | float):
            return Kind.NUMBER, lambda _: value
        if isinstance(value, str):
            return Kind.TEXT, lambda _: value
        raise ValueError(f"holds {value!r}, which is no number, truth value or text")

    def _name(self, name: str) -> _Compiled:
        if name not in self._kinds:
            raise ValueError(f"names {name!r}, which is no register that can be read here")
        self.names.add(name)
        return self._kinds[name], operator.itemgetter(name)

    def _logic(self, op: ast.boolop, values: Sequence[ast.expr]) -> _Compiled:
        parts = tuple(self._of(value, Kind.TRUTH) for value in values)
        if isinstance(op, ast.And):
            return Kind.TRUTH, lambda names: all(part(names) for part in parts)
        return Kind.TRUTH, lambda names: any(part(names) for part in parts)

    def _arithmetic(self, apply: Callable[..., float], left: ast.expr, right: ast.expr) -> _Compiled:
        one, other = self._of(left, Kind.NUMBER), self._of(right, Kind.NUMBER)

        def evaluate(names: Names) -> Value:
            try:
                return apply(one(names), other(names))
            except (ZeroDivisionError, OverflowError):
                raise Missing("no result") from None

        return Kind.NUMBER, evaluate

    def _comparison(self, left: ast.expr, ops: Sequence[ast.cmpop], rights: Sequence[ast.expr]) -> _Compiled:
        pairs = []
        for op, right in zip(ops, rights, strict=True):
            pairs.append(self._pair(left, op, right))
            left = right
        if len(pairs) == 1:
            return Kind.TRUTH, pairs[0]
        return Kind.TRUTH, lambda names: all(pair(names) for pair in pairs)

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Evaluate:
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, right, wanted=isinstance(op, ast.In))
        if type(op) in _ORDER:
            compare = _ORDER[type(op)]
            one, other = self._of(left, Kind.NUMBER), self._of(right, Kind.NUMBER)
        elif type(op) in _EQUAL:
            compare = _EQUAL[type(op)]
            kind, one = self.node(left)
            other = self._of(right, kind)
        else:
            raise ValueError("compares with something else than == != < <= > >= in, not in")
        if isinstance(right, ast.Constant):  # the common case, `state == 3`, without the second call
            constant = right.value
            return lambda names: compare(one(names), constant)
        return lambda names: compare(one(names), other(names))

    def _membership(self, left: ast.expr, right: ast.expr, *, wanted: bool) -> Evaluate:
        kind, one = self.node(left)
        if not isinstance(right, ast.Tuple | ast.List) or not all(
            isinstance(item, ast.Constant) for item in right.elts
        ):
            raise ValueError("`in` needs a list of constants: x in (1, 2)")
        for item in right.elts:
            self._of(item, kind)
        members = frozenset(item.value for item in right.elts if isinstance(item, ast.Constant))
        return lambda names: (one(names) in members) is wanted

    def _call(self, name: str, args: Sequence[ast.expr]) -> _Compiled:
        if name == "known":
            parts = tuple(self.node(arg)[1] for arg in args)
            return Kind.TRUTH, lambda names: all(_try(part, names) is not None for part in parts)
        if name == "first":
            kind, _ = self.node(args[0])
            choices = tuple(self._of(arg, kind) for arg in args)
            return kind, lambda names: _first(choices, names)
        if name == "total":
            addends = tuple(self._of(arg, Kind.NUMBER) for arg in args)
            return Kind.NUMBER, lambda names: _total(addends, names)
        raise ValueError(f"calls {name!r}; known, first and total exist")


def _try(part: Evaluate, names: Names) -> Value | None:
    try:
        return part(names)
    except Missing:
        return None


def _first(choices: Sequence[Evaluate], names: Names) -> Value:
    for choice in choices:
        value = _try(choice, names)
        if value is not None:
            return value
    raise Missing("none of them")


def _total(addends: Sequence[Evaluate], names: Names) -> float:
    there = [value for addend in addends if isinstance(value := _try(addend, names), int | float)]
    if not there:
        raise Missing("none of them")
    return sum(there)
