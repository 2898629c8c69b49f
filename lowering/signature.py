"""What a lowered program takes and gives: arguments in order, outputs, ranges; the same at every level, JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lowering.sizes.ranges import Bound


@dataclass(frozen=True)
class Argument:
    """One argument of the entry function.

    kind: `parameter`, `buffer`, `constant` (a weight, passed by name) or `input`; name: FQN of a weight, or the input's name.
    dims: an int, or the expression of a dynamic dim in the symbols of the signature (`batch`, `8*_seq`, `s0 + 1`).
    value: the symbol that a Python int is; its dtype is then int64 and it has no dims: a 0-d tensor from StableHLO on.
    """

    kind: Literal["parameter", "buffer", "constant", "input"]
    name: str
    dtype: str
    dims: tuple[int | str, ...]
    value: str | None = None


@dataclass(frozen=True)
class Result:
    """One result: a user output (name: its path in the output pytree), the new value of a mutated buffer or input (name: which), or the
    gradient of the loss by a parameter (name: `grad.` and the parameter's)."""

    kind: Literal["output", "buffer_mutation", "input_mutation", "gradient", "constant"]
    name: str
    dtype: str | None = None
    dims: tuple[int | str, ...] = ()
    value: Any = None


@dataclass(frozen=True)
class Signature:
    """Arguments (weights first, then inputs), results, and for every symbol in a dim its bound.

    guards: the exported program's guards that no dim expresses, in terms of the symbols (`Eq(Mod(s, 2), 0)`).
    """

    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    symbols: Mapping[str, Bound] = field(default_factory=dict)
    guards: tuple[str, ...] = ()

    @property
    def weights(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.kind != "input")

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.kind == "input")
