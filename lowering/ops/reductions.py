"""Reductions as eager computes them, for too few elements, NaN, complex numbers, and sums beyond the range of a reduced float."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops.division import REDUCED, compute_dtype

Tensor: TypeAlias = torch.Tensor

_NARROW = (torch.uint8, torch.bool)


def _dtype(node: Node) -> torch.dtype:
    return node.args[0].meta["val"].dtype  # type: ignore[union-attr, no-any-return]


def is_complex(node: Node) -> bool:
    """Return whether a node's first argument is a tensor of complex numbers."""
    return _dtype(node).is_complex


def is_complex_or_reduced(node: Node) -> bool:
    """Return whether a node reduces complex numbers, float16 or bfloat16."""
    return _dtype(node).is_complex or _dtype(node) in REDUCED


def is_reduced(node: Node) -> bool:
    """Return whether a node reduces float16 or bfloat16 to the same dtype."""
    return _dtype(node) in REDUCED and node.meta["val"].dtype in REDUCED


def is_mean_of_integers_or_reduced(node: Node) -> bool:
    """Return whether a mean is of integers or bools, converted by its dtype, or is reduced (see `is_reduced`)."""
    return not (_dtype(node).is_floating_point or _dtype(node).is_complex) or is_reduced(node)


def takes_bytes(node: Node) -> bool:
    """Return whether a node's first argument is a tensor of uint8."""
    return _dtype(node) is torch.uint8


def is_bool(node: Node) -> bool:
    """Return whether a node's first argument is a tensor of bools."""
    return _dtype(node) is torch.bool


def is_narrow(node: Node) -> bool:
    """Return whether a node's first argument is a tensor of uint8 or bool."""
    return _dtype(node) in _NARROW


def is_unordered_or_narrow(node: Node) -> bool:
    """Return whether a node's first argument may contain NaN, or is a tensor of uint8 or bool."""
    return _dtype(node).is_floating_point or _dtype(node) in _NARROW


def vector_norm(tensor: Tensor, ord: Any = 2, dim: Sequence[int] | None = None, keepdim: bool = False, *,  # noqa: A002 - the schema's
                dtype: torch.dtype | None = None) -> Tensor:  # fmt: skip
    """Return the norm of absolute values, computed at least in float32."""
    if dtype is not None:
        tensor = tensor.to(dtype)
    tensor = tensor.abs() if tensor.dtype.is_complex else tensor
    result = tensor.dtype
    return torch.linalg.vector_norm(tensor.to(compute_dtype(result)), ord, dim, keepdim).to(result)


def frobenius_norm(tensor: Tensor, dim: Sequence[int], keepdim: bool = False) -> Tensor:
    """Return the 2-norm over dims."""
    return vector_norm(tensor, 2, dim, keepdim)


def compute_in_float32(op: Callable[..., Any]) -> Callable[..., Any]:
    """Return `op` of reduced floats computed in float32 and rounded once. A step in float16 may overflow although the result does not."""

    def apply(tensor: Tensor, *args: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
        result = dtype or tensor.dtype
        return op(tensor.to(compute_dtype(result)), *args, **kwargs).to(result)  # type: ignore[no-any-return]

    return apply


def reduce_in_float32(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a loss of two tensors computed in float32 and rounded once; without a reduction each element is eager's own."""

    def apply(tensor: Tensor, target: Tensor, reduction: int = 1, *args: Any, **kwargs: Any) -> Tensor:
        if reduction == 0:
            return loss(tensor, target, reduction, *args, **kwargs)
        each = loss(tensor, target, 0, *args, **kwargs).float()
        return (each.mean() if reduction == 1 else each.sum()).to(torch.result_type(tensor, target))

    return apply


def _normalize_dims(tensor: Tensor, dim: int | Sequence[int] | None) -> list[int]:
    given = list(range(tensor.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim) or list(range(tensor.dim()))
    return [position % max(tensor.dim(), 1) for position in given] if tensor.dim() else []


def _variance_and_mean(tensor: Tensor, dim: int | Sequence[int] | None, correction: Any, keepdim: bool) -> tuple[Tensor, Tensor]:
    """Return variance and mean.

    The divisor is max(0, count - correction), so too few elements give NaN or inf.
    """
    if tensor.dtype.is_complex:
        parts = [_variance_and_mean(part, dim, correction, keepdim) for part in (tensor.real, tensor.imag)]
        return parts[0][0] + parts[1][0], torch.complex(parts[0][1], parts[1][1])
    result, dims = tensor.dtype, _normalize_dims(tensor, dim)
    wide = tensor.to(compute_dtype(result))
    count = math.prod(tensor.shape[position] for position in dims)
    if not dims:
        mean, squares = wide, (wide - wide).square()
    else:
        mean = wide.sum(dims, keepdim=True) / count
        centred = wide - mean
        squares = (centred * centred).sum(dims, keepdim=keepdim)  # a product, as the square of an op is a power at the levels below
        mean = mean if keepdim else mean.squeeze(dims)
    if correction is not None and correction < 0:
        squares = torch.where(mean == mean, squares, mean)  # there are no elements
    return (squares / _degrees_of_freedom(count, 1 if correction is None else correction, wide.dtype)).to(result), mean.to(result)


def _degrees_of_freedom(count: Any, correction: Any, dtype: torch.dtype) -> Any:
    if isinstance(correction, int):
        return torch.sym_max(count - correction, 0) if correction else count
    return (torch.scalar_tensor(count, dtype=dtype) - correction).clamp(min=0)


def _make_moments(finish: Callable[[Tensor, Tensor], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the forms of a moment that take `unbiased`, and the form that takes `correction`."""

    def finish_unbiased(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        dim = kwargs.pop("dim", None)
        if args and not isinstance(args[0], bool):
            dim, *args = args  # type: ignore[assignment]
        biased = not (args[0] if args else kwargs.get("unbiased", True))
        return finish(*_variance_and_mean(tensor, dim, 0 if biased else 1, args[1] if len(args) > 1 else kwargs.get("keepdim", False)))

    def finish_corrected(tensor: Tensor, dim: int | Sequence[int] | None = None, *, correction: Any = None, keepdim: bool = False) -> Any:
        return finish(*_variance_and_mean(tensor, dim, correction, keepdim))

    return finish_unbiased, finish_corrected


# By op name: the function of the forms `default` and `dim`, and that of the form `correction`.
MOMENTS = {
    "var": _make_moments(lambda variance, mean: variance),
    "std": _make_moments(lambda variance, mean: variance.sqrt()),
    "var_mean": _make_moments(lambda variance, mean: (variance, mean)),
    "std_mean": _make_moments(lambda variance, mean: (variance.sqrt(), mean)),
}


def make_extreme(reduce: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return max.dim or min.dim in terms of amax or amin: the values, and the first index of each. NaN is the extreme if there is one."""

    def apply(tensor: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        if tensor.dim() == 0:
            return tensor.clone(), torch.zeros_like(tensor, dtype=torch.int64)
        values = reduce(tensor, dim, keepdim=True)
        indices = _find_first(tensor, values, dim)
        return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))

    return apply


def make_index_reduction(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return argmax or argmin in terms of amax or amin: the first index of the extreme or of NaN.

    Without a dim, it is the index into all elements.
    """

    def apply(tensor: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        if dim is None:
            found = apply(tensor.flatten(), 0)
            return found.reshape([1] * tensor.dim()) if keepdim else found
        if tensor.dim() == 0:
            return torch.zeros_like(tensor, dtype=torch.int64)
        indices = _find_first(tensor, reduce(tensor, dim, keepdim=True), dim)
        return indices if keepdim else indices.squeeze(dim)

    return apply


def _find_first(tensor: Tensor, values: Tensor, dim: int) -> Tensor:
    """Return the first index along `dim` of the element that is in `values`. The dim is kept."""
    length, after = tensor.shape[dim], tensor.dim() - 1 - dim % tensor.dim()
    indices = torch.arange(length, device=tensor.device).reshape(-1, *(1 for _ in range(after)))
    return torch.where((tensor == values) | (tensor != tensor), indices, length).amin(dim, keepdim=True)


def compute_in_int16(op: Callable[..., Any]) -> Callable[..., Any]:
    """Return an op on uint8 or bool that computes in int16. Results of that type are converted back."""

    def apply(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        results = op(tensor.to(torch.int16), *args, **kwargs)
        return results.to(tensor.dtype) if results.dtype is torch.int16 else results

    return apply


def reduce_bytes(op: Callable[..., Any]) -> Callable[..., Any]:
    """Return any or all of uint8, whose results are uint8 too: 0 or 1."""

    def apply(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return op(tensor != 0, *args, **kwargs).to(torch.uint8)  # type: ignore[no-any-return]

    return apply
