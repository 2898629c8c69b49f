"""The warnings of a record: everything about its dims that users of the compiled program would not expect."""

from __future__ import annotations

from collections.abc import Iterator

from lowering.sizes.ranges import Range, round_down, round_up
from lowering.symbols.conditions.relations import Sizes, warn_assumptions
from lowering.symbols.schema import Relation, Requested, SymbolEntry, Warned
from lowering.symbols.tracing.exporting import Export


def list_warnings(
    export: Export, dims: tuple[Requested, ...], symbols: tuple[SymbolEntry, ...], found: tuple[Relation, ...]
) -> tuple[Warned, ...]:
    """Return the warnings by weight: lost dims, changed dims, ranges, guards, assumptions, and the log itself."""
    return (*list_size_warnings(export, dims, symbols if export.program is not None else (), found, export.error is not None),
            *_warn_log(export))


def list_size_warnings(
    sizes: Sizes, dims: tuple[Requested, ...], symbols: tuple[SymbolEntry, ...], found: tuple[Relation, ...], failed: bool = False
) -> tuple[Warned, ...]:
    """Return those about sizes. symbols: of the program, none if the export failed."""
    return (*(warning for dim in dims if (warning := _warn_lost(dim)) is not None), *_warn_changed(dims), *_warn_examples(dims),
            *_warn_ranges(sizes, symbols), *_warn_guards(found, failed), *warn_assumptions(found))


def _warn_lost(dim: Requested) -> Warned | None:
    if dim.verdict == "specialized":
        return Warned("became_static", f"{dim.id}, requested as {dim.asked}, became {dim.value}: {dim.why}", dim.id, dim.value, dim.line)
    if dim.verdict != "never_symbol":
        return None
    code = "example_0_or_1" if dim.value in (0, 1) else "no_symbol"
    return Warned(code, f"{dim.id}, requested as {dim.asked}, is always {dim.value}: {dim.why}", dim.id, dim.value, dim.line)


def _warn_changed(dims: tuple[Requested, ...]) -> Iterator[Warned]:
    for dim in dims:
        if dim.verdict == "merged":
            message = f"{dim.id}, requested as {dim.asked}, must equal {', '.join(dim.related)}: {dim.why}"
            yield Warned("became_equal", message, dim.id, None, dim.line)
        elif dim.verdict == "derived" and dim.asked == "null":
            yield Warned("became_derived", f"{dim.id}, requested as null, is {dim.expr}: {dim.why}", dim.id, None, dim.line)


def _warn_examples(dims: tuple[Requested, ...]) -> Iterator[Warned]:
    for dim in dims:
        if dim.asked != "null" and dim.example is not None and not Range(dim.example, dim.example).within(dim.promised):
            yield Warned("example_outside_range", f"{dim.id} was traced at {dim.example}, outside {dim.promised}", dim.id, dim.example)


def _warn_ranges(sizes: Sizes, symbols: tuple[SymbolEntry, ...]) -> Iterator[Warned]:
    """Warn once per chosen size of which tracing saw fewer than the promised range, such as only sizes of 2 and more."""
    for symbol in symbols:
        value = sizes.values.get(symbol.name, "").strip("()")
        word, _, step = value.partition("//")
        if word not in sizes.choices or symbol.became is not None:
            continue
        promised, factor = sizes.choices[word][0], int(step or 1)
        traced = Range(_scale_bound(symbol.traced.lower, factor), _scale_bound(symbol.traced.upper, factor))
        given = Range(round_up(promised.lower or 0, factor), None if promised.upper is None else round_down(promised.upper, factor))
        if given.within(traced):
            continue
        cause = next((change for change in reversed(symbol.history) if change.what == "range" and change.line), None)
        why = f"{cause.cause} at {cause.line}" if cause else "torch does not trace sizes 0 and 1"
        yield Warned("promised_wider_than_traced", f"{word} is promised in {given} but was traced in {traced}: {why}", word, None,
                     cause.line if cause else None)


def _scale_bound(bound: int | None, factor: int) -> int | None:
    return None if bound is None else bound * factor


def _warn_guards(found: tuple[Relation, ...], failed: bool) -> Iterator[Warned]:
    for relation in found:
        if failed and "!=" in relation.text:
            continue  # an op that takes no such sizes raised: that they differ is nothing that the code needs
        if relation.holds == "no" and relation.kind in ("guard", "equality", "divisibility", "runtime_assert"):
            sizes = ", ".join(f"{name}={size}" for name, size in relation.fails_at.items())
            yield Warned("guard_within_range", f"{relation.text} does not hold at {sizes}", relation.text, None, relation.line)


def _warn_log(export: Export) -> Iterator[Warned]:
    if export.env is None or len(export.own) > sum(event.kind in ("symbol", "shared") for event in export.log.events):
        yield Warned("log_incomplete", "torch created symbols without logging them: logging is off, or its messages changed "
                                       "(lowering.symbols.tracing.selftest lists them)", "torch")
    if export.log.failed:
        message = f"{export.log.failed} log events could not be read; the first:\n{export.log.failures[0]}"
        yield Warned("log_failed", message, "the symbol log", export.log.failed)
