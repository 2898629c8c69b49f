"""Ops on single elements: the padding stays padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering.capacity.bounds import is_counted, to_expression
from lowering.capacity.rules.table import Row, Rows
from lowering.capacity.rules.views import take
from lowering.capacity.sizes import as_tensor
from lowering.capacity.values import Call, Counted, Dim, NoRule, Number, Tensor, plain, true_sizes

ROWS = Rows()


def _pointwise(call: Call, *args: Any, **kwargs: Any) -> Any:
    leaves = pytree.tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor | Counted)]
    given = [plain(tensor) for tensor in tensors]
    args, kwargs = pytree.tree_map(lambda leaf: _operand(call, leaf, given), (args, kwargs))
    if not any(isinstance(leaf, Number) for leaf in leaves):
        return call.op(*args, **kwargs)
    return call.op.overloadpacket(*args, **kwargs).to(call.dtypes[0])  # the overload for tensors


def fit(call: Call, value: Any, dims: Sequence[Dim] | None = None) -> Tensor:
    """Return a tensor that broadcasts to padded dims, by default those of the result, and require that its true sizes do.

    torch asserts that sizes are equal which it cannot prove to be; their capacities may differ.
    """
    data, true = plain(value), true_sizes(value)
    dims = call.results[0] if dims is None else dims
    for position in range(1, data.dim() + 1):
        wanted = dims[-position]
        given = value.dims[-position].size if isinstance(value, Counted) else to_expression(data.shape[-position])
        if given in (wanted.size, 1) or not (is_counted(given) or is_counted(wanted.size)):
            continue
        call.check(as_tensor(true[-position]) == wanted.true, "sizes that broadcast must be equal")
        data = take(data, data.dim() - position, torch.arange(wanted.length))
    return data


def _operand(call: Call, value: Any, tensors: list[Tensor]) -> Any:
    result = call.dtypes[0]
    if not isinstance(value, Number):
        return fit(call, value) if isinstance(value, torch.Tensor | Counted) else value
    if not value.value.dtype.is_floating_point:
        return value.value
    floating = [tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point]
    return value.value.to(floating[0] if floating else result if result.is_floating_point else torch.get_default_dtype())


POINTWISE = Row(_pointwise)


@ROWS.register("detach", "alias", "clone", "contiguous", "to.dtype", "to.device", "to.dtype_layout", "to.prim_Device", "_to_copy",
               "lift_fresh_copy", "zeros_like", "ones_like", "empty_like", "full_like", "view.dtype", "cumsum", "cumprod", "cummax",
               "cummin", "logcumsumexp", "_conj", "resolve_conj", "resolve_neg", "view_as_real", "view_as_complex", "positive")
def _through(call: Call, tensor: Counted, *args: Any, **kwargs: Any) -> Any:
    """Apply an op whose elements depend on no later element."""
    if any(isinstance(value, Number | Counted) for value in pytree.tree_leaves((args, kwargs))):
        raise NoRule("takes a number that data decide where a constant is needed")
    return call.op(tensor.data, *args, **kwargs)


@ROWS.register("dropout", "feature_dropout", "alpha_dropout")
def _dropout(call: Call, tensor: Counted, p: float, train: bool) -> Tensor:
    if train and p:
        raise NoRule("draws random numbers for elements whose number data decide")
    return tensor.data.clone()


@ROWS.register("masked_fill.Tensor")
def _masked_fill(call: Call, tensor: Any, mask: Any, value: Tensor) -> Tensor:
    return torch.where(fit(call, mask), value.to(plain(tensor).dtype), fit(call, tensor))


@ROWS.register("type_as")
def _type_as(call: Call, tensor: Any, other: Any) -> Tensor:
    return plain(tensor).to(plain(other).dtype)
