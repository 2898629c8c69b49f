"""Numbers as operands: bools, numbers outside of the range of the tensor's dtype, bits and shifts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops.algebra import integer_powers
from lowering.ops.arithmetic import takes_integers
from lowering.ops.division import REDUCED, to_pair, to_tensor
from lowering.ops.reductions import compute_in_float32

Tensor: TypeAlias = torch.Tensor


def has_bool(node: Node) -> bool:
    """Return whether a node takes a bool as a number, which TorchScript's ops do not accept."""
    return any(isinstance(argument, bool) for argument in node.args[:2])


def convert_numbers(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `op` with its numbers converted to 0-d tensors of the dtype that both operands promote to."""

    def apply(left: Any, right: Any, **kwargs: Any) -> Tensor:
        dtype = torch.result_type(left, right)
        return op(*(each if isinstance(each, torch.Tensor) else to_tensor(each, dtype) for each in (left, right)), **kwargs)

    return apply


def is_too_wide(node: Node) -> bool:
    """Return whether a number overflows or vanishes in the reduced float that a node computes.

    Eager computes such a step in float32.
    """
    number, dtype = node.args[1], node.meta["val"].dtype
    if dtype not in REDUCED or not isinstance(number, int | float) or not math.isfinite(number):
        return False
    return abs(torch.tensor(float(number), dtype=dtype).item() - number) > torch.finfo(dtype).eps * abs(number)


def is_rounded(node: Node) -> bool:
    """Return whether the reduced float that a node computes holds a number only rounded, or a float computed from sizes."""
    number, dtype = node.args[1], node.meta["val"].dtype
    if dtype not in REDUCED:
        return False
    if isinstance(number, Node):
        return isinstance(number.meta.get("val"), torch.SymFloat)
    return isinstance(number, int | float) and math.isfinite(number) and bool(torch.tensor(float(number), dtype=dtype).item() != number)


def has_unusual_term(node: Node) -> bool:
    """Return whether the number that a node adds is a bool or too wide."""
    return has_bool(node) or is_too_wide(node)


def has_unusual_factor(node: Node) -> bool:
    """Return whether the number that a node multiplies or divides by is a bool, or rounded, which eager does not round."""
    return has_bool(node) or is_rounded(node)


def make_arithmetic(op: Callable[..., Tensor], rounds_number: bool) -> Callable[..., Tensor]:
    """Return `op` for the forms that need care (see `has_unusual_term` and `has_unusual_factor`).

    rounds_number: whether eager first rounds a number to the tensor's dtype, as sums do and products do not.
    """

    def apply(left: Any, right: Any, **kwargs: Any) -> Tensor:
        if isinstance(left, bool) or isinstance(right, bool):
            return convert_numbers(op)(left, right, **kwargs)
        if rounds_number and abs(right) > torch.finfo(left.dtype).max:
            return op(left, math.copysign(math.inf, right), **kwargs)
        return compute_in_float32(op)(left, right, **kwargs)

    return apply


def clamp(tensor: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Clamp integers by floats, in the dtype that both promote to."""
    dtype = tensor.dtype
    for bound in (low, high):
        dtype = dtype if bound is None else torch.promote_types(dtype, torch.result_type(tensor, bound))
    return torch.clamp(tensor.to(dtype), low, high)


def clamp_max(tensor: Tensor, high: Any) -> Tensor:
    """Clamp integers by a float from above."""
    return clamp(tensor, None, high)


def make_shift(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a shift of integers by integers. Bytes are shifted as int32, which has their bits and no sign."""

    def apply(left: Any, right: Any) -> Tensor:
        dtype = torch.result_type(left, right)
        computed = torch.int32 if dtype is torch.uint8 else dtype
        return op(*to_pair(left, right, computed)).to(dtype)

    return apply


def has_unlike_operands(node: Node) -> bool:
    """Return whether the operands of a shift are not two tensors of one shape, or are bytes."""
    if not all(isinstance(argument, Node) for argument in node.args) or node.meta["val"].dtype is torch.uint8:
        return True
    left, right = (argument.meta["val"] for argument in node.args)  # type: ignore[union-attr]
    return left.shape != right.shape or left.dtype is not right.dtype


def prod(tensor: Tensor, dims: list[int] | None, *, output_dtype: torch.dtype | None = None) -> Tensor:
    """Return the product along dims, as prims.prod does."""
    dtype = output_dtype or (tensor.dtype if tensor.dtype.is_floating_point or tensor.dtype.is_complex else torch.int64)
    for dim in sorted((dim % tensor.dim() for dim in (range(tensor.dim()) if dims is None else dims)), reverse=True):
        tensor = torch.prod(tensor, dim, dtype=dtype)
    return tensor


def is_root(node: Node) -> bool:
    """Return whether a power of floats is a square root or its reciprocal."""
    return node.args[1] in (0.5, -0.5) and node.meta["val"].dtype.is_floating_point


def is_root_or_power_of_integers(node: Node) -> bool:
    """Return whether a power with a constant exponent is a root of floats, or one of integers that needs a decomposition."""
    return is_root(node) or integer_powers.needs_decomposition(node)


def power(tensor: Tensor, exponent: float) -> Tensor:
    """Return a power of the forms of `is_root_or_power_of_integers`.

    Eager computes roots by sqrt and rsqrt, which give NaN for -inf and -inf for -0.
    """
    if exponent not in (0.5, -0.5):
        return integer_powers.power(tensor, exponent)
    return torch.sqrt(tensor) if exponent > 0 else torch.rsqrt(tensor)


def fill_bools(tensor: Tensor, mask: Tensor, value: float) -> Tensor:
    """Return bools with `value` where `mask` is true: True unless it is 0."""
    return torch.masked_fill(tensor, mask, torch.scalar_tensor(value != 0, dtype=torch.bool))


def copysign(tensor: Tensor, other: Any) -> Tensor:
    """Return a tensor with the signs of `other`, a tensor or a number. Integers are converted to floats."""
    dtype = torch.result_type(tensor, other)
    if isinstance(other, float):
        other = math.copysign(1.0, other)  # the text of a NaN shows no sign
    return torch.copysign(*to_pair(tensor, other, dtype if dtype.is_floating_point else torch.get_default_dtype()))


def make_comparison(compare: Callable[..., Tensor], compare_tensors: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a comparison with a number.

    A bool is compared as a tensor, bools with an int as integers, and others with a number of another kind as floats.
    """

    def compute(tensor: Tensor, other: Any) -> Tensor:
        if isinstance(other, bool):
            return convert_numbers(compare_tensors)(tensor, other)
        if tensor.dtype is torch.bool and not isinstance(other, float):
            return compare(tensor.to(torch.int64), other)
        return compare(tensor if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype()), float(other))

    return compute


def compares_unlike_kinds(node: Node) -> bool:
    """Return whether a node compares with a bool, bools with a number, floats with an int, or integers with a float."""
    tensor, other = node.args[0].meta["val"], node.args[1]  # type: ignore[union-attr]
    if isinstance(other, bool) or tensor.dtype is torch.bool:
        return True
    return isinstance(other, float if takes_integers(node) else int) and not tensor.dtype.is_complex
