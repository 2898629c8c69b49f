"""Composites of MHLO as the custom calls that ByteIR has kernels for: `custom_call @byteir.NAME` with the attribute `byteir_attrs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lowering.ir import composites, mlir

OP = "mhlo.composite"


def convert(module: Any) -> None:
    """Replace each composite of an MHLO module by a call of its ByteIR op, in place. Composites without such an op become plain ops."""
    found = [op for op in mlir.walk_operations(module) if op.name == OP]
    if not found:
        return
    ir = mlir.get_ir(module.context)
    with module.context, ir.Location.unknown():
        for op in found:
            name = op.attributes["name"].value
            attributes = _FORMS[name](ir, op) if name in _FORMS else None
            if attributes is None:
                composites.expand(module, op)
            else:
                _call(ir, op, name, attributes)
    mlir.run(module, "builtin.module(symbol-dce,canonicalize,cse)", "ByteIR's custom calls")


def _call(ir: Any, op: Any, name: str, attributes: Mapping[str, Any]) -> None:
    held = {
        "call_target_name": ir.StringAttr.get(name), "has_side_effect": ir.BoolAttr.get(False), "backend_config": ir.StringAttr.get(""),
        "api_version": ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 1), "byteir_attrs": ir.DictAttr.get(dict(attributes)),
    }  # fmt: skip
    with ir.InsertionPoint(op), op.location:
        created = ir.Operation.create("mhlo.custom_call", results=[op.results[0].type], operands=list(op.operands), attributes=held)
    op.results[0].replace_all_uses_with(created.results[0])
    op.erase()


def _convert_layer_norm(ir: Any, op: Any) -> dict[str, Any] | None:
    """Return the attributes of a norm over the last dims; ByteIR's needs a weight and a bias."""
    if len(op.operands) != 3:
        return None
    given = op.attributes["composite_attributes"]
    rank = ir.RankedTensorType(op.results[0].type).rank
    axes = range(rank - len(list(given["normalized_shape"])), rank)
    return {"axis": ir.ArrayAttr.get([_make_integer(ir, axis) for axis in axes]), "epsilon": given["eps"]}


def _convert_softmax(_: Any, op: Any) -> dict[str, Any] | None:
    given = op.attributes["composite_attributes"]
    if "dtype" in given:
        return None  # ByteIR's computes in the type of its operand
    return {"axis": given["dim"]}


def _convert_gelu(ir: Any, op: Any) -> dict[str, Any]:
    given = op.attributes["composite_attributes"]
    return {"approximate": ir.StringAttr.get("tanh" if given["approximate"].value == "tanh" else "erf")}


def _make_integer(ir: Any, value: int) -> Any:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


_FORMS: Mapping[str, Callable[[Any, Any], dict[str, Any] | None]] = {
    "byteir.layer_norm": _convert_layer_norm, "byteir.softmax": _convert_softmax, "byteir.log_softmax": _convert_softmax,
    "byteir.gelu": _convert_gelu,
}  # fmt: skip
