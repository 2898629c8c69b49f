"""Sizes and numbers that data decide, and numbers computed from them, as 0-d tensors."""

from __future__ import annotations

import functools
from typing import Any

import sympy
import torch

from lowering.capacity import sizes
from lowering.capacity.rules.table import Row, Rows, argument
from lowering.capacity.values import Call, Counted, Number, Tensor, number, plain, true_sizes

ROWS = Rows()
CHECKS = {torch.ops.aten._assert_scalar.default, torch.ops.aten.sym_constrain_range.default,
          torch.ops.aten.sym_constrain_range_for_size.default, torch.ops.aten._assert_async.msg, torch.ops.aten._assert_async.default,
          torch.ops.aten._assert_tensor_metadata.default}  # fmt: skip
is_function = sizes.is_number_function


def _function(call: Call, *args: Any) -> Tensor:
    return sizes.as_tensor(sizes.compute(call.op, *map(number, args)))


FUNCTION = Row(_function)


@ROWS.register("sym_size.int")
def _sym_size(call: Call, tensor: Counted, dim: int) -> Tensor:
    return sizes.as_tensor(true_sizes(tensor)[dim])


@ROWS.register("sym_numel")
def _sym_numel(call: Call, tensor: Counted) -> Tensor:
    return sizes.as_tensor(functools.reduce(lambda one, other: one * other, true_sizes(tensor), 1))


def _bound_item(node: Any, shape_of: Any) -> Any:
    """Return the bound of a sum of bools: their number."""
    source = argument(node, "self")
    if source.target in (torch.ops.aten.sum.default, torch.ops.aten.count_nonzero.default):
        summed = source.args[0]
        if summed.meta["val"].dtype is torch.bool or source.target is torch.ops.aten.count_nonzero.default:
            return sympy.Mul(*shape_of(summed))
    return None


@ROWS.register("item", "_local_scalar_dense", bound=_bound_item)
def _item(call: Call, tensor: Any) -> Tensor:
    value = plain(tensor).reshape(-1)[0] if plain(tensor).dim() else plain(tensor)
    return value if value.dtype is torch.bool else value.to(torch.float64 if value.dtype.is_floating_point else torch.int64)


@ROWS.register("scalar_tensor")
def _scalar_tensor(call: Call, value: Number, **_: Any) -> Tensor:
    return value.value.to(call.dtypes[0])


@ROWS.register("_assert_scalar")
def _assert_scalar(call: Call, condition: Any, text: str) -> None:
    if isinstance(condition, Number):
        call.check(condition.value.to(torch.bool), _shorten(text))


@ROWS.register("_assert_async")
def _assert_async(call: Call, condition: Any, text: str = "an assertion of the model") -> None:
    call.check(plain(condition).to(torch.bool), _shorten(text))


@ROWS.register("sym_constrain_range", "sym_constrain_range_for_size")
def _constrain(call: Call, size: Any, *, min: int | None = None, max: int | None = None) -> None:  # noqa: A002 - torch's names
    value = number(size)
    if min is not None and isinstance(value, torch.Tensor):
        call.check(value >= min, f"a size that data decide must be at least {min}")
    if max is not None and isinstance(value, torch.Tensor):
        call.check(value <= max, f"a size that data decide must be at most {max}")


@ROWS.register("_assert_tensor_metadata")
def _ignore(call: Call, *_: Any, **__: Any) -> None:
    """Drop the op: tracing has checked it."""


def _shorten(text: str) -> str:
    return text.removeprefix("Runtime assertion failed for expression ").partition(" on node ")[0]
