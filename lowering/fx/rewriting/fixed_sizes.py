"""Find the dynamic sizes that have one value in the ranges of the symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy
import torch
from torch.fx import GraphModule

from lowering.fx.cleanup import bodies
from lowering.fx.names import Names, name_dim
from lowering.sizes import normal
from lowering.sizes.expression import Expression
from lowering.sizes.parsing import Unknown, parse
from lowering.sizes.ranges import Bound


def find_fixed_sizes(module: GraphModule, names: Names, bounds: Mapping[str, Bound]) -> dict[sympy.Expr, int]:
    """Return the value of each size that can have no other: `height//8` is 1 for a height from 8 to 15.

    Tracing uses such values in the results of some ops only, while later levels require equal types of an operand and a result. Only
    `bounds` decide, because tracing also knows conditions that the program does not assert. Sizes of arguments are left out: their types
    stay as declared.
    """
    given: set[sympy.Expr] = set()
    computed: set[sympy.Expr] = set()
    for body in bodies(module):
        for node in body.graph.nodes:
            (given if node.op == "placeholder" else computed).update(_list_sizes(node.meta.get("val")))
    ranges = normal.symbols(bounds)
    values = {expr: _find_value(name_dim(expr, names), ranges) for expr in computed - given}
    return {expr: value for expr, value in values.items() if value is not None}


def _list_sizes(value: Any) -> set[sympy.Expr]:
    """Return the dynamic sizes of a tensor, or of the tensors in a list."""
    tensors = value if isinstance(value, list | tuple) else [value]
    return {size.node.expr for tensor in tensors if isinstance(tensor, torch.Tensor) for size in tensor.shape
            if isinstance(size, torch.SymInt) and not size.node.expr.is_number}


def _find_value(size: int | str, ranges: dict[str, Expression]) -> int | None:
    """Return the only value of a size, or None if it has several, or depends on a symbol without a range."""
    try:
        if isinstance(size, int) or not set(parse(size).symbols()) <= ranges.keys():
            return None
        low, high = normal.size(size, ranges).bounds()
    except Unknown:
        return None
    return low if low == high else None
