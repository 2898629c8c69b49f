"""A captured export: the model, the events, torch's final ShapeEnv, and the names of its symbols."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.numbers import int_oo

from lowering.eager import pytrees
from lowering.eager.inputs import choose_flexible_sizes
from lowering.fx.dynamic_shapes import PHANTOM
from lowering.model import Model
from lowering.sizes.dims import Affine, Dim, name_flexible
from lowering.sizes.ranges import Range
from lowering.sizes.spelling import spell_condition
from lowering.symbols.schema import ITSELF
from lowering.symbols.tracing.capture import Log
from lowering.symbols.tracing.events import Event

NAME = re.compile(r"\b(?:s|u|zf|zuf)\d+\b")
_SIZE = re.compile(r"^(?P<base>.*)\.size\(\)\[(?P<dim>\d+)\]$")
_KEY = re.compile(r"\['([^']*)'\]")
_FLAT = re.compile(r"^L\['flat_args'\]\[(?P<number>\d+)\]$")
_UNBOUNDED = 2**62  # torch represents "no bound" as int_oo, sys.maxsize or sys.maxsize - 1


_INT = re.compile(r"^L\['(?P<name>\w+)'\]$")


@dataclass(frozen=True)
class Declared:
    """A dim that the model declares as dynamic, or an int (position ITSELF). dim: None if flexible."""

    argument: str
    position: int
    dim: Affine | None

    @property
    def id(self) -> str:
        return dim_id(self.argument, self.position)

    @property
    def asked(self) -> str:
        return "null" if self.dim is None else str(self.dim)


@dataclass(frozen=True)
class Export:
    """The data that a record is built from. program, error: the end of the export; exactly one of them is not None.

    sources: the name of each leaf of the arguments by torch's source of it (see `eager.pytrees`), required if an input is a structure.
    """

    log: Log
    model: Model
    program: ExportedProgram | None
    error: BaseException | None
    sources: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def env(self) -> ShapeEnv | None:
        """The ShapeEnv of the result or, if there is none, the last one that knew a size."""
        if self.program is not None:
            for node in self.program.graph.nodes:
                value = node.meta.get("val")
                mode = getattr(value, "fake_mode", None)
                if mode is not None and mode.shape_env is not None:
                    return mode.shape_env
        known = [env for env in self.log.envs if env.source_to_var] or self.log.envs
        return known[-1] if known else None

    @cached_property
    def declared(self) -> tuple[Declared, ...]:
        dims: Iterator[tuple[str, int, Dim]] = (
            (name, position, dim) for name, value in self.model.leaves.items() for position, dim in enumerate(value.dims()))
        sizes = tuple(Declared(name, position, dim) for name, position, dim in dims if dim is None or isinstance(dim, Affine))
        return sizes + tuple(Declared(name, ITSELF, Affine(name)) for name in self.model.ints)

    @cached_property
    def examples(self) -> dict[str, int]:
        """The traced size of every declared dim by id: the size that torch traced, or else the one that the model declares."""
        sizes, flexible = self.model.examples(), choose_flexible_sizes(self.model)
        found = {dim.id: flexible[dim.id] if dim.dim is None else dim.dim.at(sizes) for dim in self.declared}
        given = dict(pytrees.flatten(self.program.example_inputs[1])) if self.program is not None and self.program.example_inputs else {}
        for dim in self.declared:
            if isinstance(given.get(dim.argument), torch.Tensor):
                found[dim.id] = int(given[dim.argument].shape[dim.position])
            elif dim.position == ITSELF:
                continue
            elif self.env is not None and self.own.get(dim.id) in self.env.backed_var_to_val:
                found[dim.id] = int(self.env.backed_var_to_val[self.own[dim.id]])
        return found

    def place(self, source: str) -> tuple[str, int] | None:
        """Return the argument and the dim of a torch source such as `L['x'].size()[0]` or `L['n']`, or None for other sources."""
        if (match := _INT.match(source)) and match["name"] in self.model.ints:
            return match["name"], ITSELF
        match = _SIZE.match(source)
        if match is None:
            return None
        flat = _FLAT.match(match["base"])  # strict captures number the arguments: tensors in the order they were passed
        if flat is not None:
            order = list(self.sources.values() or self.model.leaves)
            return (order[int(flat["number"])], int(match["dim"])) if int(flat["number"]) < len(order) else None
        names = [key for key in _KEY.findall(match["base"]) if key in self.model.leaves]
        name = self.sources.get(match["base"]) or (names[-1] if names else None)
        return (name, int(match["dim"])) if name else None

    @cached_property
    def own(self) -> dict[str, sympy.Symbol]:
        """The symbol that torch created for each dim, by `argument[dim]`, before any replacement."""
        found = {}
        for source, symbol in (self.env.source_to_var if self.env else {}).items():
            place = self.place(source)
            if place is not None:
                found[dim_id(*place)] = symbol
        return found

    def final(self, symbol: sympy.Symbol) -> sympy.Expr:
        """Return the form of a symbol after tracing: itself, an expression of other symbols, or a number."""
        return self.env.replace(symbol) if self.env is not None else symbol

    @cached_property
    def renamed(self) -> dict[str, str]:
        """Unbacked symbols of retraces, mapped to the corresponding symbols of the first trace."""
        pairs = {str(event.data["symbol"]): str(event.data["target"])
                 for event in self.log.events if event.kind == "replacement" and event.data["reason"] == "rename_unbacked_to"}
        pairs |= {str(new): str(old) for new, old in (self.env.unbacked_renamings if self.env else {}).items()}
        return {name: _follow_renames(name, pairs) for name in pairs}

    def rename_retraced(self, text: str) -> str:
        """Replace the names of retraced symbols in `text` with those of the first trace."""
        return NAME.sub(lambda match: self.renamed.get(match[0], match[0]), text) if self.renamed else text

    @cached_property
    def meanings(self) -> dict[str, str]:
        """The author's name for each torch symbol of an input: `batch`, `_seq` (the root of `8*_seq`), `x_0` for a flexible dim."""
        found: dict[str, str] = {}
        for symbol, sources in (self.env.var_to_sources.items() if self.env else ()):
            if sources and sources[0].name.isidentifier():
                found[str(symbol)] = sources[0].name
        for dim in self.declared:
            symbol = self.own.get(dim.id)
            if symbol is not None and str(symbol) not in found:
                found[str(symbol)] = name_flexible(dim.argument, dim.position) if dim.dim is None else str(dim.dim)
        return found

    def translate(self, text: str) -> str:
        """Rewrite a torch expression with the author's names and Python operators. Data-dependent symbols keep torch's names."""
        def word(match: re.Match[str]) -> str:
            meaning = self.meanings.get(match[0], match[0])
            return meaning if meaning.isidentifier() else f"({meaning})"

        return spell_condition(NAME.sub(word, self.rename_retraced(text)))

    def find_promised_range(self, dim: Declared) -> tuple[Range, int]:
        """Return the declared range of a dim and its step. A flexible dim has the range that torch found."""
        if dim.dim is None:
            symbol = self.own.get(dim.id)
            return (self.find_given_range(self.final(symbol)) if symbol is not None else None) or Range(0, None), 1
        return convert_promise(dim.dim, self.model)

    def find_given_range(self, expr: sympy.Expr) -> Range | None:
        """Return the range that the exported program promises for an expression, or None if it promises none."""
        if self.program is None:
            return None
        ranges = {str(key): value for key, value in self.program.range_constraints.items()}
        return convert_range(ranges[str(expr)]) if str(expr) in ranges else None

    @cached_property
    def values(self) -> dict[str, str]:
        """Each torch symbol of an input as a Python expression of the sizes that callers choose (the keys of `choices`).

        A declared dim has its declared value, whatever torch replaced it with: a failed export is judged by the request.
        """
        found = {name: meaning for name, meaning in self.meanings.items() if meaning.isidentifier()}
        for name, meaning in found.items():
            root = meaning.removeprefix(PHANTOM)
            if meaning not in self.model.symbols and root in self.model.symbols:
                found[name] = f"({root}//{self.model.symbols[root].multiple_of})"
        found |= {str(self.own[dim.id]): f"({dim.dim})" for dim in self.declared if dim.dim is not None and dim.id in self.own}
        for dim in self.declared:
            final = self.final(self.own[dim.id]) if dim.dim is None and dim.id in self.own else None
            if final is not None and final != self.own[dim.id]:
                found[str(self.own[dim.id])] = f"({NAME.sub(lambda match: found.get(match[0], match[0]), str(final))})"
        return found

    @cached_property
    def choices(self) -> dict[str, tuple[Range, int]]:
        """The sizes that callers choose: symbols of the model and free flexible dims, each with its promised range and step."""
        found = {name: (Range(symbol.min, symbol.max), symbol.multiple_of) for name, symbol in self.model.symbols.items()}
        for dim in self.declared:
            own = self.own.get(dim.id)
            if dim.dim is None and own is not None and self.final(own) == own:
                found[self.meanings[str(own)]] = (self.find_given_range(own) or self.find_traced_range(own) or Range(0, None), 1)
        return found

    def find_traced_range(self, symbol: sympy.Symbol) -> Range | None:
        ranges = self.env.var_to_range if self.env else {}
        return convert_range(ranges[symbol]) if symbol in ranges else None

    def causes(self) -> Iterator[tuple[Event, Event | None]]:
        """Iterate over all events, each with the guard that caused it: the last one before it on the same code line."""
        guard: Event | None = None
        for event in self.log.events:
            if event.kind == "guard":
                guard = event
            yield event, guard if guard is not None and guard.stack == event.stack else None


def convert_promise(dim: Affine, model: Model) -> tuple[Range, int]:
    """Return the range of an expression of a declared symbol, and its step."""
    symbol = model.symbols[dim.symbol]
    high = None if symbol.max is None else dim.at({dim.symbol: symbol.largest(symbol.max)})
    return Range(dim.at({dim.symbol: symbol.smallest}), high), symbol.multiple_of * dim.scale


def dim_id(argument: str, position: int) -> str:
    return argument if position == ITSELF else f"{argument}[{position}]"


def convert_range(value: Any) -> Range:
    """Convert a torch ValueRanges to a Range."""
    return Range(_convert_bound(value.lower, up=True), _convert_bound(value.upper, up=False))


def build_range(lower: Any, upper: Any) -> Range:
    return Range(_convert_bound(lower, up=True), _convert_bound(upper, up=False))


def parse_range(text: str) -> Range:
    """Parse the `[2, int_oo]` of a create_symbol message."""
    ends = [part.strip() for part in text.strip("[]").split(",")]
    if len(ends) != 2:
        return Range()
    lower, upper = (None if "oo" in end else int(end) if end.lstrip("-").isdigit() else None for end in ends)
    return Range(lower, None if upper is not None and upper >= _UNBOUNDED else upper)


def _convert_bound(value: Any, up: bool) -> int | None:
    if isinstance(value, int | sympy.Integer):  # the common case; sympy is slow at comparing them with infinities
        return None if abs(int(value)) >= _UNBOUNDED else int(value)
    if value in (int_oo, -int_oo, sympy.oo, -sympy.oo) or abs(value) >= _UNBOUNDED:
        return None
    return int(sympy.ceiling(value) if up else sympy.floor(value))


def _follow_renames(name: str, pairs: dict[str, str]) -> str:
    seen = {name}
    while name in pairs and pairs[name] not in seen:
        name = pairs[name]
        seen.add(name)
    return name


def list_versions() -> dict[str, str]:
    return {"torch": torch.__version__}
