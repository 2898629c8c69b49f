"""torch.cond becomes prim::If: a tensor predicate is read, the branches see what is outside of them."""

import torch

INPUTS = {"x": ("float32", ("batch", 4))}


class Case(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: self.linear(x), lambda x: x - 1, (x,))


# CHECK: [[WHICH:%\w+]] : Bool() = aten::gt(
# CHECK: [[BOOL:%\w+]] : bool = aten::Bool([[WHICH]]) # {{.*}}cond.py:14
# CHECK-NEXT: [[OUT:%\w+]] : Float(*, 4) = prim::If([[BOOL]])
# CHECK-NEXT: block0():
# CHECK-NEXT: [[YES:%\w+]] : Float(*, 4) = aten::linear(%x,
# CHECK-NEXT: -> ([[YES]])
# CHECK-NEXT: block1():
# CHECK: [[NO:%\w+]] : Float(*, 4) = aten::sub(%x,
# CHECK-NEXT: -> ([[NO]])
# CHECK-NEXT: return ([[OUT]])
