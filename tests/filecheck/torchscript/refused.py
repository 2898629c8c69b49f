"""Two higher-order ops without a TorchScript form: both are named, each with its line."""

import torch
from torch._higher_order_ops.hints_wrap import hints_wrapper

INPUTS = {"x": ("float32", ("batch", 4))}


class Case(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = hints_wrapper(lambda x: x.sin(), (x,), {}, hints={"fuse": True})
        return y + hints_wrapper(lambda x: x.cos(), (x,), {}, hints={"fuse": True})


# REFUSED: refused.py:11: this higher-order op has no TorchScript form; supported:
# REFUSED: refused.py:12: this higher-order op has no TorchScript form
