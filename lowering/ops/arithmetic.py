"""Arithmetic for which torch-mlir's lowering gives other numbers than torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops.division import compute_dtype

Tensor: TypeAlias = torch.Tensor

# Integers narrower than what eager truncates a float to, with the latter.
_WRAPPED = {torch.uint8: torch.int64, torch.int8: torch.int64, torch.uint16: torch.int32, torch.int16: torch.int32,
            torch.uint32: torch.int64, torch.uint64: torch.int64}  # fmt: skip
_WIDE_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
_HALF = 2**63  # of the range of uint64


def rsub(tensor: Tensor, other: complex, alpha: float = 1) -> Tensor:
    """Return other - alpha * tensor."""
    return torch.add(tensor * -alpha, other)


def is_floating(node: Node) -> bool:
    """Return whether a node computes floats."""
    return node.meta["val"].dtype.is_floating_point  # type: ignore[no-any-return]


def prelu(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return x where it is positive, else weight * x. A weight per channel is aligned with dim 1."""
    if weight.dim() == 1 and weight.shape[0] != 1:
        weight = weight.reshape(-1, *(1 for _ in range(tensor.dim() - 2)))
    return torch.where(tensor > 0, tensor, weight * tensor)


def clamp(tensor: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Return min(max(tensor, low), high), broadcast."""
    if low is not None:
        tensor = torch.maximum(tensor, low)
    return tensor if high is None else torch.minimum(tensor, high)


def is_real(node: Node) -> bool:
    """Return whether a node's first argument is a tensor of real numbers."""
    return not node.args[0].meta["val"].dtype.is_complex  # type: ignore[union-attr]


def real(tensor: Tensor) -> Tensor:
    """Return a copy, since a real tensor is its own real part."""
    return tensor.clone()


def hypot(left: Tensor, right: Tensor) -> Tensor:
    """Return sqrt(left^2 + right^2), scaled so that squares do not overflow."""
    dtype = torch.result_type(left, right)
    first, second = (side.abs().to(compute_dtype(dtype)) for side in torch.broadcast_tensors(left, right))
    large, small = torch.maximum(first, second), torch.minimum(first, second)
    ratio = torch.where(large == 0, 0.0, small / large)
    scaled = large * torch.sqrt(1 + ratio * ratio)
    return torch.where((first == math.inf) | (second == math.inf), math.inf, scaled).to(dtype)


def is_trigamma(node: Node) -> bool:
    """Return whether a polygamma node is of order 1."""
    return node.args[0] == 1


def trigamma(order: int, tensor: Tensor) -> Tensor:
    """Return the second derivative of log gamma, by reflection for negative numbers."""
    tensor = tensor if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype())
    reflected = tensor < 0.5
    positive = torch.special.polygamma(order, torch.where(reflected, 1 - tensor, tensor))
    positive = torch.where(tensor == math.inf, 0, positive)  # the level below has NaN there
    return torch.where(reflected, (math.pi / torch.sin(math.pi * tensor)) ** 2 - positive, positive)


def digamma(tensor: Tensor) -> Tensor:
    """Return the derivative of log gamma. At zero it is the infinity of the opposite sign."""
    tensor = tensor if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype())
    return torch.where(tensor == 0, -1 / tensor, torch.ops.prims.digamma(tensor))


def zeta(x: Tensor, q: Tensor) -> Tensor:
    """Return the Hurwitz zeta function.

    It is infinite at x = 1 and at the poles of q, and NaN for x < 1 and where a negative number has no real power.
    """
    dtype = torch.promote_types(x.dtype, q.dtype)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    x, q = torch.broadcast_tensors(x.to(dtype), q.to(dtype))
    value = torch.where((q <= 0) & (x != torch.floor(x)), math.nan, torch.ops.prims.zeta(x, q))
    value = torch.where((q <= 0) & (q == torch.floor(q)), math.inf, value)
    return torch.where(x == 1, math.inf, torch.where(x < 1, math.nan, value))


def angle(tensor: Tensor) -> Tensor:
    """Return the argument of complex numbers. That of real numbers is 0, pi below 0, and NaN for NaN."""
    if tensor.dtype.is_complex:
        return torch.atan2(tensor.imag, tensor.real)
    tensor = tensor if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype())
    return torch.where(tensor != tensor, tensor, torch.where(tensor < 0, torch.full_like(tensor, math.pi), 0))


def view_as_complex(tensor: Tensor) -> Tensor:
    """Return real (..., 2) as complex (...)."""
    return torch.complex(tensor.select(-1, 0), tensor.select(-1, 1))


def conjugate(tensor: Tensor) -> Tensor:
    """Compute the complex conjugate."""
    parts = torch.view_as_real(tensor)
    return torch.complex(parts.select(-1, 0), -parts.select(-1, 1))


def takes_integers(node: Node) -> bool:
    """Return whether a node's first argument is a tensor of integers or bools."""
    dtype = node.args[0].meta["val"].dtype  # type: ignore[union-attr]
    return not dtype.is_floating_point and not dtype.is_complex


def compute_in_float(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return `function`, applied to elements converted to the default dtype."""

    def apply(tensor: Tensor) -> Tensor:
        return function(tensor.to(torch.get_default_dtype()))

    return apply


def is_reciprocal_of_others(node: Node) -> bool:
    """Return whether a reciprocal is of integers or of float64."""
    return takes_integers(node) or node.meta["val"].dtype is torch.float64


def reciprocal(tensor: Tensor) -> Tensor:
    """Return 1 / tensor. Integers are converted to floats."""
    tensor = tensor if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype())
    return torch.div(torch.ones_like(tensor), tensor)


def all_true(tensor: Tensor) -> Tensor:
    """Return True for each element."""
    return torch.ones_like(tensor, dtype=torch.bool)


def all_false(tensor: Tensor) -> Tensor:
    """Return False for each element."""
    return torch.zeros_like(tensor, dtype=torch.bool)


def copy_tensor(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    """Return a copy."""
    return tensor.clone()


def skip_nan(extreme: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `extreme` of two tensors, which is the other operand where one is NaN."""
    return lambda left, right: extreme(torch.where(left != left, right, left), torch.where(right != right, left, right))


def cdist(left: Tensor, right: Tensor, p: float, compute_mode: int | None = None) -> Tensor:
    """Return the distance of each row of `left` to each row of `right`, in the p-norm. The largest difference skips NaN, as in eager."""
    apart = left.unsqueeze(-2) - right.unsqueeze(-3)
    return _measure(torch.where(apart != apart, 0, apart) if p == math.inf else apart, p)


def pdist(tensor: Tensor, p: float = 2.0) -> Tensor:
    """Return the distance of each pair of different rows in the p-norm: (n, m) -> (n * (n - 1) / 2)."""
    rows = tensor.shape[0]
    heads = torch.arange(rows, device=tensor.device)
    starts = heads * rows - heads * (heads + 1) // 2  # the number of pairs whose first row comes before
    pairs = torch.arange(rows * (rows - 1) // 2, device=tensor.device)
    first = torch.searchsorted(starts, pairs, right=True) - 1
    second = pairs - starts.index_select(0, first) + first + 1
    return _measure(tensor.index_select(0, first) - tensor.index_select(0, second), p)


def _measure(apart: Tensor, p: float) -> Tensor:
    """Return the p-norm of the last dim."""
    if p == 0:  # eager counts no NaN
        return torch.where(apart != apart, apart, (apart != 0).to(apart.dtype)).sum(-1)
    return torch.linalg.vector_norm(apart, p, -1)


def is_real_to_complex(node: Node) -> bool:
    """Return whether a conversion turns real numbers into complex ones."""
    return node.meta["val"].dtype.is_complex and is_real(node)


def to_complex(tensor: Tensor, *, dtype: torch.dtype, **_: Any) -> Tensor:
    """Convert real numbers to complex numbers with imaginary parts of 0."""
    real_part = tensor.to(dtype.to_real())
    return torch.complex(real_part, torch.zeros_like(real_part))


def needs_care(node: Node) -> bool:
    """Return whether a conversion between real dtypes needs more than a convert in StableHLO."""
    dtype, source = node.meta["val"].dtype, node.args[0]
    if not changes_dtype(node):
        return False
    if dtype in _WIDE_UNSIGNED or dtype is torch.float8_e8m0fnu:
        return True
    if dtype in _WRAPPED:
        is_float = source.meta["val"].dtype.is_floating_point  # type: ignore[union-attr]
        return is_float and not _is_clamped(source, torch.iinfo(dtype))
    return dtype is torch.float8_e4m3fn and not _is_clamped(source, torch.finfo(dtype))


def _is_clamped(source: Any, limits: torch.iinfo | torch.finfo) -> bool:
    """Return whether a node clamps numbers to `limits` or narrower ones."""
    if not isinstance(source, Node) or source.target is not torch.ops.aten.clamp.default:
        return False
    ends = [source.args[position] if position < len(source.args) else source.kwargs.get(name)
            for position, name in ((1, "min"), (2, "max"))]
    return all(isinstance(end, int | float) and limits.min <= end <= limits.max for end in ends)


def changes_dtype(node: Node) -> bool:
    """Return whether a node's result has another dtype than its first argument."""
    return node.meta["val"].dtype is not node.args[0].meta["val"].dtype  # type: ignore[union-attr]


def convert_real(tensor: Tensor, dtype: torch.dtype, *_: Any, **__: Any) -> Tensor:
    """Convert between real dtypes as eager does.

    Integers narrower than the one that a float is truncated to wrap around. A float8 without infinities has its largest number for what is
    beyond its range. NaN stays NaN. Raises NotImplementedError for e8m0.
    """
    if dtype is torch.float8_e8m0fnu:
        raise NotImplementedError("eager gives 2**-127 for zero, which XLA flushes to NaN; compute such scales before the export")
    if dtype not in _WRAPPED:
        wide = tensor if tensor.dtype.is_floating_point and tensor.dtype.itemsize > 1 else tensor.to(torch.float32)
        most = torch.finfo(dtype).max
        return torch.clamp(wide, -most, most).to(dtype)
    if dtype is torch.uint64 and tensor.is_floating_point():
        is_large = tensor >= float(_HALF)
        tensor = torch.where(is_large, (tensor - float(_HALF)).to(torch.int64) + (-_HALF), tensor.to(torch.int64))
    elif tensor.is_floating_point():
        tensor = tensor.to(_WRAPPED[dtype])
    if dtype in _WIDE_UNSIGNED:  # torch-mlir decomposes other conversions with constants that it has not of these dtypes
        return torch.ops.prims.convert_element_type.default(tensor, dtype)  # type: ignore[no-any-return]
    return tensor.to(dtype)


def needs_any_care(node: Node) -> bool:
    """Return whether a conversion needs more than a convert in StableHLO."""
    return is_real_to_complex(node) or needs_care(node)


def convert(tensor: Tensor, *, dtype: torch.dtype, **_: Any) -> Tensor:
    """Convert to complex numbers, to a float8, or to narrow integers."""
    return to_complex(tensor, dtype=dtype) if dtype.is_complex else convert_real(tensor, dtype)
