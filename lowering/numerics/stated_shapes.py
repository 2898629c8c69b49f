"""The shapes that an exported program states for its tensors, checked in a run: later levels are computed by them."""

from __future__ import annotations

import sympy
import torch
from torch.fx import GraphModule


class ShapeError(ValueError):
    """A tensor has another shape than its program states."""


def check_at_run(module: GraphModule) -> None:
    """Add checks to the module of an exported program, so that a run raises ShapeError at the first tensor of another shape than stated.

    Symbols have the sizes of the arguments' dims. A shape with a symbol that is no dim of an argument is not checked.
    """
    shapes = _Shapes()
    nodes = [node for node in module.graph.nodes if node.op in ("placeholder", "call_function") and _has_symbols(node.meta.get("val"))]
    if not nodes:
        return
    first = [node for node in module.graph.nodes if node.op == "placeholder"][-1].next  # weights are read before the arguments
    for node in nodes:
        with module.graph.inserting_before(first if node.op == "placeholder" else node.next):
            module.graph.call_function(shapes.bind if node.op == "placeholder" else shapes.check, (node, len(shapes.stated)))
        shapes.stated.append(tuple(node.meta["val"].shape))
    module.recompile()


def _has_symbols(value: object) -> bool:
    return isinstance(value, torch.Tensor) and any(isinstance(size, torch.SymInt) for size in value.shape)


class _Shapes:
    """The shapes that are stated, and the size of each symbol in the present run."""

    def __init__(self) -> None:
        self.stated: list[tuple[int | torch.SymInt, ...]] = []
        self._sizes: dict[sympy.Basic, int] = {}

    def bind(self, argument: torch.Tensor, index: int) -> None:
        """Take the sizes of symbols from an argument."""
        for size, stated in zip(argument.shape, self.stated[index], strict=True):
            if isinstance(expression := _read(stated), sympy.Symbol):
                self._sizes[expression] = size

    def check(self, tensor: torch.Tensor, index: int) -> None:
        """Raise ShapeError if a tensor has another shape than stated."""
        for size, stated in zip(tensor.shape, self.stated[index], strict=True):
            expression = _read(stated)
            if expression.free_symbols <= self._sizes.keys() and expression.xreplace(self._sizes) != size:
                raise ShapeError(f"a tensor of shape {tuple(tensor.shape)} is stated to be {self.stated[index]}")


def _read(size: int | torch.SymInt) -> sympy.Expr:
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)
