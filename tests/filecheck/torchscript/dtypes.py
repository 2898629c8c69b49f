"""Tensors of every width keep their dtype; dtypes in arguments are ints."""

import torch

INPUTS = {"x": ("float32", ("batch", 4))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        names = (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
        return (*(x.to(name) for name in names), torch.complex(x, x))


# CHECK: : Half(*, 4) = aten::to(
# CHECK: : BFloat16(*, 4) = aten::to(
# CHECK: : Double(*, 4) = aten::to(
# CHECK: : Char(*, 4) = aten::to(
# CHECK: : Byte(*, 4) = aten::to(
# CHECK: : Short(*, 4) = aten::to(
# CHECK: : Int(*, 4) = aten::to(
# CHECK: : Long(*, 4) = aten::to(
# CHECK: : Bool(*, 4) = aten::to(
# CHECK: : ComplexFloat(*, 4) = aten::complex(%x, %x)
