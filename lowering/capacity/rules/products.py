"""Products: the padding of a contracted dim counts as zeros."""

from __future__ import annotations

from typing import Any

import torch

from lowering.capacity.bounds import to_expression
from lowering.capacity.rules.table import Rows
from lowering.capacity.values import Call, Counted, NoRule, Number, Tensor, plain

ROWS = Rows()


def _zeroed(value: Any, dim: int) -> Tensor:
    return value.filled(0, dim) if isinstance(value, Counted) else value  # type: ignore[no-any-return]


def _size(value: Any, dim: int) -> Any:
    return value.dims[dim].size if isinstance(value, Counted) else to_expression(value.shape[dim])


def _contract(first: Any, second: Any, dim: int, other: int) -> tuple[Tensor, Tensor]:
    """Return both operands with zeros for the padding of the dim that they are contracted over."""
    if _size(first, dim) != _size(second, other):
        raise NoRule(f"contracts dims of sizes {_size(first, dim)} and {_size(second, other)}: state that they are equal by torch._check")
    return _zeroed(first, dim), _zeroed(second, other)


@ROWS.of("mm", "bmm", "matmul", "dot", "mv")
def _matmul(call: Call, first: Any, second: Any) -> Tensor:
    one, other = _contract(first, second, -1, -1 if plain(second).dim() == 1 else -2)
    if plain(first).dim() > 2 and plain(second).dim() > 2:
        _align_batches(call, first, second)
    return torch.matmul(one, other)


def _align_batches(call: Call, first: Any, second: Any) -> None:
    for position in range(3, 1 + min(plain(first).dim(), plain(second).dim())):
        sizes = {_size(first, -position), _size(second, -position)} - {1}
        if len(sizes) > 1:
            raise NoRule(f"broadcasts dims of sizes {' and '.join(map(str, sizes))}")


@ROWS.of("linear")
def _linear(call: Call, tensor: Any, weight: Any, bias: Any = None) -> Tensor:
    one, other = _contract(tensor, weight, -1, -1)
    return torch.nn.functional.linear(one, other, plain(bias) if bias is not None else None)


@ROWS.of("addmm", "baddbmm")
def _addmm(call: Call, added: Any, first: Any, second: Any, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    if isinstance(beta, Number) or isinstance(alpha, Number):
        raise NoRule("takes a number that data decide where a constant is needed")
    one, other = _contract(first, second, -1, -2)
    return call.op(plain(added), one, other, beta=beta, alpha=alpha)  # type: ignore[no-any-return]


@ROWS.of("_grouped_mm")
def _grouped_mm(call: Call, tensor: Any, weights: Any, offs: Any = None, bias: Any = None, out_dtype: torch.dtype | None = None) -> Tensor:
    """Multiply each row with the matrix of its group: rows in front of `offs[0]` with the first, and so on. Rows behind the last are 0."""
    if offs is None or plain(tensor).dim() != 2 or plain(weights).dim() != 3 or bias is not None or isinstance(weights, Counted):
        raise NoRule("is lowered for rows in groups and a matrix for each group")
    rows = plain(tensor)
    group = (plain(offs).to(torch.int64).unsqueeze(0) <= torch.arange(rows.shape[0]).unsqueeze(1)).sum(1, keepdim=True)
    products = torch.zeros([rows.shape[0], weights.shape[2]], dtype=torch.float32)
    if not isinstance(weights.shape[0], int):
        raise NoRule("has a number of groups that is no constant")
    for number in range(weights.shape[0]):
        products = torch.where(group == number, torch.mm(rows.to(torch.float32), weights[number].to(torch.float32)), products)
    return products.to(call.dtypes[0])


@ROWS.of("outer")
def _outer(call: Call, first: Any, second: Any) -> Tensor:
    return plain(first).unsqueeze(-1) * plain(second).unsqueeze(0)
