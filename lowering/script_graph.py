"""An FX graph as a TorchScript graph: node by node, every schema argument filled in, dims that are symbolic left `*`."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from lowering import source_lines, types
from lowering.errors import Problem
from lowering.ops.symbolic import kind_of

Value = torch._C.Value

# Checks that tracing made and that have no result; what they protect is in the signature's ranges and guards.
CHECKS = {
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten._assert_async.msg,
    torch.ops.aten._assert_tensor_metadata.default,
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
}

_SCALARS = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool", int: "int", float: "float", bool: "bool"}
_MEMORY_FORMATS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2, torch.channels_last_3d: 3}


def refusals(module: GraphModule) -> list[Problem]:
    """Every node that has no TorchScript form, each with its user line."""
    found = []
    for node in module.graph.nodes:
        if node.op == "get_attr":
            found.append(_problem(node, f"attribute '{node.target}'", "a higher-order op's body has no TorchScript form here"))
        elif node.op == "call_function" and not _is_expressible(node.target):
            found.append(_problem(node, str(node.target), "has no schema and no row in lowering/ops/symbolic.py"))
    return found


def _is_expressible(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) or target is operator.getitem or kind_of(target) is not None


def _problem(node: Node, what: str, cause: str) -> Problem:
    line = source_lines.of_fx(node)
    return Problem(f"{what} at {line}" if line else what, cause)


def script_type(value: Any) -> torch._C.Type:
    """The TorchScript type of an FX value (`meta["val"]`), with None for each dynamic dim."""
    if isinstance(value, torch.Tensor):
        sizes = [size if isinstance(size, int) else None for size in value.shape]
        return torch._C.TensorType.get().with_dtype(value.dtype).with_sizes(sizes)  # type: ignore[attr-defined]
    if isinstance(value, list):
        return torch._C.ListType(script_type(value[0]) if value and not isinstance(value[0], torch.Tensor) else torch._C.TensorType.get())
    for kind, word in _SCALARS.items():
        if type(value) is kind:
            return _scalar_type(word)
    raise TypeError(f"a value of type {type(value).__name__} has no TorchScript type")


def _scalar_type(word: str) -> torch._C.Type:
    return {"int": torch._C.IntType, "float": torch._C.FloatType, "bool": torch._C.BoolType}[word].get()


class ScriptGraph:
    """Builds one `torch._C.Graph` from an FX graph whose placeholders hold weights and inputs alike."""

    def __init__(self, module: GraphModule) -> None:
        self.graph = torch._C.Graph()
        self._values: dict[Node, Any] = {}
        self._constants: dict[tuple[type, Any], Value] = {}
        for node in module.graph.nodes:
            getattr(self, f"_{node.op}")(node)

    def _placeholder(self, node: Node) -> None:
        value = node.meta["val"]
        if isinstance(value, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool):
            argument = self.graph.addInput(node.name)
            argument.setType(script_type(value))
            self._values[node] = argument
        else:
            self._values[node] = value  # a constant given to forward: the graph holds it where it is used

    def _output(self, node: Node) -> None:
        results = [result for result in node.args[0] if isinstance(result, Node)]  # type: ignore[union-attr]
        for result in results:
            self.graph.registerOutput(self._values[result])
        if len(results) != 1:
            self.graph.makeMultiOutputIntoTuple()

    def _call_function(self, node: Node) -> None:
        if node.target in CHECKS:
            return
        if node.target is operator.getitem:
            self._values[node] = self._values[node.args[0]][node.args[1]]  # type: ignore[index]
        elif (kind := kind_of(node.target)) is not None:
            self._values[node] = self._insert(node, kind, [self._scalar(argument) for argument in node.args], [node.meta["val"]])[0]
        else:
            self._values[node] = self._schema_call(node, node.target)  # type: ignore[arg-type]

    def _schema_call(self, node: Node, op: torch._ops.OpOverload) -> Any:
        arguments = []
        for position, formal in enumerate(op._schema.arguments):
            given = node.args[position] if position < len(node.args) else node.kwargs.get(formal.name, formal.default_value)
            arguments.append(self.argument(given, formal.type))
        value = node.meta.get("val")
        kinds = [str(result.type) for result in op._schema.returns]
        if len(kinds) == 1 and not kinds[0].startswith("List["):
            return self._insert(node, op._schema.name, arguments, [value])[0]
        results = self._insert(node, op._schema.name, arguments, [value] if len(kinds) == 1 else list(value or ()))
        return self._unpack(node, results[0], value) if len(kinds) == 1 else results

    def _unpack(self, node: Node, listed: Value, elements: Sequence[Any]) -> list[Value]:
        unpack = self.graph.create("prim::ListUnpack", [listed], len(elements))
        return self._place(node, unpack, elements)

    def _insert(self, node: Node, kind: str, arguments: list[Value], values: Sequence[Any]) -> list[Value]:
        return self._place(node, self.graph.create(kind, arguments, len(values)), values)

    def _place(self, node: Node, created: torch._C.Node, values: Sequence[Any]) -> list[Value]:
        line = source_lines.of_fx(node)
        if line is not None:
            created.copyMetadata(source_lines.script_prototype(line))
        self.graph.insertNode(created)
        outputs = list(created.outputs())
        for output, value in zip(outputs, values, strict=True):
            output.setType(script_type(value))
        if len(outputs) == 1:
            outputs[0].setDebugName(node.name if created.kind() != "prim::ListUnpack" else f"{node.name}_0")
        return outputs

    def argument(self, given: Any, formal: torch._C.Type) -> Value:
        """The value passed for a schema argument of type `formal`."""
        if formal.kind() == "OptionalType":
            return self._constant(None) if given is None else self.argument(given, formal.getElementType())
        if formal.kind() == "ListType":
            elements = given if isinstance(given, list | tuple) else [given]
            return self._list(elements, formal.getElementType())
        if formal.kind() == "FloatType" and isinstance(given, int) and not isinstance(given, bool):
            return self._constant(float(given))
        return self._scalar(given)

    def _list(self, elements: Iterable[Any], element_type: torch._C.Type) -> Value:
        created = self.graph.create("prim::ListConstruct", [self.argument(element, element_type) for element in elements], 1)
        self.graph.insertNode(created)
        created.output().setType(torch._C.ListType(element_type))
        return created.output()

    def _scalar(self, given: Any) -> Value:
        return self._values[given] if isinstance(given, Node) else self._constant(given)

    def _constant(self, given: Any) -> Value:
        given = _as_constant(given)
        key = (type(given), repr(given))
        if key not in self._constants:
            self._constants[key] = self.graph.insertConstant(given)
        return self._constants[key]


def _as_constant(given: Any) -> Any:
    """dtypes, layouts and memory formats are ints in TorchScript."""
    if isinstance(given, torch.dtype):
        return types.of(given).code
    if isinstance(given, torch.layout):
        return {torch.strided: 0}[given]
    return _MEMORY_FORMATS[given] if isinstance(given, torch.memory_format) else given
