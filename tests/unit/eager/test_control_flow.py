"""Loops and branches that run as Python give the gradients of the ops in their bodies, those of weights that bodies capture included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch._higher_order_ops.map import map as map_over
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

from lowering.eager import control_flow
from lowering.numerics.judging.ties import Picks

Tensor = torch.Tensor
Function = Callable[[Tensor, Tensor], Tensor]


def _scan(x: Tensor, weight: Tensor) -> Tensor:
    def step(carry: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        carry = torch.tanh(row @ weight + carry)
        return carry, carry * 2

    last, rows = scan(step, torch.zeros(3), x)
    return last + rows.sum(0)


def _scanned(x: Tensor, weight: Tensor) -> Tensor:
    carry = total = torch.zeros(3)
    for row in x:
        carry = torch.tanh(row @ weight + carry)
        total = total + carry * 2
    return carry + total


def _repeat(x: Tensor, weight: Tensor) -> Tensor:
    zero = torch.zeros((), dtype=torch.int64)
    return while_loop(lambda count, value: count < 3, lambda count, value: (count + 1, torch.sin(value @ weight)), (zero, x))[1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("control", "plain"), [
    (lambda x, weight: torch.cond(x.sum() > 0, lambda x: (x @ weight).sin(), lambda x: x * 2, (x,)), lambda x, weight: (x @ weight).sin()),
    (lambda x, weight: torch.cond(x.sum() < 0, lambda x: x * 2, lambda x: x @ weight - x, (x,)), lambda x, weight: x @ weight - x),
    (lambda x, weight: map_over(lambda row: torch.tanh(row @ weight), x), lambda x, weight: torch.tanh(x @ weight)),
    (_scan, _scanned),
    (_repeat, lambda x, weight: torch.sin(torch.sin(torch.sin(x @ weight) @ weight) @ weight)),
])  # fmt: skip
@pytest.mark.parametrize("needed", ["both", "weight"])
def test_gradients_are_those_of_the_bodies(control: Function, plain: Function, needed: str) -> None:
    x = torch.rand(4, 3, requires_grad=needed == "both")
    weight = torch.rand(3, 3, requires_grad=True)
    leaves = [leaf for leaf in (x, weight) if leaf.requires_grad]
    with control_flow.run_as_python(), Picks():  # a mode that watches ops
        got = torch.autograd.grad(control(x, weight).square().sum(), leaves)
    torch.testing.assert_close(got, torch.autograd.grad(plain(x, weight).square().sum(), leaves))
