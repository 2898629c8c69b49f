"""Relations between sizes that torch assumed: whether they hold for all promised sizes, and who checks them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Literal, Protocol

import sympy

from lowering.sizes.evaluation import Undefined, evaluate
from lowering.sizes.parsing import Term, Unknown, Unreadable, parse
from lowering.sizes.ranges import Range
from lowering.symbols.allowed import list_sizes
from lowering.symbols.schema import Line, Relation, Warned
from lowering.symbols.tracing.events import Event, decides_nothing, is_of_slice
from lowering.symbols.tracing.exporting import NAME, Export
from lowering.symbols.tracing.frames import convert_spot

Kind = Literal["guard", "equality", "divisibility", "runtime_assert", "assumption"]
Holds = Literal["always", "tried", "compared", "no", "unknown"]
Condition = tuple[Term, list[str]]

POINTS = 1024  # number of sizes to try for one relation
_WHOLE = 64  # ranges up to this length are tried completely
_MOST = 1 << 15  # number of points to try to prove a condition that torch deferred
_WORK = 1 << 20  # maximum number of operations to judge a condition: one of sizes that are computed from sizes can have thousands
_PROBES = (2, 3, 4, 5, 7, 8, 16, 31, 64, 127, 128, 1000, 4096)


class Sizes(Protocol):
    """The sizes of conditions: torch's symbols as expressions of the sizes that callers choose, and the ranges of these."""

    @property
    def values(self) -> Mapping[str, str]: ...

    @property
    def choices(self) -> Mapping[str, tuple[Range, int]]: ...


def list_relations(export: Export) -> tuple[Relation, ...]:
    """Return guards, run-time asserts and assumptions in the order torch met them, without duplicates of expression and code line."""
    found: dict[tuple[str, str, Line | None], Relation] = {}
    counts: dict[str, int] = {}
    for event in export.log.events:
        read = _read_condition(event)
        if read is None:
            continue
        kind, expr = read[0], export.rename_retraced(read[1])
        line = convert_spot(event.stack[-1]) if event.stack else None
        key = (kind, expr, line)
        retraced = line is None and any(other[:2] == key[:2] for other in found)
        if retraced or _is_request(kind, expr, line, export):
            continue
        if key in found:
            found[key] = replace(found[key], times=found[key].times + 1)
            continue
        text = export.translate(expr)
        holds, fails_at = judge(expr, export)
        birth = f"{kind}:{text}@{line.file}:{line.function}" if line else f"{kind}:{text}"
        counts[birth] = counts.get(birth, -1) + 1
        found[key] = Relation(f"{birth}#{counts[birth]}", kind, expr, text, line, 1, holds, fails_at, _list_checkers(kind, expr, export))
    return tuple(found.values())


def _read_condition(event: Event) -> tuple[Kind, str] | None:
    if event.kind == "guard":
        prefix, expr = str(event.data["prefix"]), str(event.data["expr"])
        if "suppressed" in prefix:
            return None
        if prefix.startswith("runtime_assert"):
            return None if is_of_slice(event) else ("runtime_assert", expr)
        if expr.startswith("Eq("):
            return "divisibility" if "Mod(" in expr and expr.endswith(", 0)") else "equality", expr
        return "guard", expr
    if event.kind in ("assumption", "ignored", "real_value") and not decides_nothing(event):
        return "assumption", read_assumption(event)
    return None


def read_assumption(event: Event) -> str:
    """Return the condition that an assumption event assumed to be true."""
    expr, value = event.data["expr"], event.data["assumed"]
    if value in (True, sympy.true):
        return str(expr)
    return str(sympy.Not(expr)) if value in (False, sympy.false) else f"Eq({expr}, {value})"


def warn_assumptions(found: Iterable[Relation]) -> Iterator[Warned]:
    """Warn of the assumptions that may not hold, once per code line: one line can make torch assume several things."""
    lines: dict[Line | None, list[str]] = {}
    for relation in found:
        if relation.kind == "assumption" and relation.holds not in ("always", "compared", "implied"):
            lines.setdefault(relation.line, []).append(relation.text)
    for line, texts in lines.items():
        message = f"assumed without a check: {', '.join(dict.fromkeys(texts))}"
        yield Warned("unchecked_assumption", message, str(line or "torch"), None, line)


def _is_request(kind: Kind, expr: str, line: Line | None, export: Export) -> bool:
    """Return whether an equality only repeats the declaration of the model: a shared symbol, or a dim derived from one."""
    if kind != "equality":
        return False
    if line is None:
        return _is_implied(expr, export)
    left, _, right = export.translate(expr).partition(" == ")
    return left == right


def _list_checkers(kind: Kind, expr: str, export: Export) -> tuple[str, ...]:
    """List the checkers of an expression after export: the graph's assertions, the guards of `ep.module()`, or the arguments' dims."""
    if export.program is None or kind == "assumption":
        return ()
    if kind == "runtime_assert":
        return ("exported",) if any("_assert_scalar" in str(node.target) for node in export.program.graph.nodes) else ()
    return ("exported", "signature") if kind == "equality" and _is_implied(expr, export) else ("exported",)


def _is_implied(expr: str, export: Export) -> bool:
    """Return whether the replacements turn both sides of an equality into the same expression of a free size."""
    live = next((guard.expr for guard in (export.env.guards if export.env else ()) if str(guard.expr) == expr), None)
    if live is None or not isinstance(live, sympy.Eq):
        return False
    left, right = (side.xreplace({symbol: export.final(symbol) for symbol in side.free_symbols}) for side in live.args)
    return bool(left.free_symbols) and sympy.expand(left - right) == 0


def judge(expr: str, export: Sizes) -> tuple[Holds, dict[str, int]]:
    """Return whether a condition holds for the promised sizes, and sizes (by the author's names) where it does not.

    Sizes for which it is undefined (a division by zero) break it. `unknown`: it depends on data, or uses a function that is not listed
    here.
    """
    condition = read_condition(expr, export)
    if condition is None:
        return "unknown", {}
    term, free = condition
    points, whole = _choose_points(free, export, _WORK // term.count)
    try:
        for point in points:
            if not is_true_at(term, point):
                return "no", point
    except Unknown:
        return "unknown", {}
    return ("always" if whole else "tried"), {}


def find_failing(expr: str, export: Export) -> list[dict[str, int]]:
    """Return the promised sizes among those that `judge` tries at which a condition is false; none if it depends on data."""
    condition = read_condition(expr, export)
    if condition is None:
        return []
    term, free = condition
    points, _ = _choose_points(free, export, _WORK // term.count)
    try:
        return [point for point in points if not is_true_at(term, point)]
    except Unknown:
        return []


def try_all_sizes(expr: str, export: Export) -> tuple[bool, bool] | None:
    """Return whether a condition holds for all promised sizes, and for any; None if they are too many to try, or it has no value."""
    condition = read_condition(expr, export)
    sizes = [list_sizes(*export.choices[name]) for name in condition[1]] if condition is not None else []
    if condition is None or not 0 < prod(map(len, sizes)) <= min(_MOST, 4 * _WORK // condition[0].count):
        return None
    try:
        held = {is_true_at(condition[0], dict(zip(condition[1], point, strict=True))) for point in itertools.product(*sizes)}
    except Unknown:
        return None
    return False not in held, True in held


def find_implied(conditions: Sequence[str], export: Export) -> set[str]:
    """Return the conditions that hold wherever the others do, later ones first; none if the sizes are too many to try each."""
    terms = {expr: condition[0] for expr in conditions if (condition := read_condition(expr, export)) is not None}
    names = [name for name in export.choices if any(name in set(term.symbols()) for term in terms.values())]
    sizes = [list_sizes(*export.choices[name]) for name in names]
    if not 0 < prod(map(len, sizes)) <= min(_MOST, 4 * _WORK // sum((term.count for term in terms.values()), 1)):
        return set()
    points = (dict(zip(names, point, strict=True)) for point in itertools.product(*sizes))
    held = [{expr for expr, term in terms.items() if is_true_at(term, point)} for point in points]
    left = list(terms)
    for expr in reversed(terms):
        others = set(left) - {expr}
        if others and all(expr in true for true in held if others <= true):
            left.remove(expr)
    return terms.keys() - set(left)


def count_refusals(conditions: Sequence[str], export: Export) -> int:
    """Count the tried sizes, the same ones for all conditions of a model, that break one of the conditions."""
    terms = [condition[0] for expr in conditions if (condition := read_condition(expr, export)) is not None]
    points, _ = _choose_points(list(export.choices), export, _WORK // sum((term.count for term in terms), 1))
    return sum(not all(is_true_at(term, point) for term in terms) for point in points) if terms else 0


def _choose_points(free: Sequence[str], export: Sizes, most: int) -> tuple[Iterator[dict[str, int]], bool]:
    """Return promised sizes of some names, and whether they are all that are promised."""
    candidates = [choose_probes(*export.choices[name], len(free)) for name in free]
    limit = min(POINTS, max(8, most))
    product = itertools.islice(itertools.product(*(sizes for sizes, _ in candidates)), limit)
    whole = all(whole for _, whole in candidates) and prod(len(sizes) for sizes, _ in candidates) <= limit
    return (dict(zip(free, sizes, strict=True)) for sizes in product), whole


def find_pins(found: Sequence[Relation], export: Export) -> dict[str, tuple[int, Relation]]:
    """Return the sizes chosen by callers (keys of `choices`) for which the relations allow one value: the value, and the strictest
    relation.

    torch notices only relations that it can solve for a symbol, and not, for example, the trip count of a loop over chunks,
    `(seq + 63) // 64 == 3`.
    """
    pins: dict[str, tuple[int, Relation]] = {}
    broken = [relation for relation in found if relation.holds == "no"]
    for name, (promised, step) in export.choices.items() if broken else ():
        sizes = list_sizes(promised, step)
        left = {relation.id: kept for relation in broken if (kept := _filter_sizes(relation, name, sizes, export)) is not None}
        both = set(sizes).intersection(*left.values())
        if len(sizes) > 1 and len(both) == 1:
            strictest = min((relation for relation in found if relation.id in left), key=lambda relation: len(left[relation.id]))
            pins[name] = both.pop(), strictest
    return pins


def evaluate_size(symbol: str, sizes: Mapping[str, int], export: Export) -> int | None:
    """Return the size of an input's dim, by torch's name of its symbol, for the chosen sizes. Return None if they do not determine it."""
    try:
        return int(evaluate(export.values[symbol], sizes))
    except (KeyError, Unknown):
        return None


def _filter_sizes(relation: Relation, name: str, sizes: list[int], export: Export) -> set[int] | None:
    """Return the sizes of one name that the relation allows, or None if it involves other names or data."""
    condition = read_condition(relation.expr, export)
    if condition is None or condition[1] != [name]:
        return None
    try:
        return {size for size in sizes if is_true_at(condition[0], {name: size})}
    except Unknown:
        return None


def read_condition(expr: str, export: Sizes) -> Condition | None:
    """Parse a condition on chosen sizes, and list them. Return None if it depends on data or cannot be read."""
    if not set(NAME.findall(expr)) <= export.values.keys():
        return None
    try:
        term = parse(NAME.sub(lambda match: export.values[match[0]], expr))
    except Unreadable:
        return None
    used = set(term.symbols())
    return term, [name for name in export.choices if name in used]


def read_condition_in_words(text: str, export: Export) -> Condition | None:
    """Read a condition in the author's words as `read_condition` does."""
    try:
        term = parse(text)
    except Unreadable:
        return None
    used = set(term.symbols())
    return (term, [name for name in export.choices if name in used]) if used and used <= export.choices.keys() else None


def is_true_where_tried(condition: Condition, export: Export) -> bool:
    """Return whether no tried size breaks a condition."""
    term, free = condition
    points, _ = _choose_points(free, export, _WORK // term.count)
    try:
        return all(is_true_at(term, point) for point in points)
    except Unknown:
        return False


def is_true_at(condition: Term, point: Mapping[str, int]) -> bool:
    try:
        return bool(evaluate(condition, point))
    except Undefined:
        return False


def choose_probes(sizes: Range, step: int, dims: int) -> tuple[list[int], bool]:
    """Return sizes of a range that are worth trying, ends first, and whether they are the whole range.

    Fewer per dim if there are many dims.
    """
    lower, upper = sizes.counts(step)
    limit = _WHOLE if dims == 1 else max(4, int(POINTS ** (1 / dims)))
    if upper is not None and upper - lower < limit:
        return [number * step for number in range(lower, upper + 1)], True
    ends = [lower, lower + 1, *([upper, upper - 1] if upper is not None else [])]
    inside = [number for number in _PROBES if number > lower + 1 and (upper is None or number < upper - 1)]
    return [number * step for number in (ends + inside)[:limit]], False
