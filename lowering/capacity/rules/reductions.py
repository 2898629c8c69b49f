"""Reductions: the padding takes the value that changes nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lowering.capacity.bounds import has_elements
from lowering.capacity.rules.table import Rows
from lowering.capacity.values import Call, Counted, NoRule, Tensor, highest, lowest, true_sizes
from lowering.ops import histograms

ROWS = Rows()


def _positions(tensor: Counted, dim: Any) -> list[int]:
    """Return the dims that are reduced: all if `dim` is None or empty."""
    rank = len(tensor.dims)
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(rank))
    return [each % rank for each in (dim if isinstance(dim, list | tuple) else [dim])]


def _number(tensor: Counted, positions: Sequence[int]) -> Any:
    """Return how many elements are reduced into one, as a 0-d tensor or int."""
    sizes = true_sizes(tensor)
    return functools.reduce(lambda one, other: one * other, (sizes[position] for position in positions), 1)


def _need_elements(call: Call, tensor: Counted, positions: Sequence[int]) -> None:
    for position in positions:
        dim = tensor.dims[position]
        if (count := dim.count) is not None and not has_elements(dim.size):
            call.check(count > 0, f"{call.op} needs elements")


def _register(names: Sequence[str], value: Callable[[torch.dtype], Any], is_total: bool = True) -> None:
    """Register a reduction `op(tensor, dim=None, ...)`. is_total: whether it has a value for no elements."""

    def reduce(call: Call, tensor: Counted, dim: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(dim, bool) or not (dim is None or isinstance(dim, int | list | tuple)):
            raise NoRule("is called in a form that its rule does not know")
        positions = _positions(tensor, dim)
        if not is_total:
            _need_elements(call, tensor, positions)
        filled = tensor.fill(value(tensor.data.dtype), *positions) if positions else tensor.data
        has_dim = any(formal.name == "dim" for formal in call.op._schema.arguments)
        needs_dim = any(formal.name == "dim" and not formal.has_default_value() for formal in call.op._schema.arguments)
        given = [] if dim is None and not args and not needs_dim else [dim, *args]  # not every op takes None for all dims
        return call.op(filled, *given, **kwargs) if has_dim else call.op(filled, **kwargs)

    ROWS.register(*names)(reduce)


_register(["sum.default", "sum.dim_IntList", "nansum", "count_nonzero"], lambda dtype: 0)
_register(["prod.default", "prod.dim_int"], lambda dtype: 1)
_register(["any.default", "any.dim", "any.dims"], lambda dtype: 0)
_register(["all.default", "all.dim", "all.dims"], lambda dtype: 1)
_register(["amax", "max.default", "max.dim"], lowest, is_total=False)
_register(["amin", "min.default", "min.dim"], highest, is_total=False)
_register(["logsumexp.default"], lambda dtype: -math.inf)
_register(["softmax.int", "_softmax", "log_softmax.int", "_log_softmax"], lambda dtype: -math.inf)


@ROWS.register("argmax", "argmin")
def _argmax(call: Call, tensor: Counted, dim: int | None = None, keepdim: bool = False) -> Tensor:
    if dim is None and tensor.counted != (0,):
        raise NoRule("numbers elements in order of a tensor whose inner dim is padded")
    positions = _positions(tensor, dim)
    _need_elements(call, tensor, positions)
    outside = (lowest if call.op is torch.ops.aten.argmax.default else highest)(tensor.data.dtype)
    return call.op(tensor.fill(outside, *positions), dim, keepdim)  # type: ignore[no-any-return]


@ROWS.register("aminmax")
def _aminmax(call: Call, tensor: Counted, *, dim: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    positions = _positions(tensor, dim)
    _need_elements(call, tensor, positions)
    low, high = (tensor.fill(value(tensor.data.dtype), *positions) for value in (highest, lowest))
    return torch.amin(low, positions, keepdim), torch.amax(high, positions, keepdim)


@ROWS.register("mean.default")
def _mean(call: Call, tensor: Counted, *, dtype: torch.dtype | None = None) -> Tensor:
    return _mean_along(call, tensor, None, dtype=dtype)


@ROWS.register("mean.dim")
def _mean_along(call: Call, tensor: Counted, dim: Any, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    return average(tensor, _positions(tensor, dim), keepdim, call.dtypes[0])


def average(tensor: Counted, positions: Sequence[int], keepdim: bool, dtype: torch.dtype, less: Any = 0) -> Tensor:
    """Return sums over some dims divided by the number of elements, less `less`; summed as eager sums, in float32 or wider."""
    data = tensor.fill(0)
    wide = data.to(torch.float32) if dtype in (torch.float16, torch.bfloat16) else data.to(dtype)
    number = _number(tensor, positions) - less
    total = wide.sum(list(positions), keepdim)
    return (total / (number.clamp(min=0) if isinstance(number, torch.Tensor) else max(number, 0))).to(dtype)


@ROWS.register("var.default", "var.dim", "var.correction", "std.default", "std.dim", "std.correction")
def _var(call: Call, tensor: Counted, *args: Any, **kwargs: Any) -> Tensor:
    found, _ = _moments(tensor, call, *args, **kwargs)
    return found.sqrt() if call.op._schema.name == "aten::std" else found


@ROWS.register("var_mean.default", "var_mean.dim", "var_mean.correction", "std_mean.default", "std_mean.dim", "std_mean.correction")
def _var_mean(call: Call, tensor: Counted, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    found, mean = _moments(tensor, call, *args, **kwargs)
    return (found.sqrt() if call.op._schema.name == "aten::std_mean" else found), mean


def _moments(tensor: Counted, call: Call, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Return the variance and the mean, for the arguments of any overload of `var`."""
    if tensor.data.is_complex():
        raise NoRule("is of complex numbers")
    names = ["unbiased"] if call.op._overloadname == "default" else ["dim", "unbiased", "keepdim"]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    less = given["correction"] if given.get("correction") is not None else int(given.get("unbiased", True))
    return moments(tensor, _positions(tensor, given.get("dim")), given.get("keepdim", False), call.dtypes[0], less)


def moments(tensor: Counted, positions: Sequence[int], keepdim: bool, dtype: torch.dtype, less: Any = 0) -> tuple[Tensor, Tensor]:
    """Return the variance over some dims, divided by the number of elements less `less`, and the mean."""
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    mean = average(tensor, positions, True, wide)
    off = tensor.data.to(wide) - mean
    found = average(Counted(off * off, tensor.dims), positions, keepdim, wide, less)
    return found.to(dtype), (mean if keepdim else mean.squeeze(list(positions))).to(dtype)


@ROWS.register("linalg_vector_norm", "norm.Scalar", "norm.ScalarOpt_dim", "norm.ScalarOpt_dtype", "norm.ScalarOpt_dim_dtype")
def _norm(call: Call, tensor: Counted, ord: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:  # noqa: A002 - torch's name
    power = 2 if ord is None else ord
    positions = _positions(tensor, dim)
    if power == math.inf or power < 0:
        _need_elements(call, tensor, positions)
    filled = tensor.fill(math.inf if power < 0 else 0, *positions)
    return torch.linalg.vector_norm(filled, power, positions if dim is not None else None, keepdim, dtype=kwargs.get("dtype"))


@ROWS.register("histc.default")
def _histc(call: Call, tensor: Counted, bins: int = 100, min: Any = 0, max: Any = 0) -> Tensor:  # noqa: A002 - the names of the schema
    return histograms.histc(tensor.data, bins, min, max, tensor.mask().expand(tensor.data.shape).reshape(-1))
