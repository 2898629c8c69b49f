"""The verdict on each requested dim: its outcome, the reason, and the code line that decided it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import sympy

from lowering.symbols.conditions.relations import evaluate_size, find_pins
from lowering.symbols.log.table import find_forward_line
from lowering.symbols.schema import Failure, Line, Relation, Requested, Verdict
from lowering.symbols.tracing.events import Event
from lowering.symbols.tracing.exporting import NAME, Declared, Export
from lowering.symbols.tracing.frames import convert_spot

Pins = Mapping[str, tuple[int, Relation]]  # chosen sizes that the code fixes: the value, and the relation that requires it


def list_requested(export: Export, relations: tuple[Relation, ...], failure: Failure | None) -> tuple[Requested, ...]:
    """Return one entry per declared dynamic dim, in the order of the inputs."""
    owners: dict[str, Declared] = {}
    pins = find_pins(relations, export) if failure is None else {}
    return tuple(_describe_dim(export, dim, owners, relations, failure, pins) for dim in export.declared)


def _describe_dim(
    export: Export, dim: Declared, owners: dict[str, Declared], relations: tuple[Relation, ...], failure: Failure | None, pins: Pins
) -> Requested:
    own = export.own.get(dim.id)
    final: sympy.Expr | None = None if own is None else export.final(own)
    promised, step = export.find_promised_range(dim)
    facts: dict[str, Any] = {"id": dim.id, "argument": dim.argument, "dim": dim.position, "asked": dim.asked, "promised": promised,
                             "multiple_of": step, "example": export.examples[dim.id], "symbol": None if own is None else str(own)}
    if own is None or final is None:
        return Requested(**facts, **_describe_without_symbol(export, dim, failure))
    if final.is_number:
        cause, line = _find_cause(export, own)
        return Requested(**facts, verdict="specialized", expr=str(final), value=int(final), why=cause, line=line)
    if (pin := _find_pin(export, str(own), pins)) is not None:
        size, relation = pin
        why = f"the code allows only this one of the promised sizes: it needs {relation.text}"
        return Requested(**facts, verdict="specialized", expr=str(size), value=size, why=why, line=relation.line)
    owner = owners.setdefault(str(final), dim)
    words = export.translate(str(own if final.is_Symbol and owner is dim else final))
    if owner is not dim and not _is_same(owner, dim):
        cause, line = _find_cause(export, own)
        return Requested(**facts, verdict="merged", expr=words, related=(owner.id,), why=cause, line=line)
    if failure is not None:
        return Requested(**facts, expr=words, **_describe_failed(export, dim, own, failure, relations))
    if dim.dim is not None and (dim.dim.scale != 1 or dim.dim.offset):
        return Requested(**facts, verdict="derived", expr=words, related=_list_roots(export, final), why="as declared",
                         line=find_forward_line(export.log.forward))
    if dim.dim is None and not final.is_Symbol:
        cause, line = _find_cause(export, own)
        return Requested(**facts, verdict="derived", expr=words, related=_list_roots(export, final), why=cause, line=line)
    return Requested(**facts, verdict="dynamic", expr=words, line=find_forward_line(export.log.forward))


def _find_pin(export: Export, own: str, pins: Pins) -> tuple[int, Relation] | None:
    """Return the only size that is left of a dim, and the relation that excludes all others."""
    size = evaluate_size(own, {name: value for name, (value, _) in pins.items()}, export) if pins else None
    if size is None:
        return None
    names = (name for name in pins if re.search(rf"\b{name}\b", export.values[own]))
    name = next(names, None)
    return None if name is None else (size, pins[name][1])


def _is_same(left: Declared, right: Declared) -> bool:
    """Return whether the author requested the two dims to be equal: the same expression of a named symbol."""
    return left.dim is not None and left.dim == right.dim


def _list_roots(export: Export, final: sympy.Expr) -> tuple[str, ...]:
    return tuple(sorted(export.meanings.get(str(symbol), str(symbol)) for symbol in final.free_symbols))


def _describe_without_symbol(export: Export, dim: Declared, failure: Failure | None) -> dict[str, Any]:
    example = export.examples[dim.id]
    line = find_forward_line(export.log.forward)
    if not export.own and failure is not None and example not in (0, 1):
        return {"verdict": "undecided", "why": "the export failed before torch created symbols", "line": failure.line}
    if example in (0, 1):
        return {"verdict": "never_symbol", "value": example, "line": line,
                "why": f"its example size is {example}, and torch creates no symbols for sizes 0 and 1"}
    return {"verdict": "never_symbol", "value": example, "line": line, "why": "torch treated the example's size as fixed"}


def _find_cause(export: Export, own: sympy.Symbol) -> tuple[str, Line | None]:
    """Return the guard, or torch's reason, and the line that replaced a symbol. Follows a chain of replacements to its end."""
    replaced: dict[str, tuple[Event, Event | None]] = {}
    for event, guard in export.causes():
        if event.kind == "replacement":
            replaced.setdefault(str(event.data["symbol"]), (event, guard))
    direct = replaced.get(str(own))
    if direct is None:
        other = next((pair for pair in replaced.values() if pair[0].data["target"].has(own)), None)
        return _describe_cause(export, *other) if other else ("", None)
    target = direct[0].data["target"]
    while getattr(target, "is_Symbol", False) and str(target) in replaced:
        direct = replaced[str(target)]
        target = direct[0].data["target"]
    return _describe_cause(export, *direct)


def _describe_cause(export: Export, event: Event, guard: Event | None) -> tuple[str, Line | None]:
    stack = event.stack or (guard.stack if guard else ())
    reason = str(guard.data["expr"]) if guard else f"Eq({event.data['symbol']}, {event.data['target']})"
    return f"the code needs {export.translate(reason)}", convert_spot(stack[-1]) if stack else None


def _describe_failed(export: Export, dim: Declared, own: sympy.Symbol, failure: Failure, relations: tuple[Relation, ...]) -> dict[str, Any]:
    if failure.kind != "constraint_violation":
        return {"verdict": "undecided", "why": "the export failed before it was decided", "line": failure.line}
    if not _is_accused(export, dim, failure):
        return {"verdict": "dynamic", "line": find_forward_line(export.log.forward)}
    broken = [relation for relation in relations if relation.holds == "no" and str(own) in _list_names(relation)]
    why = f"the code needs {broken[0].text}" if broken else "; ".join(failure.violations)
    verdict: Verdict = "refused"
    return {"verdict": verdict, "why": why, "line": broken[0].line if broken else failure.line}


def _is_accused(export: Export, dim: Declared, failure: Failure) -> bool:
    """Return whether a violation names the dim, in either of the two forms that torch writes its source in."""
    ways = [source for source, name in export.sources.items() if name == dim.argument] or [f"['{dim.argument}']"]
    sources = [f"{way}.{size}[{dim.position}]" for way in ways for size in ("size()", "shape")]
    return any(source in violation for source in sources for violation in failure.violations)


def _list_names(relation: Relation) -> set[str]:
    return set(NAME.findall(relation.expr))
