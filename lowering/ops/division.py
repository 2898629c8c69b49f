"""Division that rounds, and remainders, as eager computes them. The exact remainder corrects the quotient, which is never rounded twice."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx import Node

Tensor: TypeAlias = torch.Tensor

REDUCED = (torch.float16, torch.bfloat16)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def to_tensor(operand: Any, dtype: torch.dtype) -> Tensor:
    """Return an operand, a tensor or a number, as a tensor of a dtype. An int beyond its range wraps around, as in eager's operands."""
    if isinstance(operand, torch.Tensor):
        return operand.to(dtype)
    if isinstance(operand, int) and dtype in _INTEGERS:
        operand = (operand - torch.iinfo(dtype).min) % 2 ** torch.iinfo(dtype).bits + torch.iinfo(dtype).min
    return torch.scalar_tensor(operand, dtype=dtype)


def to_pair(left: Any, right: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return two operands, tensors or numbers, as tensors of one dtype and shape."""
    return tuple(torch.broadcast_tensors(to_tensor(left, dtype), to_tensor(right, dtype)))  # type: ignore[return-value]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which eager computes one step on numbers of `dtype`."""
    return torch.float32 if dtype in REDUCED else dtype


def fmod(left: Any, right: Any) -> Tensor:
    """Return the remainder with the sign of the dividend: C's fmod, which is exact."""
    dtype = torch.result_type(left, right)
    return torch.ops.prims.fmod(*_round_operands(left, right, dtype)).to(dtype)


def _round_operands(left: Any, right: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return two operands as eager's remainders take them, rounded to the result's dtype. Numbers are rounded too."""
    first, second = to_pair(left, right, dtype)
    return first.to(compute_dtype(dtype)), second.to(compute_dtype(dtype))


def remainder(left: Any, right: Any) -> Tensor:
    """Return the remainder with the sign of the divisor."""
    dtype = torch.result_type(left, right)
    dividend, divisor = _round_operands(left, right, dtype)
    rest = torch.ops.prims.fmod(dividend, divisor)
    if dtype is torch.uint8:
        return rest
    return torch.where(_is_opposite(rest, divisor), rest + divisor, rest).to(dtype)


def _is_opposite(rest: Tensor, divisor: Tensor) -> Tensor:
    return (rest != 0) & ((rest < 0) ^ (divisor < 0))


def floor_divide(left: Any, right: Any) -> Tensor:
    """Divide and round down."""
    return divide(left, right, rounding_mode="floor")


def divide(left: Any, right: Any, *, rounding_mode: str | None = None) -> Tensor:
    """Divide, and round down (`floor`), toward zero (`trunc`) or not at all."""
    if rounding_mode is None:
        return torch.div(left, right)
    dtype = torch.result_type(left, right)
    dividend, divisor = to_pair(left, right, compute_dtype(dtype))
    if rounding_mode == "floor" and not dtype.is_floating_point:
        return _floor_integers(dividend, divisor)
    if not dtype.is_floating_point:
        return torch.div(dividend, divisor, rounding_mode=rounding_mode)
    if rounding_mode == "trunc":
        return torch.trunc(dividend / divisor).to(dtype)
    return _floor(dividend, divisor).to(dtype)


def _floor(dividend: Tensor, divisor: Tensor) -> Tensor:
    """Return Python's floor division. floor(a / b) would first round 1.0 / 0.1 up to 10, although only 9 tenths fit."""
    rest = torch.ops.prims.fmod(dividend, divisor)
    quotient = (dividend - rest) / divisor
    quotient = torch.where(_is_opposite(rest, divisor), quotient - 1, quotient)
    floored = torch.floor(quotient)
    floored = torch.where(quotient - floored > 0.5, floored + 1, floored)
    plain = dividend / divisor
    floored = torch.where(quotient == 0, plain * 0, floored)  # a zero with the sign of the quotient
    return torch.where(divisor == 0, plain, floored)


def _floor_integers(dividend: Tensor, divisor: Tensor) -> Tensor:
    """Return the floor division of integers. A quotient of floats would not be exact beyond 2^53."""
    quotient = torch.div(dividend, divisor, rounding_mode="trunc")
    rest = dividend - quotient * divisor
    return torch.where(_is_opposite(rest, divisor), quotient - 1, quotient)


def is_inexact(node: Node) -> bool:
    """Return whether a node needs `divide`.

    It does if it rounds down, if its dividend is a number or its divisor a bool, if it truncates a reduced float divided by a number, or if
    its rounding mode is None, which has no lowering.
    """
    if not isinstance(node.args[0], Node) or not isinstance(node.args[0].meta["val"], torch.Tensor):
        return True
    mode = node.kwargs.get("rounding_mode", "floor")
    if mode != "trunc" or isinstance(node.args[1], bool):
        return True
    return node.meta["val"].dtype in REDUCED and not _is_tensor(node.args[1])


def _is_tensor(argument: Any) -> bool:
    return isinstance(argument, Node) and isinstance(argument.meta["val"], torch.Tensor)


def gcd(left: Tensor, right: Tensor) -> Tensor:
    """Compute the greatest common divisor by Euclid's algorithm, for all elements at once, until no rest is left."""
    dtype = torch.promote_types(left.dtype, right.dtype)
    computed = torch.promote_types(dtype, torch.int32)  # the absolute value of the least int8 is no int8
    first, second = torch.broadcast_tensors(left.to(computed).abs(), right.to(computed).abs())

    def goes_on(first: Tensor, second: Tensor) -> Tensor:
        return (second != 0).any()

    def body(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        is_done = second == 0
        rest = torch.remainder(first, torch.where(is_done, 1, second))
        return torch.where(is_done, first, second), torch.where(is_done, second, rest)

    with torch._C._AutoDispatchBelowAutograd():
        return while_loop_op(goes_on, body, (first.clone(), second.clone()), ())[0].to(dtype)  # type: ignore[no-any-return]


def lcm(left: Tensor, right: Tensor) -> Tensor:
    """Compute the least common multiple."""
    common = gcd(left, right)
    return (torch.div(left, torch.where(common == 0, 1, common), rounding_mode="trunc") * right).abs()
