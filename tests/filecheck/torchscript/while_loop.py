"""while_loop becomes prim::Loop without a count: the condition is computed before it and at the end of each turn."""

import torch
from torch._higher_order_ops.while_loop import while_loop

INPUTS = {"x": ("float32", ("batch", 4)), "turns": ("int64", ())}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        return while_loop(lambda n, x: n < 5, lambda n, x: (n + 1, x.sin()), (turns, x))[1]


# CHECK: [[FIRST:%\w+]] : bool = aten::Bool(
# CHECK: [[FOREVER:%\w+]] : int = prim::Constant[value=9223372036854775807]()
# CHECK: {{%\w+}} : Long(), [[OUT:%\w+]] : Float(*, 4) = prim::Loop([[FOREVER]], [[FIRST]], {{%\w+}}, {{%\w+}})
# CHECK-NEXT: block0({{%\w+}} : int, [[N:%\w+]] : Long(), [[X:%\w+]] : Float(*, 4)):
# CHECK: [[N2:%\w+]] : Long() = aten::add([[N]],
# CHECK-NEXT: [[X2:%\w+]] : Float(*, 4) = aten::sin([[X]])
# CHECK: [[AGAIN:%\w+]] : bool = aten::Bool(
# CHECK-NEXT: -> ([[AGAIN]], [[N2]], [[X2]])
# CHECK-NEXT: return ([[OUT]])
