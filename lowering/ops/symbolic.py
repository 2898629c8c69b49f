"""FX calls on sizes and other Python scalars -> equivalent TorchScript ops. Tensor ops need no row, since their schema names them."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any

import torch
from torch.utils._sympy.numbers import int_oo

# Kinds by target. TorchScript selects the overload (int, float, bool, Scalar) by the types of the operands.
KINDS: dict[Any, str] = {
    torch.ops.aten.sym_size.int: "aten::size",
    torch.ops.aten.sym_stride.int: "aten::stride",
    torch.ops.aten.sym_numel.default: "aten::numel",
    torch.ops.aten.sym_storage_offset.default: "aten::storage_offset",
    operator.add: "aten::add",
    operator.sub: "aten::sub",
    operator.mul: "aten::mul",
    operator.truediv: "aten::div",
    operator.floordiv: "aten::floordiv",
    operator.mod: "aten::remainder",
    operator.pow: "aten::pow",
    operator.neg: "aten::neg",
    operator.abs: "prim::abs",
    operator.eq: "aten::eq",
    operator.ne: "aten::ne",
    operator.lt: "aten::lt",
    operator.le: "aten::le",
    operator.gt: "aten::gt",
    operator.ge: "aten::ge",
    operator.and_: "aten::__and__",
    operator.or_: "aten::__or__",
    operator.xor: "aten::__xor__",
    operator.lshift: "aten::__lshift__",
    operator.rshift: "aten::__rshift__",
    operator.not_: "aten::__not__",
    torch.sym_not: "aten::__not__",
    torch.sym_max: "prim::max",
    torch.sym_min: "prim::min",
    torch.sym_float: "aten::Float",
    torch.sym_int: "aten::Int",
    torch._sym_sqrt: "aten::sqrt",
    math.ceil: "aten::ceil",
    math.floor: "aten::floor",
    math.trunc: "aten::Int",
    math.sqrt: "aten::sqrt",
    math.pow: "aten::pow",
    max: "prim::max",
    min: "prim::min",
}

_BY_NAME = {f"{kind.__module__}.{kind.__name__}": kind for kind in KINDS if not isinstance(kind, torch._ops.OpOverload)}


def find_kind(target: Any) -> str | None:
    """Return the TorchScript kind of an FX call target, or None if this table has no row for it."""
    if target in KINDS:
        return KINDS[target]
    return KINDS.get(_BY_NAME.get(f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', '')}"))


def find_range(size: torch.SymInt) -> Any:
    """Return the range of a symbolic size, `lower` to `upper`, by those of its symbols."""
    return size.node.shape_env.bound_sympy(size.node.expr)


def find_largest(size: int | torch.SymInt) -> int | None:
    """Return the largest value of a size; None if it has no maximum."""
    if not isinstance(size, torch.SymInt):
        return size
    upper = find_range(size).upper
    return None if upper is int_oo or upper >= sys.maxsize - 1 else int(upper)
