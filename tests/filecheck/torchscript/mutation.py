"""What a module writes to its buffers and inputs comes out as further results, in front of its own."""

import torch

INPUTS = {"x": ("float32", ("batch", 4))}


class Case(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps.add_(1)
        x.mul_(2)
        return x + self.steps


# CHECK: graph([[STEPS:%\w+]] : Float(),
# CHECK-NEXT: %x : Float(*, 4)):
# CHECK: [[NEW:%\w+]] : Float() = aten::add([[STEPS]],
# CHECK: [[WRITTEN:%\w+]] : Float(*, 4) = aten::mul(%x,
# CHECK: [[OUT:%\w+]] : Float(*, 4) = aten::add([[WRITTEN]], [[NEW]],
# CHECK: prim::TupleConstruct([[NEW]], [[WRITTEN]], [[OUT]])
# CHECK-NOT: aten::add_
