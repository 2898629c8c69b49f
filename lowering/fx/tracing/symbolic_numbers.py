"""Python's functions of numbers, computed by operators that stay symbolic where a number is a size."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch

from lowering.fx.tracing import logarithms

SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_dtype_to_type_ctor = torch._prims_common.dtype_to_type_ctor


def list_replacements() -> dict[tuple[Any, str], Any]:
    """Return the replacements of Python's and torch's functions of numbers, by owner and name."""
    return {**{(math, name): _extend(getattr(math, name), symbolic) for name, symbolic in _MATH.items()},
            (torch.SymInt, "__round__"): _round_int, (torch.SymInt, "bit_length"): logarithms.find_bit_length,
            (torch._prims_common, "dtype_to_type_ctor"): _choose_type}  # fmt: skip


def list_additions() -> dict[tuple[Any, str], Any]:
    """Return the methods that torch's symbolic ints lack, by owner and name."""
    return {(torch.SymInt, "__divmod__"): _divide, (torch.SymInt, "__rdivmod__"): lambda right, left: _divide(left, right)}


def _extend(original: Callable[..., Any], symbolic: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original` with `symbolic` for calls that take a symbolic number."""

    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple(map(logarithms.unwrap, args))
        return (symbolic if not kwargs and any(isinstance(arg, SYMBOLIC) for arg in args) else original)(*args, **kwargs)

    return call


def _choose_type(dtype: torch.dtype) -> Callable[[Any], Any]:
    """Return the constructor of numbers of a dtype. torch's own reads the traced number of a size that a complex tensor meets."""
    original = _dtype_to_type_ctor(dtype)
    return (lambda number: torch.sym_float(number) if isinstance(number, SYMBOLIC) else original(number)) if dtype.is_complex else original


def _round_int(size: Any, digits: int | None = None) -> Any:
    """Round an int to a multiple of 10 ** -digits, ties to the even multiple, as Python does. torch's own ignores the digits."""
    if digits is None or digits >= 0:
        return size
    step = 10**-digits
    doubled = 2 * size + step
    nearest = doubled // (2 * step)
    is_tie = nearest - (doubled - 1) // (2 * step)  # 1 or 0
    return (nearest - is_tie * (nearest % 2)) * step


def _divide(left: Any, right: Any) -> tuple[Any, Any]:
    return left // right, left % right


def _read(function: Callable[[torch.Tensor], torch.Tensor], number: Any) -> Any:
    """Return a function of a number by torch's function of tensors, in float64. torch.export has no such op on symbolic numbers."""
    return function(torch.scalar_tensor(number, dtype=torch.float64)).item()


def _take_log(number: Any, base: Any = None) -> Any:
    if base is None:
        return _take_logarithm(math.log, torch.log, number)
    if isinstance(base, SYMBOLIC):
        return _take_log(number) / _take_log(base)
    return _take_logarithm(lambda value: math.log(value, base), lambda value: torch.log(value) / math.log(base), number)


def take_log2(number: Any) -> Any:
    """Return the logarithm to base 2, exact for powers of 2 in every library: of 1/2 it is a quotient of equal numbers."""

    def of_tensors(tensor: torch.Tensor) -> torch.Tensor:
        mantissa, exponent = torch.frexp(tensor)
        return torch.log2(mantissa) + exponent

    return _take_logarithm(math.log2, of_tensors, number)


def _take_logarithm(function: Callable[[Any], float], of_tensors: Callable[[torch.Tensor], torch.Tensor], number: Any) -> Any:
    """Return a logarithm of a number. function: Python's; of_tensors: torch's."""
    if isinstance(number, torch.SymInt):
        return logarithms.Logarithm(number, function, functools.partial(_read, of_tensors, number))
    return _read(of_tensors, number) if isinstance(number, SYMBOLIC) else function(number)


_MATH: dict[str, Callable[..., Any]] = {
    "sqrt": torch.sym_sqrt, "pow": lambda base, exponent: torch.sym_float(base) ** exponent,
    "exp": lambda exponent: math.e ** torch.sym_float(exponent), "log": _take_log, "log2": take_log2,
    "isqrt": lambda size: torch.sym_int(torch.sym_sqrt(size)),  # exact below 2 ** 52
    "log10": functools.partial(_take_logarithm, math.log10, torch.log10),
    **{name: functools.partial(_read, getattr(torch, name)) for name in ("log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh")},
}  # fmt: skip
