"""Import a TorchScript graph as a module of the torch dialect.

Op names come from schemas. Only structural kinds have their own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch_mlir import ir

from lowering.custom.naming import DIMS
from lowering.errors import Problem, StageFailed
from lowering.ir import mlir, source_lines
from lowering.ir.annotations import VALUE
from lowering.torch_dialect.vocabulary import LITERALS, STRUCTURAL, TypeTable
from lowering.torchscript.nodes import inputs, outputs

Node: TypeAlias = torch._C.Node


_UNNAMED = ("prim::Constant", "prim::ListConstruct")  # operands, but not values of the exported program

# Ops of the dialect without a lowering -> an equivalent op that has one.
_ALIASES = {"aten.Int.float": "aten.Int.Scalar"}


def import_graph(graph: torch._C.Graph, context: ir.Context) -> ir.Module:
    """Return the graph as `func.func @main`. User lines and names of values become locations, and a result tuple several results."""
    with context, ir.Location.unknown(), mlir.collect_diagnostics(context, "torch"):
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
            **{kind: self._make_structural(name) for kind, name in STRUCTURAL.items()},
            "prim::Constant": self._import_constant,
            "prim::If": self._import_if,
            "prim::Loop": self._import_loop,
            "prim::DictConstruct": self._import_dict,
            "prim::ListUnpack": self._list_unpack,
        }

    def function(self, graph: torch._C.Graph, module: ir.Module) -> None:
        arguments = list(graph.inputs())
        results = _find_results(graph)
        input_types = [self._types.convert(value.type()) for value in arguments]
        output_types = [self._types.convert(value.type()) for value in results]
        attributes = {
            "sym_name": ir.StringAttr.get(mlir.ENTRY),
            "function_type": ir.TypeAttr.get(ir.FunctionType.get(input_types, output_types)),
            # dims of unknown size do not broadcast: torch.export proved or guarded it
            "torch.assume_strict_symbolic_shapes": ir.UnitAttr.get(),
        }
        function = ir.Operation.create("func.func", attributes=attributes, regions=1, ip=ir.InsertionPoint(module.body))
        block = function.regions[0].blocks.append(*input_types)
        for value, argument in zip(arguments, block.arguments, strict=True):
            self._values[value.unique()] = argument
        flattened = graph.return_node().inputsAt(0).node() if len(results) != 1 else None
        with ir.InsertionPoint(block):
            for node in graph.nodes():
                if flattened is None or node != flattened:
                    self.node(node)
            ir.Operation.create("func.return", operands=[self._values[value.unique()] for value in results])

    def node(self, node: Node) -> None:
        with self._make_location(node):
            self._rules.get(node.kind(), self._import_by_schema)(node)

    def _import_by_schema(self, node: Node) -> None:
        """Import `aten::add.Tensor` as `torch.aten.add.Tensor` if the dialect has it, else as `torch.operator`.

        Custom ops always become `torch.operator`.
        """
        name = node.schema().partition("(")[0].replace("::", ".")
        name = _ALIASES.get(name, name)
        if self._is_registered(f"torch.{name}") and not node.hasAttribute(DIMS):
            self._bind(node,
                       ir.Operation.create(f"torch.{name}", results=self._convert_result_types(node), operands=self._find_operands(node)))
        else:
            self._create_operator(node, name)

    def _create_operator(self, node: Node, name: str) -> None:
        """Create a `torch.operator "ns.op"`.

        Its results are those of the node, with lists as their elements, then the new values of the arguments that the op writes.
        """
        results = [element for value in outputs(node) for element in _unpack(value)]
        written = _find_written(node)
        attributes = {"name": ir.StringAttr.get(name)} | ({DIMS: ir.StringAttr.get(node.s(DIMS))} if node.hasAttribute(DIMS) else {})
        types_ = [self._types.convert(value.type()) for value in [*results, *written]]
        created = ir.Operation.create("torch.operator", results=types_, operands=self._find_operands(node), attributes=attributes)
        for value, result in zip([*results, *written], created.results, strict=True):
            self._values[value.unique()] = result

    def _list_unpack(self, node: Node) -> None:
        """Import an unpacked list. The list of a custom op is unpacked already."""
        if any(value.unique() not in self._values for value in outputs(node)):
            self._make_structural("torch.prim.ListUnpack")(node)

    def _make_structural(self, name: str) -> Callable[[Node], None]:
        def rule(node: Node) -> None:
            self._bind(node, ir.Operation.create(name, results=self._convert_result_types(node), operands=self._find_operands(node)))

        return rule

    def _import_if(self, node: Node) -> None:
        """Import an `if` as two regions, each of which yields its results with the node's types."""
        created = ir.Operation.create("torch.prim.If", results=self._convert_result_types(node), operands=self._find_operands(node),
                                      regions=2)
        for region, block in zip(created.regions, node.blocks(), strict=True):
            with ir.InsertionPoint(region.blocks.append()):
                self._import_nodes(block.nodes())
                self._yield("torch.prim.If.yield", [], block.outputs(), list(created.results))
        self._bind(node, created)

    def _import_loop(self, node: Node) -> None:
        """Import a loop as one region over the iteration number and the carried values.

        The carried values have the types of the node's results throughout.
        """
        count, first, *carried = inputs(node)
        types_ = self._convert_result_types(node)
        start = [self._convert(self._values[value.unique()], type_) for value, type_ in zip(carried, types_, strict=True)]
        operands = [self._values[count.unique()], self._values[first.unique()], *start]
        created = ir.Operation.create("torch.prim.Loop", results=types_, operands=operands, regions=1)
        block = next(node.blocks())
        inside = created.regions[0].blocks.append(self._types.parse("!torch.int"), *types_)
        iteration, *values = block.inputs()
        self._values[iteration.unique()] = inside.arguments[0]
        with ir.InsertionPoint(inside):
            for value, argument in zip(values, list(inside.arguments)[1:], strict=True):
                self._values[value.unique()] = self._convert(argument, self._types.convert(value.type()))
            self._import_nodes(block.nodes())
            again, *turned = block.outputs()
            self._yield("torch.prim.Loop.condition", [self._values[again.unique()]], turned, list(created.results))
        self._bind(node, created)

    def _import_nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.node(node)

    def _yield(self, name: str, leading: list[ir.Value], values: Iterable[torch._C.Value], results: list[ir.Value]) -> None:
        given = [self._convert(self._values[value.unique()], result.type) for value, result in zip(values, results, strict=True)]
        ir.Operation.create(name, operands=[*leading, *given])

    def _convert(self, value: ir.Value, type_: ir.Type) -> ir.Value:
        """Convert `value` to another type of the same kind.

        Static information is dropped, or an optional created, at the boundary of a block.
        """
        if value.type == type_:
            return value
        is_tensor = "tensor<" in str(value.type) and str(type_).startswith(("!torch.vtensor", "!torch.tensor"))
        name = "torch.tensor_static_info_cast" if is_tensor else "torch.derefine"
        return ir.Operation.create(name, results=[type_], operands=[value]).result

    def _import_dict(self, node: Node) -> None:
        """Import a dict. TorchScript interleaves keys and values; the dialect takes the keys first."""
        operands = self._find_operands(node)
        given = [*operands[::2], *operands[1::2]]
        attributes = {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(operands) // 2] * 2)}
        results = self._convert_result_types(node)
        self._bind(node, ir.Operation.create("torch.prim.DictConstruct", results=results, operands=given, attributes=attributes))

    def _import_constant(self, node: Node) -> None:
        value, type_ = node.output().toIValue(), node.output().type()
        self._bind_value(node.output(), self._create_literal(value, type_))

    def _create_literal(self, value: Any, type_: torch._C.Type) -> ir.Value:
        if isinstance(value, list | tuple):
            return self._create_literal_list(value, type_)
        for kind, name, attribute in LITERALS:
            if isinstance(value, kind):
                attributes = {"value": attribute(value)} if attribute else {}
                return ir.Operation.create(name, results=[self._types.convert(type_)], attributes=attributes).result
        raise KeyError(f"the torch dialect has no constant for {value!r} ({type_})")

    def _create_literal_list(self, values: Sequence[Any], type_: torch._C.Type) -> ir.Value:
        element = type_.getElementType()
        operands = [self._create_literal(value, element) for value in values]
        return ir.Operation.create("torch.prim.ListConstruct", results=[self._types.convert(type_)], operands=operands).result

    def _find_operands(self, node: Node) -> list[ir.Value]:
        return [self._values[value.unique()] for value in inputs(node)]

    def _convert_result_types(self, node: Node) -> list[ir.Type]:
        return [self._types.convert(value.type()) for value in outputs(node)]

    def _bind(self, node: Node, operation: ir.Operation) -> None:
        for value, result in zip(outputs(node), operation.results, strict=True):
            self._values[value.unique()] = result

    def _bind_value(self, value: torch._C.Value, result: ir.Value) -> None:
        self._values[value.unique()] = result

    def _is_registered(self, name: str) -> bool:
        if name not in self._names:
            self._names[name] = self._context.is_registered_operation(name)
        return self._names[name]

    def _make_location(self, node: Node) -> ir.Location:
        """Return a node's location, such as `"%mul"("encoder"("model.py":12:0))`.

        It consists of the TorchScript value, the module that ran the line, and the user line.
        """
        line = source_lines.find_script_line(node)
        here = ir.Location.unknown() if line is None else ir.Location.file(line.file, line.line, 0)
        if line is not None and line.module:
            here = ir.Location.name(line.module, here)
        value = None if node.kind() in _UNNAMED else next(iter(outputs(node)), None)
        return here if value is None else ir.Location.name(f"{VALUE}{value.debugName()}", here)


def _unpack(value: torch._C.Value) -> list[torch._C.Value]:
    """Return a result, or the elements of a list of tensors.

    The list must be unpacked, because nothing else tells how many elements it has.
    """
    if value.type().kind() != "ListType":
        return [value]
    unpacking = [use.user for use in value.uses() if use.user.kind() == "prim::ListUnpack"]
    if not unpacking:
        raise StageFailed(Problem(value.node().kind(), "returns a list of unknown length", "unpack the list where the op is called"))
    return outputs(unpacking[0])


def _find_written(node: Node) -> list[torch._C.Value]:
    """Return the arguments that a node writes.

    Each must be a copy that only this node writes. Otherwise other users would lose its former value.
    """
    written = []
    for formal, value in zip(torch._C.parse_schema(node.schema()).arguments, inputs(node), strict=True):
        if formal.is_write and value.type().kind() != "NoneType":
            written += inputs(value.node()) if value.node().kind() == "prim::ListConstruct" else [value]
    for value in written:
        if value.node().kind() != "aten::clone":
            raise StageFailed(Problem(node.kind(), f"writes %{value.debugName()}, which other nodes may use", "pass a clone to it"))
    return written


def _find_results(graph: torch._C.Graph) -> list[torch._C.Value]:
    """Return the function's results: the elements of the returned tuple, or the returned value."""
    returned = list(graph.outputs())
    if len(returned) == 1 and returned[0].node().kind() == "prim::TupleConstruct":
        return inputs(returned[0].node())
    return returned
