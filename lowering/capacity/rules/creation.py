"""Tensors that are created at a size that data decide."""

from __future__ import annotations

from typing import Any

import torch

from lowering.capacity.rules.table import Rows
from lowering.capacity.sizes import as_tensor
from lowering.capacity.values import Call, NoRule, Number, Tensor, number

ROWS = Rows()


@ROWS.register("full.default", "new_full.default")
def _full(call: Call, *args: Any, **_: Any) -> Tensor:
    value = args[-1]
    if isinstance(value, Number):
        return value.value.to(call.dtypes[0]).expand(call.lengths())
    return torch.full(call.lengths(), value, dtype=call.dtypes[0])


@ROWS.register("zeros.default", "new_zeros.default", "empty.memory_format", "new_empty.default")
def _zeros(call: Call, *_: Any, **__: Any) -> Tensor:
    return torch.zeros(call.lengths(), dtype=call.dtypes[0])


@ROWS.register("ones.default", "new_ones.default")
def _ones(call: Call, *_: Any, **__: Any) -> Tensor:
    return torch.ones(call.lengths(), dtype=call.dtypes[0])


@ROWS.register("arange.default")
def _arange(call: Call, end: Any, **_: Any) -> Tensor:
    return _count_from(call, 0, 1)


@ROWS.register("arange.start")
def _arange_from(call: Call, start: Any, end: Any, **_: Any) -> Tensor:
    return _count_from(call, number(start), 1)


@ROWS.register("arange.start_step")
def _arange_steps(call: Call, start: Any, end: Any, step: Any = 1, **_: Any) -> Tensor:
    return _count_from(call, number(start), number(step))


def _count_from(call: Call, start: Any, step: Any) -> Tensor:
    if not all(isinstance(value, int | torch.SymInt) or (isinstance(value, torch.Tensor) and not value.dtype.is_floating_point)
               for value in (start, step)):
        raise NoRule("counts in floating numbers to a number that data decide")
    return (as_tensor(start) + as_tensor(step) * torch.arange(call.lengths()[0])).to(call.dtypes[0])


@ROWS.register("rand.default", "randn.default", "randint.default", "randint.low", "randperm.default", "bernoulli.p", "rand_like",
               "randn_like", "bernoulli.default", "multinomial")
def _random(call: Call, *_: Any, **__: Any) -> Tensor:
    raise NoRule("draws random numbers for elements whose number data decide")
