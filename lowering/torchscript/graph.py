"""An FX graph as a TorchScript graph: node by node, every schema argument filled in, dims that are symbolic left `*`."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch.fx import GraphModule, Node

from lowering import types
from lowering.errors import Problem, Unsupported
from lowering.ir import source_lines
from lowering.ops.symbolic import kind_of
from lowering.torchscript import control, nodes, numbers, text
from lowering.torchscript.custom_ops import UNNAMED, Annotation

Value: TypeAlias = torch._C.Value

# Checks without a result. What those of tracing protect is in the signature's ranges and guards; linear algebra that fails gives NaN below.
CHECKS = {
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten._assert_async.msg,
    torch.ops.aten._assert_tensor_metadata.default,
    torch.ops.aten._linalg_check_errors.default,
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
}

_SCALARS = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool", int: "int", float: "float", bool: "bool"}
_MEMORY_FORMATS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2, torch.channels_last_3d: 3}


def refusals(module: GraphModule) -> list[Problem]:
    """Every node that has no TorchScript form, those in the bodies of higher-order ops included, each with its user line."""
    found = []
    for node in module.graph.nodes:
        held = getattr(module, str(node.target), None) if node.op == "get_attr" else None
        if isinstance(held, GraphModule):
            found += refusals(held)
        elif node.op == "get_attr":
            found.append(_problem(node, f"attribute '{node.target}'", "is a tensor that the export did not lift to an argument"))
        elif node.op == "call_function" and not _is_expressible(node.target):
            found.append(_problem(node, str(node.target), _cause(node.target)))
    return found


def _is_expressible(target: Any) -> bool:
    if isinstance(target, torch._ops.HigherOrderOperator):
        return target.name() in control.RULES
    return isinstance(target, torch._ops.OpOverload) or target is operator.getitem or target in numbers.RULES or kind_of(target) is not None


def _cause(target: Any) -> str:
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"this higher-order op has no TorchScript form; those that have: {', '.join(sorted(control.RULES))}"
    return "has no schema and no row in lowering/ops/symbolic.py"


def _problem(node: Node, what: str, cause: str) -> Problem:
    line = source_lines.of_fx(node)
    return Problem(f"{what} at {line}" if line else what, cause)


def script_type(value: Any) -> torch._C.Type:
    """The TorchScript type of an FX value (`meta["val"]`), with None for each dynamic dim."""
    if isinstance(value, torch.Tensor):
        sizes = [int(size) if isinstance(size, int) or size.node.expr.is_number else None for size in value.shape]
        return torch._C.TensorType.get().with_dtype(value.dtype).with_sizes(sizes)  # type: ignore[attr-defined]
    if isinstance(value, list | tuple):  # of an op that returns a list, torch keeps either
        return torch._C.ListType(script_type(value[0]) if value and not isinstance(value[0], torch.Tensor) else torch._C.TensorType.get())
    if value is None:
        return torch._C.NoneType.get()
    for kind, word in _SCALARS.items():
        if type(value) is kind:
            return _scalar_type(word)
    raise TypeError(f"a value of type {type(value).__name__} has no TorchScript type")


def _scalar_type(word: str) -> torch._C.Type:
    return {"int": torch._C.IntType, "float": torch._C.FloatType, "bool": torch._C.BoolType}[word].get()


class ScriptGraph:
    """Builds one `torch._C.Graph` from an FX graph whose placeholders hold weights and inputs alike; `annotation` is for its custom ops."""

    def __init__(self, module: GraphModule, annotation: Annotation = UNNAMED) -> None:
        self.graph = torch._C.Graph()
        self._annotation = annotation
        self._module = module
        self._values: dict[Node, Any] = {}
        self._constants: dict[tuple[type, Any], Value] = {}
        for node in module.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = self._argument(node)
        for result in self._body(module):
            self.graph.registerOutput(result)
        if len(list(self.graph.outputs())) != 1:
            self.graph.makeMultiOutputIntoTuple()
        text.name_values(self.graph)

    def _argument(self, node: Node) -> Any:
        value = node.meta["val"]
        if not isinstance(value, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool):
            return value  # a constant given to forward: the graph holds it where it is used
        argument = self.graph.addInput(node.name)
        argument.setType(script_type(value))
        return argument

    def _body(self, module: GraphModule) -> list[Value]:
        """The nodes of a graph whose placeholders have values already, at the place of insertion; its results, constants left out."""
        results: Sequence[Any] = ()
        for node in module.graph.nodes:
            if node.op == "get_attr":
                self._values[node] = getattr(module, str(node.target))
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                returned = node.args[0]
                results = returned if isinstance(returned, list | tuple) else (returned,)
        return [self._values[result] for result in results if isinstance(result, Node)]

    def region(self, module: GraphModule, operands: Sequence[Any]) -> list[Value]:
        """The body of a higher-order op at the place of insertion, its placeholders standing for `operands` (values or numbers)."""
        placeholders = (node for node in module.graph.nodes if node.op == "placeholder")
        for node, operand in zip(placeholders, operands, strict=True):
            self._values[node] = operand
        return self._body(module)

    @contextmanager
    def inside(self, block: torch._C.Block) -> Iterator[None]:
        """Insert into `block`; constants made there are not seen outside of it."""
        outer = dict(self._constants)
        with self.graph.insert_point_guard(block):  # type: ignore[arg-type]
            yield
        self._constants = outer

    def _call(self, node: Node) -> None:
        if node.target in CHECKS:
            return
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            self._values[node] = control.RULES[node.target.name()](self, node)
        elif node.target is operator.getitem:
            self._values[node] = self._values[node.args[0]][node.args[1]]  # type: ignore[index]
        elif node.target in numbers.RULES:
            self._values[node] = numbers.RULES[node.target](self, node)
        elif (kind := kind_of(node.target)) is not None:
            self._values[node] = self._insert(node, kind, [self.scalar(argument) for argument in node.args], [node.meta["val"]])[0]
        else:
            self._values[node] = self._schema_call(node, node.target)  # type: ignore[arg-type]

    def _schema_call(self, node: Node, op: torch._ops.OpOverload) -> Any:
        arguments = []
        for position, formal in enumerate(op._schema.arguments):
            given = node.args[position] if position < len(node.args) else node.kwargs.get(formal.name, formal.default_value)
            if isinstance(given, complex) and formal.type.kind() == "TensorType":
                arguments.append(self._complex(given, node))
            else:
                arguments.append(self.argument(given, formal.type))
        value = node.meta.get("val")
        single = len(op._schema.returns) == 1
        results = self.results_of(node, op, arguments, [value] if single else list(value or ()))
        return results[0] if single else results

    def _complex(self, given: complex, node: Node) -> Value:
        """A complex number as a 0-d tensor of the result's dtype: below this level there is no other."""
        dtype = node.meta["val"].dtype
        parts = [self._full(part, torch.float64 if dtype is torch.complex128 else torch.float32) for part in (given.real, given.imag)]
        made = self.graph.create("aten::complex", parts, 1)
        self.insert(node, made)
        made.output().setType(torch._C.TensorType.get().with_dtype(dtype).with_sizes([]))  # type: ignore[attr-defined]
        return made.output()

    def _full(self, given: float, dtype: torch.dtype) -> Value:
        """A number as a 0-d tensor."""
        settings = [self.constant(setting) for setting in (dtype, None, None, None)]
        made = self.graph.create("aten::full", [self.list_of([], torch._C.IntType.get()), self.constant(given), *settings], 1)
        self.graph.insertNode(made)
        made.output().setType(torch._C.TensorType.get().with_dtype(dtype).with_sizes([]))  # type: ignore[attr-defined]
        return made.output()

    def results_of(self, node: Node, op: torch._ops.OpOverload, arguments: list[Value], values: list[Any], written: Sequence[Any] = ()) -> list[Any]:
        """Insert a call of `op`; its results, lists as their elements. `written`: the new values of what it writes."""
        created = self.graph.create(op._schema.name, arguments, len(values))
        self._annotation.mark(created, op, [*values, *written])
        outputs = self._place(node, created, values)
        pairs = zip(outputs, values, strict=True)
        return [self._unpack(node, output, value) if isinstance(value, list | tuple) else output for output, value in pairs]

    def _unpack(self, node: Node, listed: Value, elements: Sequence[Any]) -> list[Value]:
        unpack = self.graph.create("prim::ListUnpack", [listed], len(elements))
        return self._place(node, unpack, elements)

    def _insert(self, node: Node, kind: str, arguments: list[Value], values: Sequence[Any]) -> list[Value]:
        return self._place(node, self.graph.create(kind, arguments, len(values)), values)

    def _place(self, node: Node, created: torch._C.Node, values: Sequence[Any]) -> list[Value]:
        self.insert(node, created)
        outputs = nodes.outputs(created)
        for output, value in zip(outputs, values, strict=True):
            output.setType(script_type(value))
        if len(outputs) == 1:
            outputs[0].setDebugName(node.name if created.kind() != "prim::ListUnpack" else f"{node.name}_0")
        return outputs

    def number(self, node: Node, kind: str, arguments: list[Value], like: Any) -> Value:
        """Insert an op on numbers; its result has the type of `like`."""
        created = self.graph.create(kind, arguments, 1)
        self.insert(node, created)
        created.output().setType(script_type(like))
        return created.output()

    def insert(self, node: Node, created: torch._C.Node) -> None:
        """Insert `created` with the user line of `node`."""
        line = source_lines.of_fx(node)
        if line is not None:
            created.copyMetadata(source_lines.script_prototype(line))
        self.graph.insertNode(created)

    def argument(self, given: Any, formal: torch._C.Type) -> Value:
        """The value passed for a schema argument of type `formal`."""
        if formal.kind() == "OptionalType":
            return self.constant(None) if given is None else self.argument(given, formal.getElementType())
        if formal.kind() == "ListType":
            elements = given if isinstance(given, list | tuple) else [given]
            return self._list(elements, formal.getElementType())
        if formal.kind() == "TensorType" and _is_truth(given):
            return self._values[given.args[0]]  # the tensor that it was taken from: a bool is no number in TorchScript
        if formal.kind() == "NumberType" and isinstance(given, bool):
            return self.constant(int(given))  # a bool is no number in TorchScript
        if formal.kind() == "FloatType" and isinstance(given, int) and not isinstance(given, bool):
            return self.constant(float(given))
        return self.scalar(given)

    def _list(self, elements: Iterable[Any], element_type: torch._C.Type) -> Value:
        return self.list_of([self.argument(element, element_type) for element in elements], element_type)

    def list_of(self, values: list[Value], element_type: torch._C.Type) -> Value:
        """A list of values."""
        created = self.graph.create("prim::ListConstruct", values, 1)
        self.graph.insertNode(created)
        created.output().setType(torch._C.ListType(element_type))
        return created.output()

    def scalar(self, given: Any) -> Any:
        """The value of a node, or the constant that a number is."""
        value = self._values[given] if isinstance(given, Node) else given
        return value if isinstance(value, torch._C.Value) else self.constant(value)

    def held(self, given: Any) -> Any:
        """What a node stands for: a value, a list of them, or a graph."""
        return self._values[given] if isinstance(given, Node) else given

    def size(self, size: int | torch.SymInt) -> Value:
        """A dim as a value: a constant, or read from the first tensor so far that has it; Unsupported when none has."""
        if isinstance(size, int):
            return self.constant(size)
        for node, value in list(self._values.items()):
            tensor = node.meta.get("val")
            if not isinstance(tensor, torch.Tensor) or not isinstance(value, torch._C.Value) or node.graph is not self._module.graph:
                continue
            for position, dim in enumerate(tensor.shape):
                if isinstance(dim, torch.SymInt) and dim.node.expr == size.node.expr:
                    read = self.graph.create("aten::size", [value, self.constant(position)], 1)
                    self.graph.insertNode(read)
                    read.output().setType(torch._C.IntType.get())
                    return read.output()
        raise Unsupported(Problem(f"size {size}", "the result of a scan or map has it, but no tensor before the loop does"))

    def constant(self, given: Any) -> Value:
        given = _as_constant(given)
        key = (type(given), repr(given))
        if key not in self._constants:
            self._constants[key] = self.graph.insertConstant(given)
        return self._constants[key]


def _is_truth(given: Any) -> bool:
    return isinstance(given, Node) and given.target in numbers.ITEMS and isinstance(given.meta["val"], torch.SymBool)


def _as_constant(given: Any) -> Any:
    """dtypes, layouts and memory formats are ints in TorchScript."""
    if isinstance(given, torch.dtype):
        return types.of(given).code
    if isinstance(given, torch.layout):
        return {torch.strided: 0}[given]
    return _MEMORY_FORMATS[given] if isinstance(given, torch.memory_format) else given
