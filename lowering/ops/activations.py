"""Activations and norms with the digits that eager gives: halves are computed in float32 and rounded once, small numbers keep theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

from lowering.ops import reductions
from lowering.ops.division import REDUCED, compute_dtype

Tensor: TypeAlias = torch.Tensor


def widen(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `op` computed on float32 in place of reduced floats, with a result of the first tensor's dtype."""

    def apply(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        wide, rest, named = pytree.tree_map_only(torch.Tensor, _widen_tensor, (tensor, args, kwargs))
        return op(wide, *rest, **named).to(tensor.dtype)

    return apply


def _widen_tensor(tensor: Tensor) -> Tensor:
    return tensor.to(compute_dtype(tensor.dtype))


def elu(tensor: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """Compute aten::elu. exp(x) - 1 would lose the digits of numbers near 0."""
    wide = _widen_tensor(tensor)
    return torch.where(wide > 0, wide * scale, torch.expm1(wide * input_scale) * (alpha * scale)).to(tensor.dtype)


def selu(tensor: Tensor) -> Tensor:
    """Compute aten::selu, with the constants of the paper that defines it (https://arxiv.org/abs/1706.02515)."""
    return elu(tensor, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def celu(tensor: Tensor, alpha: float = 1.0) -> Tensor:
    """Compute aten::celu."""
    return elu(tensor, alpha, 1.0, 1 / alpha)


def log_sigmoid(tensor: Tensor) -> Tensor:
    """Return the logarithm of the sigmoid, in a form that does not overflow."""
    wide = _widen_tensor(tensor)
    return (torch.clamp(wide, max=0) - torch.log1p(torch.exp(-wide.abs()))).to(tensor.dtype)


def has_dims_or_halves(node: Node) -> bool:
    """Return whether a layer norm is over several dims, or of halves."""
    return len(node.args[1]) > 1 or reductions.is_reduced(node)  # type: ignore[arg-type]


@widen
def layer_norm(tensor: Tensor, shape: Sequence[int], *args: Any) -> Tensor:
    """Compute aten::layer_norm. The squares of halves would overflow, and their means lose digits."""
    op = torch.ops.aten.layer_norm.default
    return op.decompose(tensor, shape, *args) if len(shape) > 1 else op(tensor, shape, *args)  # type: ignore[no-any-return]


def is_mixed_or_reduced(node: Node) -> bool:
    """Return whether a batch normalization by running statistics is of halves, or has weights or statistics of another dtype."""
    tensor, *others, training = node.args[:6]
    dtypes = {other.meta["val"].dtype for other in (tensor, *others) if isinstance(other, Node)}
    return not training and (len(dtypes) > 1 or bool(dtypes & set(REDUCED)))


@widen
def batch_norm(tensor: Tensor, *args: Any) -> Tensor:
    """Compute aten::batch_norm."""
    return torch.batch_norm(tensor, *args)
