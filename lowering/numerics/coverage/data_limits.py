"""Limits on data by which a model takes a branch or ends a loop: values on both sides of each, and those that no inputs reach."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lowering.level import Program
from lowering.model import Model
from lowering.numerics.coverage.special_values import read_fill
from lowering.numerics.running.watching import Watching

_BRANCHING = ("cond", "while_loop")
_COMPARING = ("lt", "le", "gt", "ge")
_NEAR = 0.02  # of a limit, how far values beside it are brought from it
_REACHED = 0.1  # of a limit, up to which the nearest values on its two sides may be apart
_TRIED = 8  # scales of the inputs

Key = tuple[str, float]  # the comparison, and the limit


@dataclass
class Limits(Watching):
    """Inside, the values that are compared with a limit are recorded: floats of one element, beside a number or another float.

    below, above: of each limit, the nearest values on its two sides. values: all, in order.
    """

    below: dict[Key, float] = field(default_factory=dict)
    above: dict[Key, float] = field(default_factory=dict)
    values: dict[Key, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = op(*args, **kwargs)
        name = op.overloadpacket.__name__
        if name in _COMPARING and _is_single(args[0]) and (not isinstance(args[1], torch.Tensor) or args[1].numel() == 1):
            key, value = (name, float(args[1])), float(args[0])
            self.values.setdefault(key, []).append(value)
            self.add(key, value)
        return result

    def add(self, key: Key, value: float) -> None:
        if value < key[1] or (value == key[1] and key[0] in ("le", "gt")):
            self.below[key] = max(value, self.below.get(key, value))
        elif value >= key[1]:
            self.above[key] = min(value, self.above.get(key, value))

    def join(self, other: Limits) -> None:
        """Add the limits that another recorder found."""
        for held in (other.below, other.above):
            for key, value in held.items():
                self.add(key, value)

    def list_keys(self) -> list[Key]:
        return sorted({*self.below, *self.above})

    def measure_gap(self, key: Key) -> float:
        """Return how far the nearest values on both sides of a limit are apart, as a share of it; infinity if one side has none.

        Those of the limit 0 are not far from it if there are any.
        """
        if key not in self.below or key not in self.above:
            return float("inf")
        return (self.above[key] - self.below[key]) / abs(key[1]) if key[1] else 0.0

    def list_unreached(self) -> list[str]:
        return [f"data beside the limit {key[1]:g} of a branch or loop" for key in self.list_keys() if self.measure_gap(key) > _REACHED]

    def suggest_scales(self) -> Iterator[float]:
        """Yield factors that bring each value that was compared to the two sides of its limit, if it is proportional to the inputs."""
        for key, values in self.values.items():
            for value in dict.fromkeys(values):
                if value and key[1] / value > 0:
                    yield from (key[1] / value * (1 - _NEAR), key[1] / value * (1 + _NEAR))


def has_limits(exported: Program) -> bool:
    """Return whether a program has branches or loops that data decide."""
    return any(isinstance(node.target, torch._ops.HigherOrderOperator) and node.target.name() in _BRANCHING
               for part in exported.ir.graph_module.modules() if isinstance(part, torch.fx.GraphModule) for node in part.graph.nodes)


def approach(run: Callable[[Mapping[str, torch.Tensor]], Any], model: Model, given: Mapping[str, torch.Tensor],
             found: Limits) -> Iterator[dict[str, torch.Tensor]]:
    """Yield inputs, scaled so that values come near their limits, and these with the other sign, which sizes of data are made of too.

    Values that are met are recorded in `found`.
    """
    with (first := Limits()):
        run(given)
    found.join(first)
    for scale in (sign * scale for scale in itertools.islice(first.suggest_scales(), _TRIED) for sign in (1, -1)):
        scaled = {name: value * scale if name in model.leaves and read_fill(model.leaves[name])[0] == "randn" else value
                  for name, value in given.items()}
        with (seen := Limits()):
            run(scaled)
        found.join(seen)
        yield scaled


def _is_single(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == 1 and value.is_floating_point()
