"""A TorchScript graph as a module of the torch dialect. Op names come from schemas; only structural kinds have rules of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch_mlir import ir

from lowering import source_lines, types
from lowering.signature import Signature

Node = torch._C.Node

ENTRY = "main"


class TypeTable:
    """TorchScript types -> MLIR types of one context, each parsed once."""

    def __init__(self) -> None:
        self._parsed: dict[str, ir.Type] = {}

    def of(self, type_: torch._C.Type) -> ir.Type:
        return self.parse(f"!torch.{self.word(type_)}")

    def parse(self, text: str) -> ir.Type:
        if text not in self._parsed:
            self._parsed[text] = ir.Type.parse(text)
        return self._parsed[text]

    def word(self, type_: torch._C.Type) -> str:
        """The type without its `!torch.`, as it stands inside lists and optionals."""
        kind = type_.kind()
        if kind == "TensorType":
            return _tensor_word(type_)
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
        raise KeyError(f"lowering.importer has no torch dialect type for TorchScript's {kind} ({type_})")


_PLAIN = {
    "IntType": "int", "FloatType": "float", "BoolType": "bool", "StringType": "str", "NoneType": "none", "NumberType": "number",
    "DeviceObjType": "Device", "GeneratorType": "Generator", "AnyType": "any",
}  # fmt: skip


def _tensor_word(type_: torch._C.Type) -> str:
    dtype = type_.dtype()  # type: ignore[attr-defined]
    sizes = type_.varyingSizes()  # type: ignore[attr-defined]
    if dtype is None and sizes is None:
        return "vtensor"
    shape = "*" if sizes is None else "[" + ",".join("?" if size is None else str(size) for size in sizes) + "]"
    return f"vtensor<{shape},{'unk' if dtype is None else types.of(dtype).torch_mlir}>"


def import_graph(graph: torch._C.Graph, signature: Signature | None, context: ir.Context) -> ir.Module:
    """The graph as `func.func @main`, user lines as locations; result tuples are flattened into several results."""
    with context, ir.Location.unknown():
        module = ir.Module.create()
        GraphImporter(context).function(graph, module)
        module.operation.verify()
        return module


class GraphImporter:
    """Imports one graph into one function, block by block."""

    def __init__(self, context: ir.Context) -> None:
        self._context = context
        self._types = TypeTable()
        self._values: dict[int, ir.Value] = {}
        self._names: dict[str, bool] = {}
        self._rules: dict[str, Callable[[Node], None]] = {
            "prim::Constant": self._constant,
            "prim::ListConstruct": self._structural("torch.prim.ListConstruct"),
            "prim::ListUnpack": self._structural("torch.prim.ListUnpack"),
            "prim::TupleConstruct": self._structural("torch.prim.TupleConstruct"),
            "prim::TupleUnpack": self._structural("torch.prim.TupleUnpack"),
        }

    def function(self, graph: torch._C.Graph, module: ir.Module) -> None:
        arguments = list(graph.inputs())
        results = _results(graph)
        inputs = [self._types.of(value.type()) for value in arguments]
        outputs = [self._types.of(value.type()) for value in results]
        attributes = {
            "sym_name": ir.StringAttr.get(ENTRY),
            "function_type": ir.TypeAttr.get(ir.FunctionType.get(inputs, outputs)),
            "torch.assume_strict_symbolic_shapes": ir.UnitAttr.get(),  # dims of unknown size do not broadcast: export proved or guarded it
        }
        function = ir.Operation.create("func.func", attributes=attributes, regions=1, ip=ir.InsertionPoint(module.body))
        block = function.regions[0].blocks.append(*inputs)
        for value, argument in zip(arguments, block.arguments, strict=True):
            self._values[value.unique()] = argument
        flattened = graph.return_node().inputsAt(0).node() if len(results) != 1 else None
        with ir.InsertionPoint(block):
            for node in graph.nodes():
                if flattened is None or node != flattened:
                    self.node(node)
            ir.Operation.create("func.return", operands=[self._values[value.unique()] for value in results])

    def node(self, node: Node) -> None:
        with self._location(node):
            self._rules.get(node.kind(), self._by_schema)(node)

    def _by_schema(self, node: Node) -> None:
        """`aten::add.Tensor` -> `torch.aten.add.Tensor` where the dialect has it, else `torch.operator "aten.add.Tensor"`."""
        name = node.schema().partition("(")[0].replace("::", ".")
        operands, results = self._operands(node), self._result_types(node)
        if self._registered(f"torch.{name}"):
            self._bind(node, ir.Operation.create(f"torch.{name}", results=results, operands=operands))
        else:
            attributes = {"name": ir.StringAttr.get(name)}
            self._bind(node, ir.Operation.create("torch.operator", results=results, operands=operands, attributes=attributes))

    def _structural(self, name: str) -> Callable[[Node], None]:
        def rule(node: Node) -> None:
            self._bind(node, ir.Operation.create(name, results=self._result_types(node), operands=self._operands(node)))

        return rule

    def _constant(self, node: Node) -> None:
        value, type_ = node.output().toIValue(), node.output().type()
        self._bind_value(node.output(), self._literal(value, type_))

    def _literal(self, value: Any, type_: torch._C.Type) -> ir.Value:
        if isinstance(value, list | tuple):
            return self._literal_list(value, type_)
        for kind, name, attribute in _LITERALS:
            if isinstance(value, kind):
                attributes = {"value": attribute(value)} if attribute else {}
                return ir.Operation.create(name, results=[self._types.of(type_)], attributes=attributes).result
        raise KeyError(f"lowering.importer has no torch dialect constant for {value!r} ({type_})")

    def _literal_list(self, values: Sequence[Any], type_: torch._C.Type) -> ir.Value:
        element = type_.getElementType()
        operands = [self._literal(value, element) for value in values]
        return ir.Operation.create("torch.prim.ListConstruct", results=[self._types.of(type_)], operands=operands).result

    def _operands(self, node: Node) -> list[ir.Value]:
        return [self._values[value.unique()] for value in node.inputs()]

    def _result_types(self, node: Node) -> list[ir.Type]:
        return [self._types.of(value.type()) for value in node.outputs()]

    def _bind(self, node: Node, operation: ir.Operation) -> None:
        for value, result in zip(node.outputs(), operation.results, strict=True):
            self._values[value.unique()] = result

    def _bind_value(self, value: torch._C.Value, result: ir.Value) -> None:
        self._values[value.unique()] = result

    def _registered(self, name: str) -> bool:
        if name not in self._names:
            self._names[name] = self._context.is_registered_operation(name)
        return self._names[name]

    def _location(self, node: Node) -> ir.Location:
        line = source_lines.of_script(node)
        if line is None:
            return ir.Location.unknown()
        here = ir.Location.file(line.file, line.line, 0)
        return ir.Location.name(line.module, here) if line.module else here


def _integer(value: int) -> ir.Attribute:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


_LITERALS: Iterable[tuple[type, str, Callable[[Any], ir.Attribute] | None]] = (
    (bool, "torch.constant.bool", lambda value: ir.IntegerAttr.get(ir.IntegerType.get_signless(1), int(value))),
    (int, "torch.constant.int", _integer),
    (float, "torch.constant.float", lambda value: ir.FloatAttr.get_f64(value)),
    (str, "torch.constant.str", lambda value: ir.StringAttr.get(value)),
    (torch.device, "torch.constant.device", lambda value: ir.StringAttr.get(str(value))),
    (type(None), "torch.constant.none", None),
)


def _results(graph: torch._C.Graph) -> list[torch._C.Value]:
    """The function's results: the elements of the returned tuple, or the one value returned."""
    returned = list(graph.outputs())
    if len(returned) == 1 and returned[0].node().kind() == "prim::TupleConstruct":
        return list(returned[0].node().inputs())
    return returned
