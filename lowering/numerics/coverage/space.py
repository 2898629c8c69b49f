"""The sizes that a program takes, and points among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from lowering.eager.inputs import choose_flexible_sizes
from lowering.model import Model, Symbol
from lowering.numerics.coverage.conditions import Conditions
from lowering.numerics.coverage.corners import Classes, Sizes
from lowering.signature import Signature
from lowering.sizes import evaluation as sizes_at
from lowering.sizes.dims import Affine

_UNBOUNDED = 4096  # how far a symbol without a maximum is taken


@dataclass(frozen=True)
class Point:
    """Sizes of all symbols. kind: `lower`, `upper`, `edge SYMBOL`, `off multiples`, `mixed`, `random`, `traced`; note: what capped it."""

    kind: str
    sizes: Sizes
    note: str = ""

    def __str__(self) -> str:
        return f"{sizes_at.text(self.sizes)} ({self.kind}{f', {self.note}' if self.note else ''})"


@dataclass(frozen=True)
class Space:
    """The sizes that a program takes: its model's symbols and the flexible dims that stayed dynamic, each in its range, under the guards.

    conditions: on sizes that the program takes branches by.
    example: the traced sizes. flexible: the size of each `null` dim (`input[position]`) as an int or expression of the symbols.
    """

    model: Model
    symbols: Mapping[str, Symbol]
    example: Sizes
    flexible: Mapping[str, int | str]
    signature: Signature
    conditions: Conditions = field(default_factory=Conditions)

    @staticmethod
    def build(model: Model, signature: Signature) -> Space:
        dims = {argument.name: argument.dims for argument in signature.inputs}
        symbols, example = dict(model.symbols), dict(model.examples())
        flexible: dict[str, int | str] = {}
        for place, traced in choose_flexible_sizes(model).items():
            name, _, position = place[:-1].rpartition("[")
            dim = dims[name][int(position)] if name in dims else traced
            flexible[place] = dim
            if isinstance(dim, str) and dim in signature.symbols and dim not in symbols:
                bound = signature.symbols[dim]
                # An AUTO dim is promised from 0, but nobody asked for sizes below those it was traced with.
                symbols[dim] = Symbol(max(2, bound.min), bound.max, bound.multiple_of)
                example[dim] = traced
        return Space(model, symbols, example, flexible, signature)

    def classes(self) -> Classes:
        """Return the classes of sizes of this space."""
        return Classes(self.symbols, self.example, self.box(1.0), self.conditions)

    def arguments(self, sizes: Sizes) -> dict[str, int]:
        """Convert `sizes` to the form that `inputs.make` takes: model symbols, and `input[position]` for flexible dims."""
        given = {name: size for name, size in sizes.items() if name in self.model.symbols}
        return given | {place: sizes_at.evaluate(dim, sizes) for place, dim in self.flexible.items()}

    def admits(self, sizes: Sizes) -> bool:
        """Return whether every size is in its range, every dim is a whole number, and every guard that can be evaluated holds."""
        if not all(symbol.admits(sizes[name]) for name, symbol in self.symbols.items()):
            return False
        with suppress(sizes_at.Unknown):
            if not all(isinstance(sizes_at.evaluate(dim, sizes), int) for dim in self.flexible.values()):
                return False  # `n/2` at an odd n
        declared = (dim for value in self.model.leaves.values() for dim in value.dims() if isinstance(dim, Affine))
        return all(dim.at(sizes) >= 0 for dim in declared) and not self.broken_guard(sizes)

    def broken_guard(self, sizes: Sizes) -> str:
        """Return the first of the program's guards that does not hold at `sizes`; empty where all hold that can be evaluated."""
        return next((guard for guard in self.signature.guards if not holds_if_known(guard, sizes)), "")

    def elements(self, sizes: Sizes) -> int:
        """Count the elements of all inputs and results at `sizes`. Results whose size is known only at run time are not counted."""
        total = 0
        for dims in (value.dims for values in (self.signature.inputs, self.signature.results) for value in values):
            count = 1
            for dim in dims:
                try:
                    count *= sizes_at.evaluate(dim, sizes)
                except sizes_at.Unknown:
                    count = 0
            total += count
        return total

    def box(self, share: float) -> dict[str, int]:
        """Return the sizes at `share` of every symbol's range (0: the smallest, 1: the largest), in steps of its multiple."""
        found = {}
        for name, symbol in self.symbols.items():
            low, high = symbol.smallest, find_largest(symbol)
            found[name] = low + round((high - low) * share / symbol.multiple_of) * symbol.multiple_of
        return found

    def scale(self, doublings: float) -> dict[str, int]:
        """Return the traced sizes doubled so often, each up to its maximum and in steps of its multiple."""
        return {name: min(symbol.largest(math.floor(max(1, self.example[name]) * 2.0**doublings)), find_largest(symbol))
                for name, symbol in self.symbols.items()}


def find_largest(symbol: Symbol) -> int:
    return symbol.largest(symbol.max if symbol.max is not None else max(_UNBOUNDED, 4 * symbol.min))


def holds_if_known(guard: str, sizes: Sizes) -> bool:
    """Return whether a guard holds at `sizes`; True if it cannot be evaluated."""
    try:
        return bool(sizes_at.evaluate(guard, sizes))
    except sizes_at.Unknown:
        return True
