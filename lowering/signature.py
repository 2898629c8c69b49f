"""Interface of a lowered program: arguments in order, results and ranges. The same at every level; converts to and from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lowering.sizes.ranges import Bound

SCHEMA = "shapeline/signature/1"  # version of the file signature.json
ENTRIES_SCHEMA = "shapeline/entries/1"  # and of that of a program with several entries


@dataclass(frozen=True)
class Argument:
    """An argument of the entry function.

    kind: `parameter`, `buffer`, `constant` (all three are weights, passed by name) or `input`.
    name: FQN of the weight, or name of the input.
    dims: ints, or expressions of dynamic dims in the symbols of the signature (`batch`, `8*_seq`, `s0 + 1`).
    value: for a Python int, its symbol. Its dtype is then int64 and it has no dims; from StableHLO on it is a 0-d tensor.
    """

    kind: Literal["parameter", "buffer", "constant", "input"]
    name: str
    dtype: str
    dims: tuple[int | str, ...]
    value: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.dims))}]" + (f" = {self.value}" if self.value is not None else "")


@dataclass(frozen=True)
class Result:
    """A result of the entry function.

    name: for a user output, its path in the output pytree. For a mutation, the buffer or input whose new value it is. For a gradient of the
        loss, `grad.` and the name of the parameter.
    state: the name of the argument, a buffer or an input, whose new value it is. The argument may be donated.
    An output of kind `constant` is known, and one of kind `state` is the mutation of `state`: programs below torch.export compute neither.
    A dim that data decide is padded, and a result of kind `count` says its true size: the count's name is the text of the dim, its value
        the capacity that the dim is padded to. A result of kind `check` is a condition that must hold, or no other result counts.
    """

    kind: Literal["output", "buffer_mutation", "input_mutation", "gradient", "constant", "state", "count", "check"]
    name: str
    dtype: str | None = None
    dims: tuple[int | str, ...] = ()
    value: Any = None
    state: str | None = None

    @property
    def label(self) -> str:
        """The name among results of all kinds: `logits`, `buffer_mutation/steps`, `grad.up.weight`."""
        return self.name if self.kind in ("output", "gradient") else f"{self.kind}/{self.name}"

    def __str__(self) -> str:
        if self.kind in ("constant", "state"):
            return f"{self.name} = {self.value if self.kind == 'constant' else self.state}"
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.dims))}]" + (f" ({self.kind})" if self.kind != "output" else "")


@dataclass(frozen=True)
class Signature:
    """Arguments (weights first, then inputs), results, and the range of each symbol used in a dim.

    guards: guards of the exported program that no dim expresses, in terms of the symbols (`Eq(Mod(s, 2), 0)`).
    """

    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    symbols: Mapping[str, Bound] = field(default_factory=dict)
    guards: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the inputs, the number of weights, the results, the ranges and the guards, a line each."""
        lines = [str(argument) for argument in self.inputs] + ([f"{len(self.weights)} weights"] if self.weights else [])
        lines += [f"-> {result}" for result in self.results]
        lines += [f"{name} in {bound}" for name, bound in self.symbols.items()]
        return "\n".join(lines + [f"guard: {guard}" for guard in self.guards])

    @property
    def weights(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.kind != "input")

    @property
    def states(self) -> Mapping[int, int]:
        """The positions of the arguments that are states, with the positions of their new values among the results of the program."""
        arguments = {argument.name: position for position, argument in enumerate(self.arguments)}
        return {arguments[result.state]: position for position, result in enumerate(self.computed) if result.state is not None}

    @property
    def computed(self) -> tuple[Result, ...]:
        """The results of the program, without those that are known or repeat another."""
        return tuple(result for result in self.results if result.kind not in ("constant", "state"))

    @property
    def returned(self) -> tuple[Result, ...]:
        """The results of the program for its callers, without counts and conditions of the run."""
        return tuple(result for result in self.computed if result.kind not in ("count", "check"))

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.kind == "input")
