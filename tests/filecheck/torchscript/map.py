"""map becomes prim::Loop over dim 0."""

import torch
from torch._higher_order_ops.map import map as map_over

INPUTS = {"x": ("float32", ("seq", "batch", 3)), "w": ("float32", (3, 5))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return map_over(lambda row, w: row.sin() @ w, x, w)


# CHECK: [[COUNT:%\w+]] : int = aten::size(%x,
# CHECK: [[OUT:%\w+]] : Float(*, *, 5) = prim::Loop([[COUNT]],
# CHECK: aten::index_select(%x,
# CHECK: aten::matmul(
# CHECK: return ([[OUT]])
