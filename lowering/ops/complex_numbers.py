"""Ops on complex tensors by their real and imaginary parts, where no level has the op for complex elements."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops import arithmetic, factories

Tensor: TypeAlias = torch.Tensor

aten = torch.ops.aten

_MULTIPLIED = (1, 2, 3)  # exponents of powers that are multiplied out, as eager does


def is_complex(node: Node) -> bool:
    """Return whether a node takes or gives complex tensors."""
    values = [node.meta.get("val"), *(argument.meta.get("val") for argument in node.all_input_nodes)]
    return any(isinstance(value, torch.Tensor) and value.dtype.is_complex for value in values)


def _parts(value: Any, like: Tensor) -> tuple[Any, Any]:
    """Return the real and imaginary parts of a tensor, or of a number as numbers; like: a complex tensor."""
    if not isinstance(value, torch.Tensor):
        return (value.real, value.imag) if isinstance(value, complex) else (value, 0.0)
    if not value.dtype.is_complex:
        value = value.to(like.dtype.to_real())
        return value, torch.zeros_like(value)
    parts = torch.view_as_real(value.resolve_conj())
    return parts.select(-1, 0), parts.select(-1, 1)


def _reduce(op: Any) -> Callable[..., Tensor]:
    """Return a linear reduction: that of both parts."""

    def reduce(tensor: Tensor, *args: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
        tensor = tensor if dtype is None else tensor.to(dtype)
        return torch.complex(*(op(part, *args, **kwargs) for part in _parts(tensor, tensor)))

    return reduce


def _compare(is_equal: bool) -> Callable[..., Tensor]:
    def compare(tensor: Tensor, other: Any) -> Tensor:
        like = tensor if tensor.dtype.is_complex else other
        (real, imaginary), (other_real, other_imaginary) = _parts(tensor, like), _parts(other, like)
        equal = (real == other_real) & (imaginary == other_imaginary)
        return equal if is_equal else ~equal

    return compare


def _ask(question: Callable[[Tensor], Tensor], of_both: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def ask(tensor: Tensor) -> Tensor:
        return of_both(*map(question, _parts(tensor, tensor)))

    return ask


def _is_nonzero(tensor: Tensor) -> Tensor:
    return torch.logical_or(*(part != 0 for part in _parts(tensor, tensor)))


def _of_nonzero(question: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda tensor, *rest: question(_is_nonzero(tensor), *rest)


def _count_nonzero(tensor: Tensor, dim: Any = None) -> Tensor:
    return _is_nonzero(tensor).sum() if dim is None or dim == [] else _is_nonzero(tensor).sum(dim)


def _to_tensor(number: Any, like: Tensor) -> Tensor:
    """Return a number, which may be symbolic, as a 0-d tensor of the kind of a complex tensor."""
    if isinstance(number, complex):
        return factories.complex_number(number, dtype=like.dtype)
    return torch.scalar_tensor(number, dtype=like.dtype.to_real(), device=like.device)


def _with_tensor(op: Any) -> Callable[..., Tensor]:
    """Return the form of an op of a tensor and a number that takes the number as a tensor."""

    def compute(tensor: Tensor, other: Any, *rest: Any, **settings: Any) -> Tensor:
        return op(tensor, other if isinstance(other, torch.Tensor) else _to_tensor(other, tensor), *rest, **settings)  # type: ignore[no-any-return]

    return compute


def has_symbolic_number(node: Node) -> bool:
    """Return whether an argument of a node is a complex number, or its second one a number that is not a constant."""
    second = node.args[1] if len(node.args) > 1 else None
    is_symbolic = isinstance(second, Node) and not isinstance(second.meta.get("val"), torch.Tensor)
    return is_symbolic or any(isinstance(argument, complex) for argument in node.args)


def power(base: Any, exponent: Any) -> Tensor:
    """Return a power: small whole exponents are multiplied out, others taken by the logarithm, so that 0 to the power of 0+0j is NaN."""
    if isinstance(exponent, int | float):
        if exponent == 0:
            return factories.complex_full(base.shape, 1, dtype=base.dtype)
        if exponent in _MULTIPLIED:
            return functools.reduce(torch.mul, [base] * int(exponent))
        if exponent == 0.5:
            return base.sqrt()  # type: ignore[no-any-return]
    dtype = torch.result_type(base, exponent)
    base, exponent = torch.broadcast_tensors(*(_to_complex(one, dtype) for one in (base, exponent)))
    general = _parts(torch.exp(exponent * torch.log(base)), base)
    is_zero, sign = base.abs() == 0, _parts(exponent, base)[0].sign()
    # of 0: 0 for exponents with a positive real part, infinite for a negative one
    at_zero = torch.where(sign > 0, 0.0, math.inf), torch.where(sign > 0, 0.0, math.nan)
    return torch.complex(*(torch.where(is_zero & (sign != 0), special, part) for special, part in zip(at_zero, general, strict=True)))


def _to_complex(value: Any, dtype: torch.dtype) -> Tensor:
    if not isinstance(value, torch.Tensor):
        return factories.complex_number(complex(value), dtype=dtype)
    if value.dtype == dtype:
        return value
    if not value.dtype.is_complex:
        return arithmetic.to_complex(value, dtype=dtype)
    return torch.complex(*(part.to(dtype.to_real()) for part in _parts(value, value)))


def _sinh(tensor: Tensor) -> Tensor:
    real, imaginary = _parts(tensor, tensor)
    return torch.complex(torch.sinh(real) * torch.cos(imaginary), torch.cosh(real) * torch.sin(imaginary))


def _cosh(tensor: Tensor) -> Tensor:
    real, imaginary = _parts(tensor, tensor)
    return torch.complex(torch.cosh(real) * torch.cos(imaginary), torch.sinh(real) * torch.sin(imaginary))


def _tan(tensor: Tensor) -> Tensor:
    """Return tan(z) = -i tanh(iz), which does not overflow."""
    real, imaginary = _parts(tensor, tensor)
    turned = torch.view_as_real(torch.tanh(torch.complex(-imaginary, real)))
    return torch.complex(turned.select(-1, 1), -turned.select(-1, 0))


def _sigmoid(tensor: Tensor) -> Tensor:
    return (torch.exp(-tensor) + 1.0).reciprocal()


def _silu(tensor: Tensor) -> Tensor:
    return tensor * _sigmoid(tensor)


def _l1_loss(tensor: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    distances = (tensor - target).abs()
    return distances.mean() if reduction == 1 else distances.sum() if reduction == 2 else distances


def _masked_fill(tensor: Tensor, mask: Tensor, value: complex) -> Tensor:
    return torch.where(mask, _to_tensor(value, tensor), tensor)


def _index_fill(tensor: Tensor, dim: int, index: Tensor, value: complex) -> Tensor:
    return tensor.index_fill(dim, index, _to_tensor(value, tensor))


def _sgn(tensor: Tensor) -> Tensor:
    """Return the number of length 1 in the same direction, and 0 for 0."""
    length = tensor.abs()
    return torch.where(length == 0, torch.zeros_like(tensor), tensor / length)


def _logarithm(base: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.complex(*(part / math.log(base) for part in _parts(torch.log(tensor), tensor)))


def _full_like(tensor: Tensor, fill: complex, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return factories.complex_full(tensor.shape, fill, dtype=dtype or tensor.dtype, device=tensor.device)


def _new_full(tensor: Tensor, size: Any, fill: complex, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return factories.complex_full(size, fill, dtype=dtype or tensor.dtype, device=tensor.device)


def _normal_like(tensor: Tensor, **_: Any) -> Tensor:
    """Return normal numbers of variance 1, half of it in each part."""
    return torch.complex(*(torch.randn_like(part) * math.sqrt(0.5) for part in _parts(tensor, tensor)))


def _uniform_like(tensor: Tensor, **_: Any) -> Tensor:
    return torch.complex(*(torch.rand_like(part) for part in _parts(tensor, tensor)))


def _normal(tensor: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> Tensor:
    return _normal_like(tensor) * std + mean


def _uniform(tensor: Tensor, low: float = 0.0, high: float = 1.0, **_: Any) -> Tensor:
    return torch.complex(*(torch.rand_like(part) * (high - low) + low for part in _parts(tensor, tensor)))


def _cross(tensor: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    (a, b), (c, d) = _parts(tensor, tensor), _parts(other, tensor)
    place = dim % tensor.dim()

    def cross(left: Tensor, right: Tensor) -> Tensor:
        return torch.linalg.cross(*torch.broadcast_tensors(left, right), dim=place)

    return torch.complex(cross(a, c) - cross(b, d), cross(a, d) + cross(b, c))


ROWS: dict[Any, Callable[..., Any]] = {
    **{op: _reduce(op) for op in (aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim)},
    aten.eq.Tensor: _compare(True), aten.eq.Scalar: _compare(True), aten.ne.Tensor: _compare(False), aten.ne.Scalar: _compare(False),
    aten.isnan.default: _ask(torch.isnan, torch.logical_or), aten.isinf.default: _ask(torch.isinf, torch.logical_or),
    aten.isfinite.default: _ask(torch.isfinite, torch.logical_and),
    **{getattr(getattr(aten, name), form): _of_nonzero(getattr(torch, name)) for name in ("any", "all")
       for form in ("default", "dim", "dims")},
    aten.count_nonzero.default: _count_nonzero, aten.count_nonzero.dim_IntList: _count_nonzero,
    aten.pow.Tensor_Tensor: power, aten.pow.Tensor_Scalar: power, aten.pow.Scalar: power, aten.exp2.default: functools.partial(power, 2.0),
    aten.sinh.default: _sinh, aten.cosh.default: _cosh, aten.tan.default: _tan, aten.sigmoid.default: _sigmoid,
    aten.silu.default: _silu, aten.sgn.default: _sgn, aten.l1_loss.default: _l1_loss,
    aten.log2.default: _logarithm(2), aten.log10.default: _logarithm(10), aten.linalg_cross.default: _cross,
    aten.randn_like.default: _normal_like, aten.rand_like.default: _uniform_like, aten.normal_functional.default: _normal,
    aten.uniform.default: _uniform,
}  # fmt: skip

# Forms of which only those with a symbolic or complex number are decomposed.
OF_NUMBERS: dict[Any, Callable[..., Any]] = {
    **{getattr(getattr(aten, name), form): _with_tensor(getattr(aten, name).Tensor)
       for name in ("add", "sub", "mul", "div") for form in ("Scalar", "Tensor")},
    aten.full_like.default: _full_like, aten.new_full.default: _new_full, aten.masked_fill.Scalar: _masked_fill,
    aten.index_fill.int_Scalar: _index_fill,
}  # fmt: skip


def find(node: Node) -> Callable[..., Any] | None:
    """Return the definition of a node of complex tensors by parts, or None if it stays as it is."""
    if (node.target not in ROWS and node.target not in OF_NUMBERS) or not is_complex(node):
        return None
    return ROWS.get(node.target) or (OF_NUMBERS[node.target] if has_symbolic_number(node) else None)
