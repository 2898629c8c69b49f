"""Tensor constants become arguments; numbers that are not finite stay in the text."""

import torch

INPUTS = {"x": ("float32", ("batch", 3))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + torch.tensor([1.0, 2.0, 3.0])).masked_fill(x > 0, float("-inf"))


# CHECK: graph(%c_lifted_tensor_0 : Float(3),
# CHECK-NEXT: %x : Float(*, 3)):
# CHECK: prim::Constant[value=-inf]()
