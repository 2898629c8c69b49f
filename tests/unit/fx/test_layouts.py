"""Shapes and strides of fake results guard no size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.export import Dim
from torch.nn import functional

from lowering.fx.tracing import layouts

Function = Callable[[torch.Tensor], torch.Tensor]


class Called(torch.nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize("function", [
    lambda x: (x[:, :, 2:] * 2).sin() + x[0, 0, 2:] + torch.ones(4, 1),
    lambda x: functional.conv1d(x, torch.ones(2, 4, 3)).clone() + 1,
    lambda x: torch.where(x[:, :, 2:] > x[:, :, :-2], x[:, :, 1:-1], 0.0),
    lambda x: (x[:, :, 2:] + 1).reshape(-1, 2, x.shape[2] - 2),
    lambda x: torch.ops.aten.copy.default(x[:, :, 1::2], x[0, :, :1]),
    lambda x: x[:, :1, 2:].expand(-1, 3, -1) + torch.ones(1).expand(x.shape[2] - 2),
])  # fmt: skip
def test_a_part_of_a_dim_may_have_one_element(function: Function) -> None:
    dims = {"x": {0: Dim("b", min=1, max=64), 2: Dim("t", min=3, max=64)}}
    with layouts.compute_unguarded():
        program = torch.export.export(Called(function), (torch.randn(5, 4, 7),), dynamic_shapes=dims)
    for shape in ((1, 4, 3), (6, 4, 9)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module(check_guards=False)(x), function(x))


def test_shapes_that_do_not_fit_are_refused() -> None:
    dims = {"x": {0: Dim("b", min=2, max=64), 2: Dim("t", min=3, max=64)}}
    for function in (lambda x: x + torch.ones(3, 1), lambda x: x[:, :, 2:] + x[:, :, 1:], lambda x: x.reshape(-1, 3),
                     lambda x: torch.ops.aten.copy.default(x[:, :, 2:], x[:, :, 1:])):  # fmt: skip
        with layouts.compute_unguarded(), pytest.raises((RuntimeError, ValueError)):
            torch.export.export(Called(function), (torch.randn(5, 4, 7),), dynamic_shapes=dims)


def test_one_dim_that_another_must_equal_is_asked() -> None:
    module, dims = Called(lambda x: x[:, :2] + x[:2].mT.expand(x.shape[1], 2)), {"x": {0: Dim.AUTO, 1: Dim.AUTO}}
    with layouts.compute_unguarded():
        program = torch.export.export(module, (torch.randn(7, 7),), dynamic_shapes=dims)
    (shape,) = (node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder")
    assert str(shape[0]) == str(shape[1])
