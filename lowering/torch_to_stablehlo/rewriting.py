"""Replace the torch ops that have a rule by StableHLO, inside a module of the torch dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch_mlir import ir

from lowering.ir import mlir
from lowering.rules import Rules

Number = float
_CONSTANTS = ("torch.constant.int", "torch.constant.float", "torch.constant.bool")

_BACK = {"!torch.int": "torch_c.from_i64", "!torch.float": "torch_c.from_f64", "!torch.bool": "torch_c.from_i1"}


class NotConstant(Exception):  # has no message: the rule is skipped
    """A rule needs a constant, but the op takes a value that is only known at run time."""


@dataclass(frozen=True)
class Call:
    """A torch op with its operands in the form that rules need. New ops are inserted before it, at its location."""

    op: Any

    def tensor(self, position: int) -> ir.Value:
        """Return an operand as a builtin tensor."""
        value = self.op.operands[position]
        return self.make("torch_c.to_builtin_tensor", [value], to_builtin(value.type))

    def integer(self, position: int) -> ir.Value:
        """Return an operand that is a Python int as an i64."""
        return self.make("torch_c.to_i64", [self.op.operands[position]], "i64")

    def real(self, position: int) -> ir.Value:
        """Return an operand that is a Python number as an f64."""
        if str(self.op.operands[position].type) == "!torch.int":
            return self.make("arith.sitofp", [self.integer(position)], "f64")
        return self.make("torch_c.to_f64", [self.op.operands[position]], "f64")

    def is_none(self, position: int) -> bool:
        return str(self.op.operands[position].type) == "!torch.none"

    def constant(self, position: int) -> Any:
        """Return an operand as an int, float, bool, None, or list of these. Raises NotConstant if it is not a constant."""
        return _read_constant(self.op.operands[position])

    def optional_tensors(self, position: int) -> list[ir.Value | None]:
        """Return an operand that is a list of optional tensors as builtin tensors. Raises NotConstant if the list is not built by an op."""
        owner = getattr(self.op.operands[position].owner, "operation", None)
        if owner is None or owner.name != "torch.prim.ListConstruct":
            raise NotConstant
        return [self._optional_tensor(operand) for operand in owner.operands]

    def _optional_tensor(self, value: ir.Value) -> ir.Value | None:
        owner = getattr(value.owner, "operation", None)
        if owner is not None and owner.name == "torch.derefine":
            return self._optional_tensor(owner.operands[0])
        if owner is not None and owner.name == "torch.constant.none":
            return None
        if not str(value.type).startswith("!torch.vtensor<["):
            raise NotConstant
        return self.make("torch_c.to_builtin_tensor", [value], to_builtin(value.type))

    def result(self, position: int = 0) -> ir.Type:
        """Return the type of a result as a builtin tensor."""
        return to_builtin(self.op.results[position].type)

    def make(self, name: str, operands: Sequence[ir.Value], type_: ir.Type | str, regions: int = 0, **attributes: Any) -> ir.Value:
        """Create an op and return its first result. Attributes are MLIR text or attributes."""
        return self.make_all(name, operands, [type_], regions, **attributes)[0]

    def make_all(self, name: str, operands: Sequence[ir.Value], types: Sequence[ir.Type | str], regions: int = 0, **attributes: Any) -> Any:
        """Create an op and return its results."""
        parsed = {key: ir.Attribute.parse(value) if isinstance(value, str) else value for key, value in attributes.items()}
        results = [ir.Type.parse(type_) if isinstance(type_, str) else type_ for type_ in types]
        return ir.Operation.create(name, results=results, operands=list(operands), attributes=parsed, regions=regions).results

    def number(self, number: Number, element: str) -> ir.Value:
        """Create a number as a 0-d tensor of int or float elements."""
        type_ = f"tensor<{element}>"
        literal = str(number) if isinstance(number, int) else str(ir.FloatAttr.get(ir.Type.parse(element), number)).partition(" : ")[0]
        return self.make("stablehlo.constant", [], type_, value=f"dense<{literal}> : {type_}")

    def shape(self, value: ir.Value) -> ir.Value:
        """Create the dims of a builtin tensor as a 1-d tensor."""
        return self.make("shape.shape_of", [value], f"tensor<{ir.RankedTensorType(value.type).rank}xindex>")

    def index(self, number: int) -> ir.Value:
        """Create an index constant."""
        return self.make("arith.constant", [], "index", value=f"{number} : index")

    def dim(self, value: ir.Value, position: int) -> ir.Value:
        """Create the size of one dim of a builtin tensor, as an index."""
        return self.make("tensor.dim", [value, self.index(position)], "index")

    def dims(self, value: ir.Value) -> list[ir.Value]:
        """Create the size of every dim of a builtin tensor, as indices."""
        return [self.dim(value, position) for position in range(ir.RankedTensorType(value.type).rank)]

    def extents(self, sizes: Sequence[ir.Value]) -> ir.Value:
        """Create a 1-d tensor of sizes, which are indices."""
        return self.make("tensor.from_elements", sizes, f"tensor<{len(sizes)}xindex>")

    def convert(self, value: ir.Value, element: str) -> ir.Value:
        """Convert `value` to elements of another type."""
        type_ = ir.RankedTensorType(value.type)
        if str(type_.element_type) == element:
            return value
        return self.make("stablehlo.convert", [value], tensor_type(list(type_.shape), element))


Rule = Callable[[Call], "Sequence[ir.Value] | None"]

RULES: Rules[Rule] = Rules("lowering.torch_to_stablehlo")

# Decorates the rule of ops, by their names in the torch dialect without `torch.`. A rule returns the results, or None to keep the op.
rule = RULES.register


def lower(module: Any) -> None:
    """Replace every op of `@main` that has a rule, if the rule applies."""
    found = [op for op in mlir.walk_operations(module) if _name(op) in RULES]
    if not found:
        return
    for op in found:
        with module.context, ir.InsertionPoint(op), op.location:
            try:
                results = RULES[_name(op)](Call(op))
            except NotConstant:
                continue
            if results is None:
                continue
            for old, new in zip(op.results, results, strict=True):
                back = ir.Operation.create(_BACK.get(str(old.type), "torch_c.from_builtin_tensor"), results=[old.type], operands=[new])
                old.replace_all_uses_with(back.result)
        op.erase()


def _name(op: Any) -> str:
    if op.name == "torch.operator":
        return str(op.attributes["name"].value)
    return str(op.name).removeprefix("torch.")


def to_builtin(type_: ir.Type) -> ir.Type:
    """Return `!torch.vtensor<[?,4],si64>` as `tensor<?x4xi64>`."""
    shape, _, element = str(type_).removeprefix("!torch.vtensor<[").removesuffix(">").partition("],")
    sizes = "".join(f"{size}x" for size in shape.split(",") if size)
    return ir.Type.parse(f"tensor<{sizes}{'i' + element[2:] if element.startswith('si') else element}>")


def tensor_type(shape: Sequence[int], element: str) -> ir.Type:
    """Return a builtin tensor type. A dynamic dim is MLIR's own number for it."""
    return ir.RankedTensorType.get(list(shape), ir.Type.parse(element))


def _read_constant(value: ir.Value) -> Any:
    owner = getattr(value.owner, "operation", None)
    if owner is None:
        raise NotConstant
    if owner.name in _CONSTANTS:
        return owner.attributes["value"].value
    if owner.name == "torch.constant.none":
        return None
    if owner.name == "torch.prim.ListConstruct":
        return [_read_constant(operand) for operand in owner.operands]
    raise NotConstant
