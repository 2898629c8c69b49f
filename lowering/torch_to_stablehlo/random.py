"""Random numbers from XLA's generator. They have torch's distribution, but other values."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, rule


@rule("aten.uniform")
def _uniform(call: Call) -> Sequence[ir.Value]:
    """Lower aten::uniform(self, from, to, generator), in [from, to)."""
    return [_draw(call, "UNIFORM")]


@rule("aten.normal_functional")
def _normal(call: Call) -> Sequence[ir.Value]:
    """Lower aten::normal_functional(self, mean, std, generator)."""
    return [_draw(call, "NORMAL")]


def _draw(call: Call, distribution: str) -> ir.Value:
    """Draw numbers in the shape of the op's first operand, with its two parameters."""
    given = call.tensor(0)
    element = str(ir.RankedTensorType(given.type).element_type)
    parameters = [call.number(float(call.constant(position)), element) for position in (1, 2)]
    kind = f"#stablehlo<rng_distribution {distribution}>"
    return call.make("stablehlo.rng", [*parameters, call.shape(given)], given.type, rng_distribution=kind)
