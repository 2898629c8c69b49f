"""Custom ops that return what they write become functional, with the values of eager."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import Dim, export

from lowering.fx import cleanup
from lowering.fx.rewriting import aliasing, functional

LIBRARY = torch.library.Library("aliasing_test", "FRAGMENT")


def _define(name: str, schema: str, run: Any, fake: Any) -> None:
    LIBRARY.define(name + schema)
    torch.library.impl(LIBRARY, name, "CPU")(run)
    torch.library.register_fake(f"aliasing_test::{name}", fake, lib=LIBRARY)


_define("scale_", "(Tensor(a!) x, float s) -> Tensor(a!)", lambda x, s: x.mul_(s), lambda x, s: x)
_define("twice.out", "(Tensor x, *, Tensor(a!) out) -> Tensor(a!)", lambda x, *, out: out.copy_(x * 2), lambda x, *, out: out)
_define("both_", "(Tensor(a!) x) -> (Tensor(a!), Tensor)", lambda x: (x.add_(1), x.sum(1)), lambda x: (x, x.new_empty(x.shape[0])))


class Writes(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, z, out = x.clone(), x.clone(), torch.empty_like(x)
        scaled = torch.ops.aliasing_test.scale_(y[:, :2], 0.5)
        doubled = torch.ops.aliasing_test.twice.out(x, out=out)
        both, total = torch.ops.aliasing_test.both_(z)
        return y + 1, scaled, out - 1, doubled, z + both, total


def test_an_op_that_returns_what_it_writes_is_called_on_copies() -> None:
    captured = export(Writes(), (torch.randn(5, 4),), dynamic_shapes=({0: Dim("n", min=1, max=16)},))
    with functional.functionalize_whole_arguments(), aliasing.hide_aliasing(captured) as revealed:
        revealed.append(captured.run_decompositions({}))
    (program,) = revealed
    assert cleanup.is_functional(program.graph_module)
    called = [str(node.args[0])
              for node in cleanup.calls(program.graph_module) if node.target is torch.ops.higher_order.auto_functionalized]
    assert called == ["aliasing_test.scale_.default", "aliasing_test.twice.out", "aliasing_test.both_.default"]
