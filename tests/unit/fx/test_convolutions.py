"""The choice of a convolution's backend guards no size; that shapes fit is still a guard."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

from lowering.fx.tracing import convolutions


class Convolved(torch.nn.Module):
    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.function = torch.conv_transpose2d if transposed else torch.conv2d

    def forward(self, image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return self.function(image, weight, bias)


@pytest.mark.parametrize("transposed", [False, True])
def test_dims_that_must_fit_are_one_symbol(transposed: bool) -> None:
    arguments = torch.randn(3, 4, 7, 7), torch.randn(*((4, 6) if transposed else (6, 4)), 3, 3), torch.randn(6)
    with convolutions.select_unguarded():
        program = torch.export.export(Convolved(transposed), arguments,
                                      dynamic_shapes=[dict.fromkeys(range(each.dim()), Dim.AUTO) for each in arguments])
    image, weight, bias = (node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder")
    assert (str(weight[0]), str(weight[1])) == ((str(image[1]), str(bias[0])) if transposed else (str(bias[0]), str(image[1])))
    assert len({str(size) for shape in (image, weight, bias) for size in shape}) == 7


def test_shapes_that_do_not_fit_are_refused() -> None:
    arguments = torch.randn(3, 4, 7, 7), torch.randn(6, 4, 3, 3), torch.randn(5)
    with convolutions.select_unguarded(), pytest.raises(Exception, match="bias"):
        torch.export.export(Convolved(False), arguments)
