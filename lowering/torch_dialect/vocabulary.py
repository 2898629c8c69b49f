"""The torch dialect's words for TorchScript: types, constants, and the kinds of nodes that have no schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch_mlir import ir

from lowering import types
from lowering.ir import builtin

STRUCTURAL = {
    kind: f"torch.{kind.replace('::', '.')}" for kind in (
        "prim::ListConstruct", "prim::ListUnpack", "prim::TupleConstruct", "prim::TupleUnpack", "prim::DictConstruct",
        "prim::Uninitialized", "prim::unchecked_cast", "prim::TupleIndex",
    )
} | {"prim::Constant": "", "prim::If": "torch.prim.If", "prim::Loop": "torch.prim.Loop"}  # fmt: skip


class TypeTable:
    """TorchScript types -> MLIR types of one context, each parsed once."""

    def __init__(self) -> None:
        self._parsed: dict[str, ir.Type] = {}

    def convert(self, type_: torch._C.Type) -> ir.Type:
        """Return the MLIR type of a TorchScript type."""
        return self.parse(f"!torch.{self.word(type_)}")

    def parse(self, text: str) -> ir.Type:
        if text not in self._parsed:
            self._parsed[text] = ir.Type.parse(text)
        return self._parsed[text]

    def word(self, type_: torch._C.Type) -> str:
        """Return the type without its `!torch.`, as it is written inside lists and optionals."""
        kind = type_.kind()
        if kind == "TensorType":
            return _spell_tensor(type_)
        if kind in _PLAIN:
            return _PLAIN[kind]
        if kind == "OptionalType":
            return f"optional<{self.word(type_.getElementType())}>"
        if kind == "ListType":
            return f"list<{self.word(type_.getElementType())}>"
        if kind == "TupleType":
            return f"tuple<{', '.join(map(self.word, type_.elements()))}>"
        if kind == "DictType":
            return f"dict<{self.word(type_.getKeyType())}, {self.word(type_.getValueType())}>"
        raise KeyError(f"the torch dialect has no type for TorchScript's {kind} ({type_})")


_PLAIN = {
    "IntType": "int", "FloatType": "float", "BoolType": "bool", "StringType": "str", "NoneType": "none", "NumberType": "number",
    "DeviceObjType": "Device", "GeneratorType": "Generator", "AnyType": "any",
}  # fmt: skip


def _spell_tensor(type_: torch._C.Type) -> str:
    dtype = type_.dtype()  # type: ignore[attr-defined]
    sizes = type_.varyingSizes()  # type: ignore[attr-defined]
    if dtype is None and sizes is None:
        return "vtensor"
    shape = "*" if sizes is None else "[" + ",".join("?" if size is None else str(size) for size in sizes) + "]"
    return f"vtensor<{shape},{'unk' if dtype is None else types.find_row(dtype).torch_mlir}>"


LITERALS: Iterable[tuple[type, str, Callable[[Any], ir.Attribute] | None]] = (
    (bool, "torch.constant.bool", lambda value: ir.IntegerAttr.get(ir.IntegerType.get_signless(1), int(value))),
    (int, "torch.constant.int", builtin.make_integer),
    (float, "torch.constant.float", lambda value: ir.FloatAttr.get_f64(value)),
    (str, "torch.constant.str", lambda value: ir.StringAttr.get(value)),
    (torch.device, "torch.constant.device", lambda value: ir.StringAttr.get(str(value))),
    (type(None), "torch.constant.none", None),
)


def is_literal(value: Any) -> bool:
    """Return whether the dialect has a constant for a value, or for all elements of a list."""
    if isinstance(value, list | tuple):
        return all(map(is_literal, value))
    return any(isinstance(value, kind) for kind, _, _ in LITERALS)
