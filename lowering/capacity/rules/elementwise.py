"""Ops on single elements: the padding stays padding."""

from __future__ import annotations

from typing import Any

import sympy
import torch
from torch.utils import _pytree as pytree

from lowering.capacity.bounds import is_counted, to_expression
from lowering.capacity.rules.table import Row, Rows
from lowering.capacity.values import Call, Counted, NoRule, Number, Tensor, plain

ROWS = Rows()


def align(call: Call, *values: Any) -> None:
    """Raise NoRule unless tensors that broadcast have equal sizes wherever one of them is padded."""
    shapes = [[dim.size for dim in value.dims] if isinstance(value, Counted) else list(map(to_expression, value.shape)) for value in values]
    for position in range(1, max(map(len, shapes), default=0) + 1):
        sizes = {shape[-position] for shape in shapes if len(shape) >= position} - {sympy.Integer(1)}
        if len(sizes) > 1 and any(map(is_counted, sizes)):
            raise NoRule(f"broadcasts dims of sizes {' and '.join(sorted(map(str, sizes)))}: state that they are equal by torch._check")


def _pointwise(call: Call, *args: Any, **kwargs: Any) -> Any:
    leaves = pytree.tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor | Counted)]
    align(call, *tensors)
    given = [plain(tensor) for tensor in tensors]
    args, kwargs = pytree.tree_map(lambda leaf: _operand(leaf, given, call.dtypes[0]), (args, kwargs))
    if not any(isinstance(leaf, Number) for leaf in leaves):
        return call.op(*args, **kwargs)
    return call.op.overloadpacket(*args, **kwargs).to(call.dtypes[0])  # the overload for tensors


def _operand(value: Any, tensors: list[Tensor], result: torch.dtype) -> Any:
    if not isinstance(value, Number):
        return plain(value)
    if not value.value.dtype.is_floating_point:
        return value.value
    floating = [tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point]
    return value.value.to(floating[0] if floating else result if result.is_floating_point else torch.get_default_dtype())


POINTWISE = Row(_pointwise)


@ROWS.of("detach", "alias", "clone", "contiguous", "to.dtype", "to.device", "to.dtype_layout", "to.prim_Device", "_to_copy",
         "lift_fresh_copy", "zeros_like", "ones_like", "empty_like", "full_like", "view.dtype", "cumsum", "cumprod", "cummax", "cummin",
         "logcumsumexp", "_conj", "resolve_conj", "resolve_neg", "view_as_real", "view_as_complex", "positive")
def _through(call: Call, tensor: Counted, *args: Any, **kwargs: Any) -> Any:
    """Apply an op whose elements depend on no element behind them."""
    if any(isinstance(value, Number | Counted) for value in pytree.tree_leaves((args, kwargs))):
        raise NoRule("takes a number that data decide where a constant is needed")
    return call.op(tensor.data, *args, **kwargs)


@ROWS.of("dropout", "feature_dropout", "alpha_dropout")
def _dropout(call: Call, tensor: Counted, p: float, train: bool) -> Tensor:
    if train and p:
        raise NoRule("draws random numbers for elements whose number data decide")
    return tensor.data.clone()


@ROWS.of("masked_fill.Tensor")
def _masked_fill(call: Call, tensor: Any, mask: Any, value: Tensor) -> Tensor:
    align(call, tensor, mask)
    return torch.where(plain(mask), value.to(plain(tensor).dtype), plain(tensor))


@ROWS.of("type_as")
def _type_as(call: Call, tensor: Any, other: Any) -> Tensor:
    return plain(tensor).to(plain(other).dtype)
