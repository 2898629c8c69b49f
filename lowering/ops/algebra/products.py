"""Sums of a tensor and a product. A factor of 0 drops its operand, NaN and infinities included, as eager does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops.reductions import is_reduced

Tensor: TypeAlias = torch.Tensor


def _is_zero(number: Any) -> bool:
    return isinstance(number, int | float | complex) and number == 0


def drops_operand(node: Node) -> bool:
    """Return whether a node drops its tensor or its product, or computes integers, which torch-mlir does not lower."""
    return any(_is_zero(node.kwargs.get(name, 1)) for name in ("beta", "alpha")) or not node.meta["val"].dtype.is_floating_point


def drops_tensor(node: Node) -> bool:
    """Return whether a node drops its tensor."""
    return _is_zero(node.kwargs.get("beta", 1))


def _add_product(tensor: Tensor, shape: Sequence[Any], product: Callable[[], Tensor], beta: Any, alpha: Any) -> Tensor:
    if _is_zero(alpha):
        kept = torch.zeros_like(tensor) if _is_zero(beta) else tensor * beta
        return kept.expand(shape)
    computed = product() if alpha == 1 else alpha * product()
    if _is_zero(beta):
        return computed
    return computed + (tensor if beta == 1 else beta * tensor)


def addmm(tensor: Tensor, left: Tensor, right: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """Return beta * tensor + alpha * (left @ right)."""
    return _add_product(tensor, (left.shape[0], right.shape[1]), lambda: torch.mm(left, right), beta, alpha)


def addmv(tensor: Tensor, matrix: Tensor, vector: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """Return beta * tensor + alpha * (matrix @ vector)."""
    return _add_product(tensor, (matrix.shape[0],), lambda: torch.mv(matrix, vector), beta, alpha)


def addbmm(tensor: Tensor, left: Tensor, right: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """Return beta * tensor + alpha * (the sum of the batch of left @ right)."""
    return _add_product(tensor, (left.shape[1], right.shape[2]), lambda: torch.bmm(left, right).sum(0, dtype=tensor.dtype), beta, alpha)


def baddbmm(tensor: Tensor, left: Tensor, right: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """Return beta * tensor + alpha * (left @ right), batch by batch.

    Unlike the other functions, it keeps NaN if alpha is 0.
    """
    product = torch.bmm(left, right)
    product = product if alpha == 1 else alpha * product
    return product if _is_zero(beta) else product + (tensor if beta == 1 else beta * tensor)


def is_scaled_or_reduced(node: Node) -> bool:
    """Return whether the product of an addcmul or addcdiv has a factor, or is of halves."""
    return node.kwargs.get("value", 1) != 1 or is_reduced(node)


def addcmul(tensor: Tensor, left: Tensor, right: Tensor, *, value: Any = 1) -> Tensor:
    """Return tensor + value * left * right, evaluated from the left: left * right alone may overflow."""
    return tensor + value * left * right


def addcdiv(tensor: Tensor, left: Tensor, right: Tensor, *, value: Any = 1) -> Tensor:
    """Return tensor + value * left / right, evaluated from the left."""
    return tensor + value * left / right


def xlogy(left: Any, right: Any) -> Tensor:
    """Return left * log(right), or 0 where left is 0 and right is not NaN."""
    return _multiply_nonzero(left, right, torch.log)


def xlog1py(left: Any, right: Any) -> Tensor:
    """Return left * log1p(right), or 0 where left is 0 and right is not NaN."""
    return _multiply_nonzero(left, right, torch.log1p)


def _multiply_nonzero(left: Any, right: Any, function: Callable[[Tensor], Tensor]) -> Tensor:
    dtype = torch.result_type(left, right)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    if not isinstance(left, torch.Tensor):
        right = right.to(dtype)
        return torch.where(right == right, 0.0, right) if left == 0 else left * function(right)
    left = left.to(dtype)
    if not isinstance(right, torch.Tensor):
        factor = _evaluate_log(function, right)
        return left * factor if math.isnan(factor) else torch.where(left == 0, 0.0, left * factor)
    right = right.to(dtype)
    return torch.where((left == 0) & (right == right), 0.0, left * function(right))


def _evaluate_log(function: Callable[[Tensor], Tensor], number: float) -> float:
    """Return log or log1p of a number: -inf at its pole, NaN below."""
    shifted = number if function is torch.log else number + 1
    if shifted != shifted or shifted < 0:
        return math.nan
    return -math.inf if shifted == 0 else math.log(number) if function is torch.log else math.log1p(number)


def kl_div(tensor: Tensor, target: Tensor, reduction: int = 1, *, log_target: bool = False) -> Tensor:
    """Return the divergence of the target from a tensor of log probabilities.

    reduction: 0 for none, 1 for the mean, 2 for the sum.
    """
    found = target.exp() * (target - tensor) if log_target else xlogy(target, target) - target * tensor
    return found.mean() if reduction == 1 else found.sum() if reduction == 2 else found
