"""Loops whose number of iterations depends on data or on a dim, as torch's `while_loop`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx.experimental.symbolic_shapes import statically_known_true

Tensor: TypeAlias = torch.Tensor
State: TypeAlias = tuple[Tensor, ...]


def iterate(goes_on: Callable[..., Tensor], step: Callable[..., State], state: State, given: State = ()) -> State:
    """Return `state` after `step(*state, *given)` as long as `goes_on(*state, *given)`, a bool of no dims, holds.

    Dtypes and shapes of the state stay. Both functions must get every tensor that they use as an argument.
    """
    with torch._C._AutoDispatchBelowAutograd():
        dense = tuple(part.clone(memory_format=torch.contiguous_format) for part in state)  # as the results of a step are
        return while_loop_op(goes_on, step, dense, given)  # type: ignore[no-any-return]


def least(one: Any, other: Any) -> Any:
    """Return the smaller of two sizes: one of the two where their ranges tell which it is."""
    if statically_known_true(one <= other):
        return one
    return other if statically_known_true(other <= one) else torch.sym_min(one, other)


def take(tensor: Tensor, dim: int, number: Tensor) -> Tensor:
    """Return the element `number` along `dim`, which is kept; 0 where the dim is empty: a loop is compiled even if it does not run."""
    places = torch.arange(tensor.shape[dim]).reshape(-1, *[1] * (-1 - dim))
    return torch.where(places == number, tensor, 0).sum(dim, keepdim=True, dtype=tensor.dtype)


def count(times: Any, step: Callable[..., State], state: State, given: State = ()) -> State:
    """Return `state` after `times` of `step(number, *state, *given)`, where `number` is an int64 of no dims that counts from 0."""
    last, first = torch.scalar_tensor(times, dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    width = len(state)

    def goes_on(number: Tensor, *rest: Tensor) -> Tensor:
        return number < rest[width]

    def apply(number: Tensor, *rest: Tensor) -> State:
        return number + 1, *step(number, *rest[:width], *rest[width + 1 :])

    return iterate(goes_on, apply, (first, *state), (last, *given))[1:]
