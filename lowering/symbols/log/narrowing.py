"""Derive the symbol record of an export from that of the same model with wider ranges, where both exports give the same program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from lowering.fx.dynamic_shapes import PHANTOM
from lowering.model import Model
from lowering.sizes import normal
from lowering.sizes.dims import Affine, parse_dim
from lowering.sizes.ranges import Bound, Range
from lowering.symbols.conditions.questions import is_open
from lowering.symbols.conditions.relations import judge
from lowering.symbols.log.warned import list_size_warnings
from lowering.symbols.schema import Happening, Relation, Requested, SymbolEntry, SymbolRecord
from lowering.symbols.tracing.exporting import NAME, convert_promise

_INTERVAL = re.compile(r"\[(-?\w+), (-?\w+)\]$")
_UNBOUNDED = "int_oo"
_TRACED = 2  # torch traces no size below this


class Separate(Exception):
    """An export of narrower ranges must be made by itself. The message says why."""


@dataclass(frozen=True)
class Sharing:
    """The facts of an export that decide whether exports of narrower ranges can share it.

    obstacle: why they must be separate; empty if the rest decides. open: the questions on sizes that its ranges left open, in torch's
    symbols. branches: conditions that the model's code branches on, each with declared sizes that break it, at which the program was
    compared with the model.
    """

    obstacle: str = ""
    open: tuple[str, ...] = ()
    branches: tuple[tuple[str, Mapping[str, int]], ...] = ()


@dataclass(frozen=True)
class _Sizes:
    """The sizes of a model that callers choose, and torch's symbols as expressions of them."""

    values: Mapping[str, str]
    choices: Mapping[str, tuple[Range, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Dim:
    """A torch symbol in the author's terms: an expression of a declared symbol, or (None) the root that counts the symbol's steps."""

    symbol: str
    affine: Affine | None = None

    def list_lowers(self, bound: Bound) -> list[int]:
        """Return the lower bounds that torch can give: the declared one, and those of a trace that takes no size below 2."""
        count, _ = bound.counts
        return [self._compute(bound, count), max(_TRACED, self._compute(bound, count)), self._compute(bound, max(_TRACED, count))]

    def find_upper(self, bound: Bound) -> int | None:
        _, count = bound.counts
        return None if count is None else self._compute(bound, count)

    def _compute(self, bound: Bound, count: int) -> int:
        return count if self.affine is None else self.affine.at({self.symbol: count * bound.multiple_of})


class Narrowing:
    """The ranges of a record's symbols in two models that differ in the ranges of their symbols only. Raises Separate."""

    def __init__(self, record: SymbolRecord, wide: Model, narrow: Model):
        if wide.examples() != narrow.examples():
            raise Separate("the example sizes differ")
        self.record, self.wide, self.narrow = record, wide, narrow
        self.entries = {entry.name: entry for entry in record.symbols}
        self.dims = {entry.name: _read_meaning(entry, wide) for entry in record.symbols}

    def narrow_range(self, name: str, span: Range) -> Range:
        """Return the range of a torch symbol in the narrow model whose range in the wide one is `span`."""
        dim = self.dims[name]
        before, after = (model.symbols[dim.symbol] for model in (self.wide, self.narrow))
        lower = {new for old, new in zip(dim.list_lowers(before), dim.list_lowers(after), strict=True) if old == span.lower}
        upper = {dim.find_upper(after)} if dim.find_upper(before) == span.upper else set()
        if len(lower) != 1 or len(upper) != 1:
            raise Separate(f"the range {span} of {self.entries[name].meaning} does not follow from the declared ranges alone")
        return Range(lower.pop(), upper.pop())

    def narrow_constraint(self, expr: str, span: Range) -> Range:
        """Return the narrow range of a symbol of the program, or of the expression that replaced one, whose wide range is `span`."""
        names = [expr] if expr in self.entries else [entry.name for entry in self.record.symbols if entry.became == expr]
        found = {self.narrow_range(name, span) for name in names}
        if len(found) != 1:
            raise Separate(f"the program bounds {expr}, which is no declared dim")
        return found.pop()

    def implies_guards(self, least: int) -> bool:
        """Return whether the declared dims imply the guards that order sizes or tell them apart, in any ranges.

        Such is `total <= past + 1` of a dim that is declared as `past + 1`. A guard on a range could be idle in a narrower one. least: how
        many of them the program has.
        """
        guards = [relation.expr for relation in self.record.relations if relation.kind == "guard"]
        values = self._describe_sizes(self.narrow).values
        return len(guards) >= least and all(_is_true_anywhere(expr, values) for expr in guards)

    def narrow_record(self, sharing: Sharing) -> SymbolRecord:
        """Return the record of an export of the narrow model, which has the same program."""
        before, after = (self._describe_sizes(model) for model in (self.wide, self.narrow))
        if list_size_warnings(before, self.record.requested, self.record.symbols, self.record.relations) != self.record.warnings:
            raise Separate("the export has warnings of its own")
        requested = tuple(map(self._narrow_dim, self.record.requested))
        symbols = tuple(map(self._narrow_entry, self.record.symbols))
        relations = tuple(_narrow_relation(relation, after) for relation in self.record.relations)
        spans = {entry.name: entry.traced for entry in symbols}
        if fixed := next((entry for entry in symbols if entry.traced.lower == entry.traced.upper), None):
            raise Separate(f"the narrower ranges leave a single size of {fixed.meaning} to the trace")
        if decided := next((one for one in sharing.open if not is_open(one, spans)), None):
            raise Separate(f"the narrower ranges may decide {decided}")
        for expr, fails_at in sharing.branches:
            if judge(expr, after) != ("no", dict(fails_at)):
                raise Separate(f"the program was compared with the model where {expr} is false, and the narrower ranges lack these sizes")
        return replace(self.record, requested=requested, symbols=symbols, relations=relations, events=tuple(self._narrow_events()),
                       warnings=list_size_warnings(after, requested, symbols, relations))

    def _describe_sizes(self, model: Model) -> _Sizes:
        values = {name: f"({dim.affine})" if dim.affine is not None else f"({dim.symbol}//{model.symbols[dim.symbol].multiple_of})"
                  for name, dim in self.dims.items()}
        return _Sizes(values, {name: (Range(symbol.min, symbol.max), symbol.multiple_of) for name, symbol in model.symbols.items()})

    def _narrow_dim(self, dim: Requested) -> Requested:
        declared = parse_dim(dim.asked)
        if dim.verdict not in ("dynamic", "derived", "merged") or not isinstance(declared, Affine):
            raise Separate(f"{dim.id} is {dim.verdict}")
        return replace(dim, promised=convert_promise(declared, self.narrow)[0])

    def _narrow_entry(self, entry: SymbolEntry) -> SymbolEntry:
        history = tuple(replace(change, range=change.range and self.narrow_range(entry.name, change.range)) for change in entry.history)
        spans = [change.range for change in history if change.range is not None]
        if any(span == before for before, span in pairwise(spans)):
            raise Separate(f"a guard that narrows {entry.meaning} no longer does")
        return replace(entry, created=self.narrow_range(entry.name, entry.created), traced=self.narrow_range(entry.name, entry.traced),
                       promised=entry.promised and self.narrow_range(entry.name, entry.promised), history=history)

    def _narrow_events(self) -> Iterator[Happening]:
        for event in self.record.events:
            match = _INTERVAL.search(event.text) if event.kind in ("symbol", "range") else None
            if match is None or event.symbol not in self.entries:
                yield event
                continue
            span = Range(*(None if _UNBOUNDED in end else int(end) for end in match.groups()))
            new = self.narrow_range(event.symbol, span)
            ends = (f"-{_UNBOUNDED}" if new.lower is None else new.lower, _UNBOUNDED if new.upper is None else new.upper)
            yield replace(event, text=f"{event.text[: match.start()]}[{ends[0]}, {ends[1]}]")


def drop_times(record: SymbolRecord) -> SymbolRecord:
    """Return a record without the fields that differ between two exports of the same model."""
    return replace(record, events=tuple(replace(event, seconds=0.0) for event in record.events),
                   attempts=tuple(replace(attempt, seconds=0.0) for attempt in record.attempts))


def _read_meaning(entry: SymbolEntry, model: Model) -> _Dim:
    root = entry.meaning.removeprefix(PHANTOM)
    if entry.kind == "root" and root in model.symbols:
        return _Dim(root)
    try:
        dim = parse_dim(entry.meaning)
    except ValueError:
        dim = None
    if not isinstance(dim, Affine) or dim.symbol not in model.symbols:
        raise Separate(f"{entry.name} is no declared dim")
    return _Dim(dim.symbol, dim)


def _is_true_anywhere(expr: str, values: Mapping[str, str]) -> bool:
    """Return whether the normal form of a condition is true for all sizes from 0 on."""
    return values.keys() >= set(NAME.findall(expr)) and normal.is_always_true(NAME.sub(lambda match: values[match[0]], expr), {})


def _narrow_relation(relation: Relation, sizes: _Sizes) -> Relation:
    holds, _ = judge(relation.expr, sizes)
    if {holds, relation.holds} - {"always", "tried"}:
        raise Separate(f"the code needs {relation.text}")
    return replace(relation, holds=holds)
