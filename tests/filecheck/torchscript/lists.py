"""Lists of tensors both ways, and lists that hold None."""

import torch

INPUTS = {"x": ("float32", ("batch", 6)), "index": ("int64", ("count",))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = torch.split(x, 3, dim=1)
        return torch.cat([second, first, x], dim=1), x[:, index]


# CHECK: [[PARTS:%\w+]] : Tensor[] = aten::split{{\w*}}(%x,
# CHECK-NEXT: [[FIRST:%\w+]] : Float(*, 3), [[SECOND:%\w+]] : Float(*, 3) = prim::ListUnpack([[PARTS]])
# CHECK: [[JOINED:%\w+]] : Tensor[] = prim::ListConstruct([[SECOND]], [[FIRST]], %x)
# CHECK-NEXT: : Float(*, 12) = aten::cat([[JOINED]],
# CHECK: [[NONE:%\w+]] : NoneType = prim::Constant()
# CHECK: [[WHERE:%\w+]] : Tensor?[] = prim::ListConstruct([[NONE]], %index)
# CHECK-NEXT: : Float(*, *) = aten::index(%x, [[WHERE]])
