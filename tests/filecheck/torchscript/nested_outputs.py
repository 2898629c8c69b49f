"""Nested outputs are flattened; None and numbers that tracing fixed are in the signature alone."""

import torch

INPUTS = {"x": ("float32", ("batch", 4))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"first": x + 1, "rest": [x * 2, None, {"size": x.shape[0], "three": 3}], "flag": True}


# CHECK: [[A:%\w+]] : Float(*, 4) = aten::add(
# CHECK: [[B:%\w+]] : Float(*, 4) = aten::mul(
# CHECK: [[ALL:%\w+]] : (Float(*, 4), Float(*, 4), int) = prim::TupleConstruct([[A]], [[B]], {{%\w+}})
# CHECK-NEXT: return ([[ALL]])
