"""What a program says of its states and composites is what the exported program says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.delivery import promises
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from tests.unit.models import tiny_bert


class Step(torch.nn.Module):
    """Two states of one shape, and two composites."""

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> dict[str, torch.Tensor]:
        activated = torch.nn.functional.gelu(x, approximate="tanh")
        return {"out": torch.nn.functional.layer_norm(activated, (4,)), "keys": keys + x, "values": values - x}


@cache
def lowered() -> Program:
    state = Input("float32", ("n", 4), state=True)
    model = Model("step", {"_target_": f"{__name__}.Step"}, {"x": Input("float32", ("n", 4)), "keys": state, "values": state},
                  {"n": Symbol(1, 8)})  # fmt: skip
    return tiny_bert.lower(Program(Level.MODEL, model), Export(composites={"gelu": "my.gelu", "layer_norm": "my.norm"}), ToTorchScript(),
                           ToTorchDialect(), ToStableHLO(), ToMHLO())


def test_a_program_as_it_is_lowered_breaks_no_promise() -> None:
    assert "tf.aliasing_output = 2" in mlir.text(lowered().ir) and "my.norm" in mlir.text(lowered().ir)
    assert promises.find_broken(lowered()) == []


@pytest.mark.parametrize(("old", "new", "says"), [
    ("tf.aliasing_output = 1", "tf.aliasing_output = 2", "'keys': shares memory with result 'values', and its new value is 'keys'"),
    ("%arg0: tensor<?x4xf32>", "%arg0: tensor<?x4xf32> {jax.buffer_donor = true}", "'x': may be overwritten, and is no state"),
    ('approximate = "tanh"', 'approximate = "none"', 'the exported program has {approximate = "tanh"'),
    ("eps = 1.000000e-05", "eps = 1.000000e-06", "the exported program has {eps = 1.000000e-05 : f64, normalized_shape = dense<4>"),
])  # fmt: skip
def test_a_broken_promise_is_found(old: str, new: str, says: str) -> None:
    text = mlir.text(lowered().ir, elide=None)
    assert old in text
    changed = replace(lowered(), ir=mlir.parse(text.replace(old, new, 1), mlir.create_hlo_context()))
    (problem,) = promises.find_broken(changed)
    assert says in str(problem)
