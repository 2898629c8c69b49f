"""Find the conditions that torch's own code asked and on which no number depends, such as the choice of a convolution's backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import prod
from typing import Literal

import sympy
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.value_ranges import ValueRanges

from lowering.fx import cleanup
from lowering.symbols.conditions.deferred import Deferred
from lowering.symbols.conditions.relations import find_failing, warn_assumptions
from lowering.symbols.schema import SymbolRecord
from lowering.symbols.tracing.exporting import Export
from lowering.symbols.tracing.frames import Spot

Agrees = Callable[[ExportedProgram, Mapping[str, int]], bool]  # whether a program without its assertions computes what the module does

_POINTS = 3  # sizes at which a condition is compared
_LARGER = 16  # how many times larger than the traced ones they may be


def mark_harmless(
    conditions: Sequence[Deferred], program: ExportedProgram, export: Export, seen: Mapping[sympy.Basic, Spot], agrees: Agrees
) -> tuple[Deferred, ...]:
    """Return the conditions; those that torch's own code asked, and without which `program` is right, have the verdict `compared`.

    What the model's code branches on (`seen`) stays asserted: a difference that only some values show would be missed.
    """
    asked = {export.rename_retraced(str(expr)) for expr in seen}
    points = {one.expr: _choose_points(one, export) for one in conditions if one.verdict == "part" and one.expr not in asked}
    known: dict[tuple[tuple[str, int], ...], bool] = {}

    def is_right(point: Mapping[str, int]) -> bool:
        key = tuple(sorted(point.items()))
        if key not in known:
            known[key] = agrees(program, point)
        return known[key]

    right = {expr for expr, chosen in points.items() if chosen and all(map(is_right, chosen))}
    return tuple(replace(one, verdict="compared") if one.expr in right else one for one in conditions)


def forget(conditions: Sequence[Deferred], export: Export) -> None:
    """Undo the conclusions that tracing drew from conditions that are not asserted.

    Each size has its declared range again. Where a later trace asks such a condition, it is a guard of its own, which nobody has judged.
    """
    compared = {one.expr for one in conditions if one.verdict == "compared"}
    if export.env is None or export.program is None or not compared:
        return
    _forget_facts(compared, export.env, export)
    cleanup.drop_assertions(export.program.graph_module, compared)
    for dim in export.declared:
        symbol = export.own.get(dim.id)
        if symbol is None or dim.dim is None or export.final(symbol) != symbol or symbol not in export.env.var_to_range:
            continue
        promised, _ = export.find_promised_range(dim)
        traced = export.find_traced_range(symbol)
        if traced is None or promised.within(traced):
            continue
        upper = export.env.var_to_range[symbol].upper if promised.upper is None else sympy.Integer(promised.upper)
        whole = ValueRanges(sympy.Integer(promised.lower or 0), upper)
        export.env.var_to_range[symbol] = whole
        if symbol in export.program.range_constraints:
            export.program.range_constraints[symbol] = whole


def _forget_facts(compared: Collection[str], env: ShapeEnv, export: Export) -> None:
    """Remove conditions from the guards and assertions that `env` takes for granted."""

    def is_kept(expr: sympy.Basic) -> bool:
        return export.rename_retraced(str(expr)) not in compared

    env.guards = [guard for guard in env.guards if is_kept(guard.expr)]
    env.deferred_runtime_asserts = {
        symbol: [one for one in asserted if is_kept(one.expr)] for symbol, asserted in env.deferred_runtime_asserts.items()}
    kept = (*env.guards, *chain.from_iterable(env.deferred_runtime_asserts.values()))
    env.axioms = {fact: value for one in kept for fact, value in env.get_implications(env.simplify(one.expr))}
    env._version_counter += 1  # answers to earlier questions are kept by this number


def mark_relations(found: SymbolRecord, conditions: Sequence[Deferred]) -> SymbolRecord:
    """Return a record in which the conditions that were compared, or that others imply, break no promise of their own."""
    spared: dict[str, Literal["compared", "implied"]] = {
        one.expr: one.verdict for one in conditions if one.verdict == "compared" or one.verdict == "implied"}
    texts = {relation.text for relation in found.relations if relation.expr in spared}
    relations = tuple(replace(each, holds=spared[each.expr]) if each.expr in spared else each for each in found.relations)
    warnings = (each for each in found.warnings if each.code != "unchecked_assumption"
                and (each.code != "guard_within_range" or each.place not in texts))  # fmt: skip
    return replace(found, relations=relations, warnings=(*warnings, *warn_assumptions(relations)))


def _choose_points(one: Deferred, export: Export) -> list[dict[str, int]]:
    """Return declared sizes that break a condition: the smallest, the largest, and one between, none much larger than the traced ones."""
    examples = export.model.examples()
    failing = [point for point in find_failing(one.expr, export) if point.keys() <= examples.keys()
               and prod(point.values()) <= _LARGER * prod(examples[name] for name in point)]  # fmt: skip
    failing.sort(key=lambda point: prod(point.values()))
    chosen = [failing[index] for index in sorted({0, len(failing) // 2, len(failing) - 1})[:_POINTS]] if failing else []
    return [{**examples, **point} for point in chosen]
