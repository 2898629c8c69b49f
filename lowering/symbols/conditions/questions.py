"""The questions about sizes that a trace asks torch and that the declared ranges do not answer.

A trace depends on the ranges only by what they decide. Narrower ranges decide what wider ones do, and perhaps more: if they leave open what
the wider ones leave open, the trace is the same.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

import sympy
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from lowering.sizes.evaluation import Undefined, evaluate
from lowering.sizes.parsing import Unknown, parse
from lowering.sizes.ranges import Range
from lowering.symbols.conditions.relations import choose_probes
from lowering.symbols.tracing.exporting import NAME

_MOST_POINTS = 4096  # tried for one question


@dataclass
class Questions:
    """The conditions and sizes whose value the ranges left open, in torch's symbols, in the order in which they were asked."""

    asked: dict[ShapeEnv, dict[sympy.Basic, None]] = field(default_factory=dict)

    def add(self, env: ShapeEnv, expr: Any) -> None:
        if isinstance(expr, sympy.Basic) and expr.free_symbols:
            self.asked.setdefault(env, {}).setdefault(expr)

    def list_open(self, env: ShapeEnv) -> tuple[str, ...]:
        """Return those of one ShapeEnv."""
        return tuple(dict.fromkeys(map(str, self.asked.get(env, ()))))


@contextmanager
def watch_questions() -> Iterator[Questions]:
    """Collect the conditions that a ShapeEnv is asked inside the block and cannot evaluate.

    Each decision by ranges goes through one of three methods: the evaluation of an expression, by simplification or by intervals alone, and
    the interval of an expression, which torch compares with 0.
    """
    found = Questions()
    names = ("_maybe_evaluate_static", "_maybe_evaluate_range_only", "bound_sympy")
    before = {name: getattr(ShapeEnv, name) for name in names}
    evaluate_static, evaluate_range, bound = before.values()

    @functools.wraps(evaluate_static)
    def watch_static(self: ShapeEnv, expr: Any, *args: Any, **options: Any) -> Any:
        answer = evaluate_static(self, expr, *args, **options)
        if answer is None and not options.get("compute_hint"):  # hints are sizes of the example
            found.add(self, expr)
        return answer

    def watch_range(self: ShapeEnv, expr: Any, fallback: Any = None) -> Any:
        answer = evaluate_range(self, expr, None)
        if answer is None:
            found.add(self, expr)
        return fallback if answer is None else answer

    def watch_bound(self: ShapeEnv, expr: Any, size_oblivious: bool = False) -> Any:
        interval = bound(self, expr, size_oblivious)
        if interval.lower < 0:
            found.add(self, expr >= 0)
        return interval

    for name, watch in zip(names, (watch_static, watch_range, watch_bound), strict=True):
        setattr(ShapeEnv, name, watch)
    try:
        yield found
    finally:
        for name, method in before.items():
            setattr(ShapeEnv, name, method)


def is_open(question: str, ranges: Mapping[str, Range]) -> bool:
    """Return whether a condition or size surely has no single value in ranges of torch's symbols, as it has several there.

    False if no two values were found, or if it depends on data.
    """
    names = sorted(set(NAME.findall(question)))
    if not names or not ranges.keys() >= set(names):
        return False
    try:
        term = parse(question)
    except Unknown:
        return False
    sizes = [choose_probes(ranges[name], 1, len(names))[0] for name in names]
    values = set()
    for point in islice(_vary(sizes), _MOST_POINTS):
        try:
            values.add(evaluate(term, dict(zip(names, point, strict=True))))
        except Undefined:
            continue
        except Unknown:
            return False
        if len(values) > 1:
            return True
    return False


def _vary(sizes: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """Iterate over points: equal positions in all lists first, where most differences show, then all combinations."""
    yield from zip(*sizes, strict=False)
    yield from product(*sizes)
