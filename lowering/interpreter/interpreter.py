"""Run a TorchScript graph node by node in Python, on real or symbolic tensors, so that torch.export can trace a scripted module.

Lists, dicts, submodules and `if` on sizes disappear during the run, loops are unrolled, and in-place ops run as written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.fx.traceback import preserve_node_meta, set_stack_trace

from lowering import types
from lowering.errors import Problem, ShapelineError, StageFailed, Unsupported
from lowering.interpreter import lists, windows
from lowering.interpreter.carried import classify
from lowering.interpreter.lists import Unreadable, is_data_dependent, is_dynamic
from lowering.interpreter.loops import Loop, Unsettled
from lowering.interpreter.values import ALWAYS, UNINITIALIZED, WITHOUT_TENSORS, find_function, make_tuple, to_tensor
from lowering.ir import source_lines
from lowering.ops import indexing
from lowering.torchscript.nodes import is_written, nodes, place

Node: TypeAlias = torch._C.Node
STRUCTURE = frozenset({
    "prim::Constant", "prim::GetAttr", "prim::SetAttr", "prim::If", "prim::Loop", "prim::TupleUnpack", "prim::ListUnpack",
})  # fmt: skip
_LAYOUTS = {0: torch.strided}
_MEMORY_FORMATS = {0: torch.contiguous_format, 1: torch.preserve_format, 2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Path:
    """The path of a submodule from the root, which is ``."""

    name: str = ""

    def join(self, attribute: str) -> str:
        return f"{self.name}.{attribute}" if self.name else attribute


def find_problems(graph: torch._C.Graph | torch._C.Block) -> list[Problem]:
    """Report every node that this interpreter cannot run, with its line. Nested blocks are included."""
    found = []
    for node in graph.nodes():
        kind = node.kind()
        if kind not in STRUCTURE and kind not in ALWAYS and kind not in WITHOUT_TENSORS and _find_operator(node) is None:
            found.append(Problem(place(node), "TorchScript construct that has no lowering", "rewrite this line in tensor operations"))
        for block in node.blocks():
            found += find_problems(block)
    return found


class Interpreter:
    """Runs a graph whose first input is the module itself.

    `read` and `write` access the module's attributes by their full names. `after` is called after every node, so that a caller can
    attribute the effects of a symbolic run to lines.
    """

    def __init__(self, graph: torch._C.Graph, read: Callable[[str], Any], write: Callable[[str, Any], None],
                 after: Callable[[Node], None]) -> None:
        self._graph, self._read, self._write, self._after = graph, read, write, after
        self._given: dict[str, Any] = {}  # attributes that a loop passes in
        self.iterations: dict[Any, tuple[Any, Any, Any]] = {}  # iterations of the loops that are not unrolled

    def run(self, arguments: list[Any]) -> Any:
        """Return the graph's results on `arguments`, which are in the graph's order."""
        values = {value.unique(): given for value, given in zip(self._graph.inputs(), [Path(), *arguments], strict=True)}
        with preserve_node_meta() if torch.compiler.is_exporting() else nullcontext():
            self._run_nodes(self._graph.nodes(), values)
        results = [values[output.unique()] for output in self._graph.outputs()]
        return results[0] if len(results) == 1 else tuple(results)

    def _run_nodes(self, nodes: Iterator[Node], values: dict[int, Any]) -> None:
        for node in nodes:
            line = source_lines.find_script_line(node)
            if line is not None:
                set_stack_trace([f'  File "{line.file}", line {line.line}, in forward\n    {line.code.strip()}\n'])
            results = self._run_node(node, values)
            for output, result in zip(node.outputs(), results, strict=True):
                values[output.unique()] = result
            self._after(node)

    def _run_node(self, node: Node, values: dict[int, Any]) -> tuple[Any, ...]:
        try:
            return self._dispatch(node, values)
        except ShapelineError:
            raise
        except Unreadable as error:
            fix = "see docs/torchscript.md for the list operations that such a loop supports"
            raise Unsupported(Problem(place(node), str(error), fix)) from error
        except Exception as error:  # torch raises many kinds
            message = str(error).strip().partition("\n")[0]
            raise StageFailed(Problem(place(node), f"raised {type(error).__name__}: {message}"), str(error)) from error

    def _dispatch(self, node: Node, values: dict[int, Any]) -> tuple[Any, ...]:
        kind, given = node.kind(), [values[value.unique()] for value in node.inputs()]
        if kind == "prim::Constant":
            return (_convert_constant(node.output().toIValue()),)
        if kind == "prim::GetAttr":
            name = given[0].join(node.s("name"))
            return (Path(name) if _is_module(node.output()) else self._given[name] if name in self._given else self._read(name),)
        if kind == "prim::SetAttr":
            self.assign(given[0].join(node.s("name")), given[1])
            return ()
        if kind == "prim::If":
            return self._run_if(node, given[0], values)
        if kind == "prim::Loop":
            return self._run_loop(node, given, values)
        if kind in ("prim::TupleUnpack", "prim::ListUnpack"):
            return tuple(given[0])
        if kind == "prim::TupleConstruct":
            return (make_tuple(str(node.output().type().str()), given),)
        result = self._call(node, given)
        count = node.outputsSize()
        return () if count == 0 else (result,) if count == 1 else tuple(result)

    def _call(self, node: Node, given: list[Any]) -> Any:
        if node.kind() == "aten::select" and is_data_dependent(given[2]) and not is_written(node.output()):
            return indexing.select(*given)
        if node.kind() == "aten::slice" and (window := windows.take_window(given, self.iterations)) is not None:
            return window
        function = lists.find_function(node.kind(), given) or find_function(node.kind(), given)
        if function is not None:
            return function(*given)
        op = _find_operator(node)
        if op is None:
            raise Unsupported(Problem(place(node), "TorchScript construct that has no lowering"))
        positional, named = [], {}
        for formal, value in zip(op._schema.arguments, given, strict=True):
            converted = _convert_argument(formal, value)
            if formal.kwarg_only:
                named[formal.name] = converted
            else:
                positional.append(converted)
        takes_overload = not any(isinstance(value, torch.Tensor) and str(formal.type) in _NUMBERS
                                 for formal, value in zip(op._schema.arguments, given, strict=True))
        return (op if takes_overload else op.overloadpacket)(*positional, **named)  # a loop carries numbers as tensors

    def _run_if(self, node: Node, condition: Any, values: dict[int, Any]) -> tuple[Any, ...]:
        """Run the branch that the condition selects. If it depends on a tensor's values, run both and select a result."""
        accepted, refused = node.blocks()
        if isinstance(condition, torch.Tensor) or is_data_dependent(condition):
            return self._run_both(node, condition, accepted, refused, values)
        return self.block(accepted if condition else refused, values)

    def _run_both(self, node: Node, condition: torch.Tensor | torch.SymBool, accepted: Any, refused: Any,
              values: dict[int, Any]) -> tuple[Any, ...]:
        if (effects := [inner for block in (accepted, refused) for inner in _find_effects(block)]):
            raise Unsupported([Problem(place(inner), "has a side effect in a branch that depends on a tensor's values",
                                       "move it out of the branch") for inner in effects])
        pairs = zip(self.block(accepted, values), self.block(refused, values), strict=True)
        return tuple(self._choose(node, condition, one, other) for one, other in pairs)

    def _choose(self, node: Node, condition: torch.Tensor | torch.SymBool, one: Any, other: Any) -> Any:
        if one is other or other is UNINITIALIZED:
            return one
        if one is UNINITIALIZED:
            return other
        if isinstance(condition, torch.SymBool) and classify(one) == classify(other) == (int,):
            return torch.sym_ite(condition, one, other)
        if isinstance(one, bool) and isinstance(other, bool):
            if one == other:
                return one
            return to_tensor(condition) if one else torch.logical_not(to_tensor(condition))  # again a bool tensor
        first, second = to_tensor(one), to_tensor(other)
        are_tensors = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
        if are_tensors and first.dim() == second.dim() and first.dtype == second.dtype:
            return torch.where(to_tensor(condition), first, second)
        raise Unsupported(Problem(place(node), "a tensor's values select one of two results that differ in kind",
                                  "return tensors of one dtype and rank from both branches"))

    def _run_loop(self, node: Node, given: list[Any], values: dict[int, Any]) -> tuple[Any, ...]:
        """Unroll a loop while its count and condition are known without tensor values or dynamic dims, then run a `Loop`."""
        count, again, *carried = given
        block = next(node.blocks())
        iteration, *inside = block.inputs()
        done = 0

        def start_iteration() -> None:
            nonlocal again, carried, done
            values[iteration.unique()] = done
            for value, one in zip(inside, carried, strict=True):
                values[value.unique()] = one
            again, *carried = self.block(block, values)
            done += 1

        while not is_dynamic(count) and done < int(count) and not isinstance(again, torch.Tensor) and not is_dynamic(again):
            if not again:
                return tuple(carried)
            start_iteration()
        if not is_dynamic(count) and done == int(count):
            return tuple(carried)
        try:
            return Loop(self, node, values, done, count, again, carried).run()
        except Unsettled:
            if isinstance(again, torch.Tensor) or not statically_known_true(again) or not statically_known_true(count > done):
                raise
        start_iteration()  # the first iteration may give the carried values their final types
        return Loop(self, node, values, done, count, again, carried).run()

    def block(self, block: torch._C.Block, values: dict[int, Any]) -> tuple[Any, ...]:
        """Run a block whose inputs and captured values are among `values`, and return its results."""
        self._run_nodes(block.nodes(), values)
        return tuple(values[output.unique()] for output in block.outputs())

    def attributes(self, block: torch._C.Block, values: dict[int, Any]) -> dict[str, Any]:
        """Return the module's attributes that a block reads or assigns, by their full names."""
        found, paths = {}, dict(values)
        for node in nodes(block):
            if node.kind() not in ("prim::GetAttr", "prim::SetAttr"):
                continue
            name = paths[node.inputsAt(0).unique()].join(node.s("name"))
            if node.kind() == "prim::GetAttr" and _is_module(node.output()):
                paths[node.output().unique()] = Path(name)
            else:
                found[name] = self._given[name] if name in self._given else self._read(name)
        return found

    def assign(self, name: str, value: Any) -> None:
        """Assign an attribute of the module or, inside a loop, of the attributes that were passed to it."""
        if name in self._given:
            self._given[name] = value
        else:
            self._write(name, value)

    @contextmanager
    def reading(self, attributes: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Use these values for attributes inside the block, and assign to them."""
        outer, self._given = self._given, self._given | attributes
        try:
            yield self._given
        finally:
            self._given = outer


def _is_module(value: torch._C.Value) -> bool:
    return value.type().kind() in ("ClassType", "InterfaceType")


def _convert_constant(value: Any) -> Any:
    """Return a constant. Traced code keeps numbers that sizes are computed with as tensors."""
    is_number = isinstance(value, torch.Tensor) and value.dim() == 0 and value.dtype == torch.int64
    return value.item() if is_number else value


def _find_effects(block: torch._C.Block) -> Iterator[Node]:
    """Yield the nodes of a block that have a side effect."""
    for node in block.nodes():
        schema = None if node.schema() == "(no schema)" else torch._C.parse_schema(node.schema())
        writes = schema is not None and any(formal.is_write for formal in schema.arguments)
        if writes or node.kind() in ("prim::SetAttr", "prim::RaiseException"):
            yield node
        for inner in node.blocks():
            yield from _find_effects(inner)


def _find_operator(node: Node) -> torch._ops.OpOverload | None:
    """Return the op that a node's schema names, or None if torch.ops does not have it."""
    if node.schema() == "(no schema)":
        return None
    name, _, overload = node.schema().partition("(")[0].partition(".")
    namespace, _, word = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), word, None)
    return getattr(packet, overload or "default", None)


def _convert_argument(formal: Any, value: Any) -> Any:
    """Return a value as Python passes it to an op.

    TorchScript writes enumerations as ints, and traced code keeps numbers as tensors.
    """
    kind = str(formal.real_type).removeprefix("Optional[").removesuffix("]")
    if isinstance(value, int) and not isinstance(value, bool) and kind in _ENUMERATIONS:
        return _ENUMERATIONS[kind](value)
    if kind == "Tensor" and isinstance(value, int | float | bool | torch.SymInt | torch.SymFloat):
        return torch.ops.aten.scalar_tensor(value, dtype=torch.int64 if isinstance(value, int | torch.SymInt) else torch.float32)
    return value


_NUMBERS = ("number", "Scalar", "float", "bool")
_BY_CODE = {row.code: row for row in types.DTYPES.values()}
_ENUMERATIONS: dict[str, Callable[[int], Any]] = {
    "ScalarType": lambda code: _BY_CODE[code].torch, "Layout": _LAYOUTS.__getitem__, "MemoryFormat": _MEMORY_FORMATS.__getitem__,
}  # fmt: skip
