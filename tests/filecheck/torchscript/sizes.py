"""Arithmetic on sizes: every operator has its TorchScript form, and a power of ints stays an int."""

import math

import torch

INPUTS = {"x": ("float32", ("batch", "seq")), "y": ("float32", ("other", 2))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[object, ...]:
        b, s, o = x.shape[0], x.shape[1], y.shape[0]
        return (b + s, b * 3 - s, s // 2, s % 3, b**2, torch.sym_max(b, o), torch.sym_min(s, o), b / 2, math.ceil(b / 2), -b,
                math.floor(o / 3), (s - 9) % 4, torch.sym_not(b > 4), abs(s - 8), torch.sym_ite(b > 9, s, o))


# CHECK: [[B:%\w+]] : int = aten::size(%x, [[ZERO:%\w+]])
# CHECK-NEXT: [[ONE:%\w+]] : int = prim::Constant[value=1]()
# CHECK-NEXT: [[S:%\w+]] : int = aten::size(%x, [[ONE]])
# CHECK-NEXT: [[O:%\w+]] : int = aten::size(%y, [[ZERO]])
# CHECK: : int = aten::add([[B]], [[S]])
# CHECK: : int = aten::mul([[B]],
# CHECK: : int = aten::sub(
# CHECK: : int = aten::floordiv([[S]],
# CHECK: : int = aten::remainder([[S]],
# CHECK: : int = aten::mul([[B]], [[B]])
# CHECK: : int = prim::max([[B]], [[O]])
# CHECK: : int = prim::min([[S]], [[O]])
# CHECK: [[HALF:%\w+]] : float = aten::div([[B]],
# CHECK: : int = aten::ceil([[HALF]])
# CHECK: : int = aten::neg([[B]])
# CHECK: [[UP:%\w+]] : int = aten::ceil(
# CHECK-NEXT: : int = aten::neg([[UP]])
# CHECK: [[WHOLE:%\w+]] : int = aten::floordiv(
# CHECK-NEXT: aten::mul([[WHOLE]],
# CHECK-NEXT: aten::sub(
# CHECK: : bool = aten::ne(
# CHECK: : int = prim::max(
# CHECK: : int = prim::If(
# CHECK: -> ([[S]])
# CHECK: -> ([[O]])
# CHECK: prim::TupleConstruct(
