"""Encoding of a custom op's arguments as an XLA typed-FFI configuration: constants as attributes, tensors and dynamic sizes as operands.

    {op = "ns::name", overload = "", arguments = {x = {position = 0, operand = 0}, eps = {position = 1, value = 1.0e-5},
     parts = {position = 2, operands = [1, 2]}, bias = {position = 3, none = true}}}

Every argument of the schema is present. In `operands` of a list, -1 stands for an absent element. A ScalarType is the torch name of the
dtype. A list of strings is a dictionary by index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch_mlir import ir

from lowering.custom.naming import DIMS
from lowering.errors import Problem
from lowering.ir import builtin
from lowering.types import DTYPES

_CODES = {row.code: row.name for row in DTYPES.values()}

CONSTANTS = ("torch.constant.int", "torch.constant.float", "torch.constant.bool", "torch.constant.str", "torch.constant.device")
OPERANDS = ("!torch.vtensor", "!torch.int", "!torch.float", "!torch.bool")


@dataclass
class Call:
    """A `torch.operator` as a custom call: its operands, its configuration, and the arguments that cannot be encoded."""

    schema: Any
    operands: list[Any] = field(default_factory=list)
    arguments: dict[str, ir.Attribute] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    written: list[int] = field(default_factory=list)  # operands whose new values are the last results

    def attribute(self, target: str, operator: Any) -> ir.Attribute:
        """Return the attributes that the custom call needs in addition to its operands and result types."""
        name, overload = self.schema.name, self.schema.overload_name
        config = {"op": _make_string(name), "overload": _make_string(overload), "arguments": ir.DictAttr.get(self.arguments)}
        held = {
            "target": _make_string(target),
            "config": ir.DictAttr.get(config),
            "has_side_effect": ir.BoolAttr.get(has_side_effect(self.schema)),
            "written": _make_integers(self.written),
        }
        if DIMS in operator.attributes:
            held[DIMS] = operator.attributes[DIMS]
        return ir.DictAttr.get(held)


def has_side_effect(schema: Any) -> bool:
    """Return whether a call must stay even if its results are unused: it draws random numbers, or has no results and writes no argument.

    The new value of a written argument is a result of the call, so a write alone is not a side effect.
    """
    packet = getattr(getattr(torch.ops, schema.name.partition("::")[0]), schema.name.partition("::")[2])
    tags = getattr(packet, schema.overload_name or "default").tags
    is_silent = not schema.returns and not any(formal.is_write for formal in schema.arguments)
    return is_silent or torch.Tag.nondeterministic_seeded in tags


def encode(schema: Any, operator: Any) -> Call:
    """Encode a `torch.operator` of this schema, in its context. Each argument that cannot be encoded becomes a problem that names it."""
    call = Call(schema)
    for position, (formal, value) in enumerate(zip(schema.arguments, operator.operands, strict=True)):
        first = len(call.operands)
        try:
            entry = _encode_argument(call, _strip_casts(value), _strip_optional(formal.real_type))
        except Formless as error:
            cause = f"argument '{formal.name}' ({formal.real_type}) cannot be encoded as an attribute: {error}"
            call.problems.append(Problem("", cause, f"pass it as a tensor, number or string; schema: {schema}"))
            continue
        call.arguments[formal.name] = ir.DictAttr.get({"position": builtin.make_integer(position), **entry})
        if formal.is_write:
            call.written += range(first, len(call.operands))
    return call


class Formless(Exception):
    """A value is neither a constant of a known type nor a tensor or number. The message describes it."""


def _encode_argument(call: Call, value: Any, type_: Any) -> dict[str, ir.Attribute]:
    made = _find_maker(value)
    if made == "torch.constant.none":
        return {"none": ir.BoolAttr.get(True)}
    if made == "torch.prim.ListConstruct":
        return _encode_list(call, [_strip_casts(element) for element in value.owner.operands], type_.getElementType())
    if made in CONSTANTS:
        return {"value": _encode_constant(value.owner, type_)}
    if str(value.type).startswith(OPERANDS):
        return {"operand": builtin.make_integer(_add_operand(call, value))}
    raise Formless(f"a {value.type} made by {made}")


def _encode_list(call: Call, elements: Sequence[Any], type_: Any) -> dict[str, ir.Attribute]:
    made = [_find_maker(element) for element in elements]
    if type_.kind() in ("TensorType", "OptionalType") or any(name not in CONSTANTS for name in made):
        for element, name in zip(elements, made, strict=True):
            if name != "torch.constant.none" and not str(element.type).startswith(OPERANDS):
                raise Formless(f"a list with a {element.type}")
        return {"operands": _make_integers([-1 if name == "torch.constant.none" else _add_operand(call, element)
                                       for element, name in zip(elements, made, strict=True)])}
    values = [element.owner.attributes["value"].value for element in elements]
    match type_.kind():
        case "FloatType":
            return {"value": _make_dense([repr(float(value)) for value in values], "f64")}
        case "IntType" | "SymIntType" | "BoolType":
            return {"value": _make_integers([int(value) for value in values])}
        case "StringType":
            return {"value": ir.DictAttr.get({str(index): _make_string(value) for index, value in enumerate(values)})}
    raise Formless(f"a list of {type_}")


def _encode_constant(owner: Any, type_: Any) -> ir.Attribute:
    value = owner.attributes["value"].value
    if owner.name in ("torch.constant.str", "torch.constant.device"):
        return _make_string(value)
    if owner.name == "torch.constant.bool":
        return ir.BoolAttr.get(bool(value))
    if owner.name == "torch.constant.float" or type_.kind() == "FloatType":
        return ir.FloatAttr.get(ir.F64Type.get(), float(value))
    return _make_string(_CODES[value]) if type_.kind() == "ScalarTypeType" else builtin.make_integer(value)


def _add_operand(call: Call, value: Any) -> int:
    call.operands.append(value)
    return len(call.operands) - 1


def _strip_casts(value: Any) -> Any:
    """Strip casts to an optional type from a value."""
    while _find_maker(value) == "torch.derefine":
        value = value.owner.operands[0]
    return value


def _find_maker(value: Any) -> str:
    return "an argument" if isinstance(value.owner, ir.Block) else str(value.owner.name)


def _strip_optional(type_: Any) -> Any:
    while type_.kind() == "OptionalType":
        type_ = type_.getElementType()
    return type_


def _make_string(value: str) -> ir.Attribute:
    return ir.StringAttr.get(value)


def _make_integers(values: Sequence[int]) -> ir.Attribute:
    return _make_dense([str(value) for value in values], "i64")


def _make_dense(values: Sequence[str], element: str) -> ir.Attribute:
    # XLA's FFI and portable artifacts both take tensors of rank 1 here; neither takes an array attribute.
    return ir.Attribute.parse(f"dense<[{', '.join(values)}]> : tensor<{len(values)}x{element}>")
