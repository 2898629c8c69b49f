"""Products: the padding of a contracted dim counts as zeros."""

from __future__ import annotations

from typing import Any

import torch

from lowering.capacity.bounds import to_expression
from lowering.capacity.rules.table import Row, Rows
from lowering.capacity.values import Call, Counted, NoRule, Number, Tensor, plain
from lowering.ops import grouped_products

ROWS = Rows()


def _zero_padding(value: Any, dim: int) -> Tensor:
    return value.fill(0, dim) if isinstance(value, Counted) else value  # type: ignore[no-any-return]


def _size(value: Any, dim: int) -> Any:
    return value.dims[dim].size if isinstance(value, Counted) else to_expression(value.shape[dim])


def _contract(first: Any, second: Any, dim: int, other: int) -> tuple[Tensor, Tensor]:
    """Return both operands with zeros for the padding of the dim that they are contracted over."""
    if _size(first, dim) != _size(second, other):
        raise NoRule(f"contracts dims of sizes {_size(first, dim)} and {_size(second, other)}: state that they are equal by torch._check")
    return _zero_padding(first, dim), _zero_padding(second, other)


@ROWS.register("mm", "bmm", "matmul", "dot", "mv")
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


@ROWS.register("linear")
def _linear(call: Call, tensor: Any, weight: Any, bias: Any = None) -> Tensor:
    one, other = _contract(tensor, weight, -1, -1)
    return torch.nn.functional.linear(one, other, plain(bias) if bias is not None else None)


@ROWS.register("addmm", "baddbmm")
def _addmm(call: Call, added: Any, first: Any, second: Any, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    if isinstance(beta, Number) or isinstance(alpha, Number):
        raise NoRule("takes a number that data decide where a constant is needed")
    one, other = _contract(first, second, -1, -2)
    return call.op(plain(added), one, other, beta=beta, alpha=alpha)  # type: ignore[no-any-return]


def _grouped_mm(call: Call, rows: Any, weights: Any, offs: Any = None, **settings: Any) -> Tensor:
    """Multiply each row with the matrix of its group. No group has padding: the last ends at the count of rows, or in front of it."""
    if plain(rows).dim() != 2 or plain(weights).dim() != 3 or isinstance(weights, Counted) or (isinstance(rows, Counted) and rows.has(1)):
        raise NoRule("data decide another size than the number of rows")
    if isinstance(offs, Counted):
        raise NoRule("data decide the number of its groups")
    return grouped_products.grouped_mm(plain(rows), weights, offs, **settings)


NAMED = {name: Row(_grouped_mm) for name in grouped_products.ROWS}


@ROWS.register("outer")
def _outer(call: Call, first: Any, second: Any) -> Tensor:
    return plain(first).unsqueeze(-1) * plain(second).unsqueeze(0)
