"""A run of an exported program fails where a tensor has another shape than the program states."""

import pytest
import torch
from torch.export import Dim

from lowering.fx import cleanup
from lowering.numerics.stated_shapes import ShapeError, check_at_run


class Halves(torch.nn.Module):
    """A pooling for whose size torch asks whether the last window begins inside, which is so at odd sizes only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True, padding=1, count_include_pad=False).relu()


def test_a_size_of_another_branch_is_found() -> None:
    program = torch.export.export(Halves(), (torch.ones(2, 7, 7),), dynamic_shapes={"x": {1: Dim("n", min=3, max=15)}},
                                  prefer_deferred_runtime_asserts_over_guards=True)
    module = program.module(check_guards=False)
    cleanup.drop_all_assertions(module)
    check_at_run(module)
    assert module(torch.ones(2, 7, 7)).shape == (2, 4, 4)
    with pytest.raises(ShapeError, match=r"\(2, 5, 4\) is stated to be \(2, .*//2"):
        module(torch.ones(2, 8, 7))
