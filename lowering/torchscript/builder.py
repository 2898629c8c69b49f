"""Services that rules share to build a TorchScript graph.

They are: values of FX nodes, arguments by schema type, constants, regions, source lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import sympy
import torch
from torch.fx import GraphModule, Node

from lowering.errors import Problem, Unsupported
from lowering.ir import source_lines
from lowering.torchscript import nodes
from lowering.torchscript.annotation import Annotation
from lowering.torchscript.types import as_constant, script_type

Value: TypeAlias = torch._C.Value

ITEMS = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)  # ops that read the one element of a tensor


class Builder:
    """Builds one `torch._C.Graph` from an FX graph whose placeholders hold both weights and inputs.

    It knows no rule: `convert` returns the value (or list of values) of an FX call. annotation: for custom ops. fixed: expressions of
    sizes that have one value.
    """

    def __init__(self, module: GraphModule, annotation: Annotation, convert: Callable[[Builder, Node], Any],
                 fixed: Mapping[sympy.Expr, int]) -> None:
        self.graph = torch._C.Graph()
        self._annotation, self._convert, self._module, self._fixed = annotation, convert, module, fixed
        self._values: dict[Node, Any] = {}
        self._constants: dict[tuple[type, Any], Value] = {}

    def add_argument(self, node: Node) -> None:
        """Add a placeholder to the arguments of the graph."""
        value = node.meta["val"]
        if not isinstance(value, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool):
            self._values[node] = value  # a constant passed to forward: the graph holds it where it is used
            return
        self._values[node] = self.graph.addInput(node.name)
        self._values[node].setType(self.type(value))

    def type(self, value: Any) -> torch._C.Type:
        """Return the type of an FX value."""
        return script_type(value, self._fixed)

    def body(self, module: GraphModule) -> list[Value]:
        """Insert the nodes of a graph whose placeholders have values already, and return its results without constants."""
        results: Sequence[Any] = ()
        for node in module.graph.nodes:
            if node.op == "get_attr":
                self._values[node] = getattr(module, str(node.target))
            elif node.op == "call_function":
                self._values[node] = self._convert(self, node)
            elif node.op == "output":
                returned = node.args[0]
                results = returned if isinstance(returned, list | tuple) else (returned,)
        return [self._values[result] for result in results if isinstance(result, Node)]

    def region(self, module: GraphModule, operands: Sequence[Any]) -> list[Value]:
        """Insert the body of a higher-order op, with `operands` (values or numbers) for its placeholders, and return its results."""
        placeholders = (node for node in module.graph.nodes if node.op == "placeholder")
        for node, operand in zip(placeholders, operands, strict=True):
            self._values[node] = operand
        return self.body(module)

    @contextmanager
    def inside(self, block: torch._C.Block) -> Iterator[None]:
        """Insert into `block`. Constants that are created in it are not visible outside of it."""
        outer = dict(self._constants)
        with self.graph.insert_point_guard(block):  # type: ignore[arg-type]
            yield
        self._constants = outer

    def insert_call(self, node: Node, op: torch._ops.OpOverload, arguments: list[Value], values: list[Any],
                   written: Sequence[Any] = ()) -> list[Any]:
        """Insert a call of `op`, and return its results, with lists as their elements.

        written: the new values of the arguments that it writes.
        """
        created = self.graph.create(op._schema.name, arguments, len(values))
        self._annotation.mark(created, op, [*values, *written])
        outputs = self._place(node, created, values)
        pairs = zip(outputs, values, strict=True)
        return [self._unpack(node, output, value) if isinstance(value, list | tuple) else output for output, value in pairs]

    def _unpack(self, node: Node, listed: Value, elements: Sequence[Any]) -> list[Value]:
        unpack = self.graph.create("prim::ListUnpack", [listed], len(elements))
        return self._place(node, unpack, elements)

    def call(self, node: Node, kind: str, arguments: list[Value], values: Sequence[Any]) -> list[Value]:
        """Insert an op without a schema, with results typed as the FX `values`."""
        return self._place(node, self.graph.create(kind, arguments, len(values)), values)

    def _place(self, node: Node, created: torch._C.Node, values: Sequence[Any]) -> list[Value]:
        self.insert(node, created)
        outputs = nodes.outputs(created)
        for output, value in zip(outputs, values, strict=True):
            output.setType(self.type(value))
        if len(outputs) == 1:
            outputs[0].setDebugName(node.name if created.kind() != "prim::ListUnpack" else f"{node.name}_0")
        return outputs

    def number(self, node: Node, kind: str, arguments: list[Value], like: Any) -> Value:
        """Insert an op on numbers, whose result has the type of `like`."""
        created = self.graph.create(kind, arguments, 1)
        self.insert(node, created)
        created.output().setType(self.type(like))
        return created.output()

    def insert(self, node: Node, created: torch._C.Node) -> None:
        """Insert `created` with the user line of `node`."""
        line = source_lines.find_fx_line(node)
        if line is not None:
            created.copyMetadata(source_lines.build_script_prototype(line))
        self.graph.insertNode(created)

    def argument(self, given: Any, formal: torch._C.Type) -> Value:
        """Return the value to pass for a schema argument of type `formal`."""
        if formal.kind() == "OptionalType":
            return self.constant(None) if given is None else self.argument(given, formal.getElementType())
        if formal.kind() == "ListType":
            elements = given if isinstance(given, list | tuple) else [given]
            return self._list(elements, formal.getElementType())
        if formal.kind() == "TensorType" and _is_bool_item(given):
            return self._values[given.args[0]]  # the tensor that it was read from: a bool is not a number in TorchScript
        if formal.kind() == "NumberType" and isinstance(given, bool):
            return self.constant(int(given))  # a bool is not a number in TorchScript
        if formal.kind() == "FloatType" and isinstance(given, int) and not isinstance(given, bool):
            return self.constant(float(given))
        return self.scalar(given)

    def _list(self, elements: Iterable[Any], element_type: torch._C.Type) -> Value:
        return self.insert_list([self.argument(element, element_type) for element in elements], element_type)

    def insert_list(self, values: list[Value], element_type: torch._C.Type) -> Value:
        """Insert a list of values."""
        created = self.graph.create("prim::ListConstruct", values, 1)
        self.graph.insertNode(created)
        created.output().setType(torch._C.ListType(element_type))
        return created.output()

    def scalar(self, given: Any) -> Any:
        """Return the value of a node, or a number as a constant."""
        value = self._values[given] if isinstance(given, Node) else given
        return value if isinstance(value, torch._C.Value) else self.constant(value)

    def get_value(self, given: Any) -> Any:
        """Return the value of a node: a value, a list of values, or a graph."""
        return self._values[given] if isinstance(given, Node) else given

    def size(self, size: int | torch.SymInt) -> Value:
        """Return a dim as a value: a constant, or the size of the first tensor so far that has it.

        Raises Unsupported if no tensor has it.
        """
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
        raise Unsupported(Problem(f"size {size}", "the result of a scan or map has this size, but no tensor before the loop does"))

    def constant(self, given: Any) -> Value:
        """Return a constant, which is inserted on first use."""
        given = as_constant(given)
        key = (type(given), repr(given))
        if key not in self._constants:
            self._constants[key] = self.graph.insertConstant(given)
        return self._constants[key]


def _is_bool_item(given: Any) -> bool:
    return isinstance(given, Node) and given.target in ITEMS and isinstance(given.meta["val"], torch.SymBool)
