"""Composites found in exported graphs: ATen ops and hand-written forms, and what only looks like one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.export import Dim
from torch.fx import GraphModule

from lowering.composites import marking, table
from lowering.custom import marks
from tests.unit.models import fused_forms

NAMES = {key: f"pytorch.{key}" for key in table.FORMS}
X, WEIGHT, HEADS, PAIR, MASK = (3, 5, 8), (8,), (3, 4, 5, 8), (3, 2, 5, 8), (3, 1, 5, 5)


def marked(form: Callable[..., Any], *shapes: tuple[int, ...], **names: str) -> tuple[GraphModule, list[Any]]:
    values = tuple(torch.rand(shape) for shape in shapes)
    batch = Dim("batch", max=16)
    dims = tuple({0: batch} if len(shape) > 2 and shape[0] == 3 else {} for shape in shapes)
    module = torch.export.export(fused_forms.Form(form), values, dynamic_shapes=(dims,)).graph_module
    return module, marking.mark(module, names or NAMES)


def found(module: GraphModule) -> list[tuple[str, dict[str, Any]]]:
    return [(node.args[2], json.loads(node.args[3])) for node in module.graph.nodes if node.target is marks.result]


@pytest.mark.parametrize(("form", "shapes", "name", "attributes"), [
    (fused_forms.rms_norm, (X, WEIGHT), "rms_norm", {"operands": ["input", "weight"], "eps": 1e-5, "normalized_dims": 1}),
    (fused_forms.rope, (HEADS, (5, 8), (5, 8)), "rope", {"operands": ["input", "cos", "sin"], "form": "rotate_half"}),
    (fused_forms.gelu, (X,), "gelu", {"operands": ["self"], "approximate": "none"}),
    (fused_forms.gelu_with_tanh, (X,), "gelu", {"operands": ["self"], "approximate": "tanh"}),
    (fused_forms.silu, (X,), "silu", {"operands": ["self"]}),
    (fused_forms.attention, (HEADS, PAIR, PAIR, MASK), "attention",
     {"operands": ["query", "key", "value", "attn_mask"], "scale": 0.25, "enable_gqa": True, "is_causal": False, "dropout_p": 0.0}),
    (lambda x: torch.nn.functional.layer_norm(x, (8,)), (X,), "layer_norm", {"operands": ["input"], "normalized_shape": [8], "eps": 1e-5}),
    (lambda x: torch.softmax(x, -1), (X,), "softmax", {"operands": ["self"], "dim": 2}),
])  # fmt: skip
def test_forms_are_found_with_their_attributes(form: Callable[..., Any], shapes: Any, name: str, attributes: dict[str, Any]) -> None:
    module, unmarked = marked(form, *shapes)
    assert found(module) == [(f"pytorch.{name}", attributes)] and not unmarked
    values = [torch.rand(shape, generator=torch.Generator().manual_seed(1)) for shape in shapes]
    torch.testing.assert_close(module(*values)[0], form(*values), rtol=0, atol=0)


@pytest.mark.parametrize(("form", "shapes"), [
    (fused_forms.rms_norm_over_rows, (X, WEIGHT)),
    (fused_forms.rope_with_one_sign, (HEADS, (5, 8), (5, 8))),
    (fused_forms.gelu_with_other_scale, (X,)),
    (fused_forms.silu_with_gate, (X,)),
    (fused_forms.attention_over_queries, (HEADS, HEADS, HEADS, MASK)),
])  # fmt: skip
def test_what_computes_something_else_is_no_composite(form: Callable[..., Any], shapes: Any) -> None:
    module, _ = marked(form, *shapes)
    assert [name for name, _ in found(module) if name != "pytorch.softmax"] == []


def test_any_op_can_be_a_composite() -> None:
    module, _ = marked(lambda x: torch.nn.functional.elu(x, 2.0), X, **{"aten.elu": "mine.elu"})
    assert found(module) == [("mine.elu", {"operands": ["self"], "alpha": 2.0, "scale": 1, "input_scale": 1})]


def test_one_tensor_can_be_several_operands() -> None:
    module, _ = marked(lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x), HEADS)
    assert [node.args[2] for node in module.graph.nodes if node.target is marks.operand] == [0, 1, 2]


def test_an_op_with_a_dynamic_number_is_listed() -> None:
    module, unmarked = marked(lambda x: x.expand(2, *x.shape), X, **{"aten.expand": "mine.expand"})
    assert not found(module) and [op.cause for op in unmarked] == ["its argument 'size' is neither a tensor nor a constant"]


def test_unknown_keys_are_refused() -> None:
    problems = table.find_problems({"atention": "a", "aten.no_such_op": "b", "gelu": ""}, "composites")
    assert [problem.place for problem in problems] == ["composites.atention", "composites.aten.no_such_op", "composites.gelu"]
    assert "attention" in problems[0].fix
