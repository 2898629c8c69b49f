"""Convolution with a weight that is an argument with dynamic dims. torch-mlir only lowers static weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, rule, to_builtin


@rule("aten.convolution")
def _convolution(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups).

    Return None if torch-mlir lowers it.
    """
    if call.constant(6) or ir.RankedTensorType(to_builtin(call.op.operands[1].type)).has_static_shape:
        return None
    image, weight = call.tensor(0), call.tensor(1)
    rank = ir.RankedTensorType(image.type).rank - 2
    stride, padding, dilation = (_expand(call.constant(position), rank) for position in (3, 4, 5))
    spatial = ", ".join(map(str, range(rank)))
    result = call.make(
        "stablehlo.convolution", [image, weight], call.result(),
        dimension_numbers=f"#stablehlo.conv<[b, f, {spatial}]x[o, i, {spatial}]->[b, f, {spatial}]>",
        window_strides=_spell_array(stride), rhs_dilation=_spell_array(dilation), lhs_dilation=_spell_array([1] * rank),
        padding=f"dense<{[[edge, edge] for edge in padding]}> : tensor<{rank}x2xi64>",
        feature_group_count=f"{call.constant(8)} : i64", batch_group_count="1 : i64",
    )  # fmt: skip
    if call.is_none(2):
        return [result]
    operands = [call.tensor(2), call.shape(result)]
    bias = call.make("stablehlo.dynamic_broadcast_in_dim", operands, call.result(), broadcast_dimensions=_spell_array([1]))
    return [call.make("stablehlo.add", [result, bias], call.result())]


def _expand(values: list[int], rank: int) -> list[int]:
    return values * rank if len(values) == 1 else values


def _spell_array(values: Sequence[int]) -> str:
    return f"array<i64: {', '.join(map(str, values))}>"
