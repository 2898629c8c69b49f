"""The fused ops that can be kept as composites: the ATen ops of each, and its hand-written forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from lowering.composites import patterns
from lowering.composites.matches import Match, Pattern, get_name, get_rank, is_tensor
from lowering.custom.naming import join_name, split_name
from lowering.errors import Problem, suggest


@dataclass(frozen=True)
class Form:
    """A fused op: `ops` are the ATen ops that are one, in all their overloads; `patterns` match hand-written forms."""

    ops: Sequence[str]
    patterns: Sequence[Pattern] = ()


def _list_quantized(verb: str) -> tuple[str, ...]:
    """List the ops of PT2E and torchao that quantize or dequantize."""
    return (*(f"quantized_decomposed::{verb}_per_{each}" for each in ("tensor", "channel", "token", "channel_group")),
            *(f"torchao::{verb}_affine{form}" for form in ("", "_float8", "_float8_non_decomposed")))  # fmt: skip


# In the order in which they are looked for: what is part of an earlier match is not looked at again.
FORMS: Mapping[str, Form] = {
    "attention": Form(("aten::scaled_dot_product_attention",), (patterns.attention,)),
    "layer_norm": Form(("aten::layer_norm",)),
    "rms_norm": Form(("aten::rms_norm",), (patterns.rms_norm,)),
    "group_norm": Form(("aten::group_norm",)),
    "instance_norm": Form(("aten::instance_norm",)),
    "batch_norm": Form(("aten::batch_norm",)),
    "rope": Form((), (patterns.rope,)),
    "gelu": Form(("aten::gelu",), (patterns.gelu,)),
    "silu": Form(("aten::silu",), (patterns.silu,)),
    "softmax": Form(("aten::softmax", "aten::_softmax")),
    "log_softmax": Form(("aten::log_softmax", "aten::_log_softmax")),
    "grouped_mm": Form(("aten::_grouped_mm", "transformers::grouped_mm_fallback")),
    "quantize": Form(_list_quantized("quantize")),
    "dequantize": Form(_list_quantized("dequantize")),
}  # fmt: skip

# Arguments of ATen ops that say how eager computes them, and nothing about the result at inference.
_SILENT = frozenset({"cudnn_enable", "cudnn_enabled", "momentum", "training"})


def find_problems(composites: Mapping[str, str], place: str) -> list[Problem]:
    """Report each key that is neither a form of the table nor an op, and each empty name."""
    found = []
    for key, name in composites.items():
        if key not in FORMS and not _is_op(key):
            found.append(Problem(f"{place}.{key}", "is no composite of the table and no op of PyTorch", suggest(key, FORMS) or
                                 f"one of {', '.join(FORMS)}, or an op such as aten.mish"))
        if not name:
            found.append(Problem(f"{place}.{key}", "has no name", f"write a name: {key}: pytorch.{key}"))
    return found


def _is_op(key: str) -> bool:
    if "." not in key:
        return False
    name, overload = split_name(key)
    try:
        torch._C._get_schema(name, overload) if overload else torch._C._jit_get_schemas_for_operator(name)[0]
    except (RuntimeError, IndexError):
        return False
    return True


def match(node: Node, key: str) -> Match | None:
    """Return the match of the composite `key` whose result is `node`, or None. Raises Formless for an op that cannot be one."""
    form = FORMS.get(key)
    if form is None:
        schema = getattr(node.target, "_schema", None)
        is_called = schema is not None and key in (join_name(schema.name), join_name(schema.name, schema.overload_name))
        return _match_op(node) if is_called else None
    if get_name(node) in form.ops:
        op = _match_op(node)
        return patterns.ungroup(op) if key == "attention" and not op.attributes["enable_gqa"] else op
    return next((found for pattern in form.patterns if (found := pattern(node)) is not None), None)


class Formless(Exception):
    """An op that was to be a composite has an argument or result that a composite cannot have. The message says which."""


def _match_op(node: Node) -> Match:
    """Return the match of one op: its tensors are operands, all else attributes. Raises Formless."""
    operands: dict[str, Node] = {}
    attributes: dict[str, Any] = {}
    schema = node.target._schema  # type: ignore[union-attr]
    if not isinstance(node.meta.get("val"), torch.Tensor):
        raise Formless("it has several results, or none that is a tensor")
    for position, formal in enumerate(schema.arguments):
        given = node.args[position] if position < len(node.args) else node.kwargs.get(formal.name, formal.default_value)
        if formal.name == "training" and given:
            raise Formless("it updates its statistics: the model is in training mode")
        if formal.name in _SILENT or given is None:
            continue
        if is_tensor(given):
            operands[formal.name] = given
        elif isinstance(given, bool | int | float | str):
            attributes[formal.name] = given
        elif isinstance(given, torch.dtype):
            attributes[formal.name] = str(given).removeprefix("torch.")
        elif isinstance(given, list | tuple) and all(isinstance(each, int) for each in given):
            attributes[formal.name] = list(given)
        else:
            raise Formless(f"its argument '{formal.name}' is neither a tensor nor a constant")
    first = next(iter(operands.values()), None)
    if isinstance(attributes.get("dim"), int) and first is not None:
        attributes["dim"] %= max(get_rank(first), 1)
    if not operands:
        raise Formless("it reads no tensor")
    return Match(node, operands, attributes)
