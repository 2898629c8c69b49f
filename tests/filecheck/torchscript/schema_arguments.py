"""Every argument of the schema is filled in, defaults too; dims that are symbolic print as `*`."""

import torch

INPUTS = {"x": ("float32", ("batch", 4)), "y": ("float32", ("batch", 4))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.add(x, y, alpha=2).softmax(-1)


# CHECK: graph(%x : Float(*, 4),
# CHECK: [[TWO:%\w+]] : int = prim::Constant[value=2]()
# CHECK-NEXT: [[SUM:%\w+]] : Float(*, 4) = aten::add(%x, %y, [[TWO]]) # {{.*}}schema_arguments.py:10
# CHECK: [[LAST:%\w+]] : int = prim::Constant[value=-1]()
# CHECK: [[NONE:%\w+]] : NoneType = prim::Constant()
# CHECK: aten::softmax([[SUM]], [[LAST]], [[NONE]])
# CHECK-NOT: prim::TupleConstruct
