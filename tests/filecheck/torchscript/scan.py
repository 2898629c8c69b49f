"""scan becomes prim::Loop over dim 0: slices are selected, results are written slice by slice."""

import torch
from torch._higher_order_ops.scan import scan

INPUTS = {"x": ("float32", ("seq", "batch", 4)), "h": ("float32", ("batch", 4))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def step(h: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = torch.tanh(h + x)
            return h, h * 2

        return scan(step, h, x)


# CHECK: [[COUNT:%\w+]] : int = aten::size(%x,
# CHECK: [[BATCH:%\w+]] : int = aten::size(%x,
# CHECK: [[SHAPE:%\w+]] : int[] = prim::ListConstruct([[COUNT]], [[BATCH]],
# CHECK: [[ROOM:%\w+]] : Float(*, *, 4) = aten::full([[SHAPE]],
# CHECK: [[LAST:%\w+]] : Float(*, 4), [[ALL:%\w+]] : Float(*, *, 4) = prim::Loop([[COUNT]], {{%\w+}}, %h, [[ROOM]])
# CHECK-NEXT: block0([[TURN:%\w+]] : int, [[H:%\w+]] : Float(*, 4), [[SO_FAR:%\w+]] : Float(*, *, 4)):
# CHECK-NEXT: [[PLACE:%\w+]] : Long() = prim::NumToTensor([[TURN]])
# CHECK: [[ROWS:%\w+]] : Float(1, *, 4) = aten::index_select(%x,
# CHECK-NEXT: aten::squeeze([[ROWS]],
# CHECK: aten::select_scatter([[SO_FAR]], {{%\w+}}, {{%\w+}}, [[TURN]])
# CHECK: prim::TupleConstruct([[LAST]], [[ALL]])
