"""A TorchScript graph run node by node in Python, on real tensors or on symbolic ones: so that torch.export can see a scripted module.

Lists, dicts, submodules and `if` on sizes vanish while it runs, loops unroll, in-place ops run as they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx.traceback import preserve_node_meta, set_stack_trace

from lowering import source_lines, types
from lowering.errors import Problem, ShapelineError, StageFailed, Unsupported
from lowering.ops import script_values

Node: TypeAlias = torch._C.Node
STRUCTURE = frozenset({"prim::Constant", "prim::GetAttr", "prim::SetAttr", "prim::If", "prim::Loop", "prim::TupleUnpack", "prim::ListUnpack"})
_LAYOUTS = {0: torch.strided}
_MEMORY_FORMATS = {0: torch.contiguous_format, 1: torch.preserve_format, 2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Path:
    """A submodule, by its path from the root; `` is the root."""

    name: str = ""

    def of(self, attribute: str) -> str:
        return f"{self.name}.{attribute}" if self.name else attribute


def refusals(graph: torch._C.Graph | torch._C.Block) -> list[Problem]:
    """Every node that this interpreter cannot run, nested blocks included, each with its line."""
    found = []
    for node in graph.nodes():
        kind = node.kind()
        if kind not in STRUCTURE and kind not in script_values.ALWAYS and kind not in script_values.WITHOUT_TENSORS and _operator(node) is None:
            found.append(Problem(place(node), "TorchScript construct that has no lowering", "rewrite this line in tensor operations"))
        for block in node.blocks():
            found += refusals(block)
    return found


def place(node: Node) -> str:
    line = source_lines.of_script(node)
    return f"{node.kind()} at {line}" if line else node.kind()


class Interpreter:
    """Runs a graph whose first input is the module itself. `read` and `write` reach the module's attributes by their full names.

    `after` is called behind every node: whoever watches a symbolic run learns which line did what.
    """

    def __init__(self, graph: torch._C.Graph, read: Callable[[str], Any], write: Callable[[str, Any], None], after: Callable[[Node], None]) -> None:
        self._graph, self._read, self._write, self._after = graph, read, write, after

    def run(self, arguments: list[Any]) -> Any:
        """The graph's result on arguments in its order."""
        values = {value.unique(): given for value, given in zip(self._graph.inputs(), [Path(), *arguments], strict=True)}
        with preserve_node_meta() if torch.compiler.is_exporting() else nullcontext():
            self._nodes(self._graph.nodes(), values)
        results = [values[output.unique()] for output in self._graph.outputs()]
        return results[0] if len(results) == 1 else tuple(results)

    def _nodes(self, nodes: Iterator[Node], values: dict[int, Any]) -> None:
        for node in nodes:
            line = source_lines.of_script(node)
            if line is not None:
                set_stack_trace([f'  File "{line.file}", line {line.line}, in forward\n    {line.code.strip()}\n'])
            results = self._guarded(node, values)
            for output, result in zip(node.outputs(), results, strict=True):
                values[output.unique()] = result
            self._after(node)

    def _guarded(self, node: Node, values: dict[int, Any]) -> tuple[Any, ...]:
        try:
            return self._node(node, values)
        except ShapelineError:
            raise
        except Exception as error:  # torch raises many kinds
            message = str(error).strip().partition("\n")[0]
            raise StageFailed(Problem(place(node), f"raised {type(error).__name__}: {message}"), str(error)) from error

    def _node(self, node: Node, values: dict[int, Any]) -> tuple[Any, ...]:
        kind, given = node.kind(), [values[value.unique()] for value in node.inputs()]
        if kind == "prim::Constant":
            return (_constant(node.output().toIValue()),)
        if kind == "prim::GetAttr":
            name = given[0].of(node.s("name"))
            return (Path(name) if node.output().type().kind() in ("ClassType", "InterfaceType") else self._read(name),)
        if kind == "prim::SetAttr":
            self._write(given[0].of(node.s("name")), given[1])
            return ()
        if kind == "prim::If":
            return self._if(node, given[0], values)
        if kind == "prim::Loop":
            return self._loop(node, given, values)
        if kind in ("prim::TupleUnpack", "prim::ListUnpack"):
            return tuple(given[0])
        result = self._call(node, given)
        count = node.outputsSize()
        return () if count == 0 else (result,) if count == 1 else tuple(result)

    def _call(self, node: Node, given: list[Any]) -> Any:
        function = script_values.function_of(node.kind(), given)
        if function is not None:
            return function(*given)
        op = _operator(node)
        if op is None:
            raise Unsupported(Problem(place(node), "TorchScript construct that has no lowering"))
        positional, named = [], {}
        for formal, value in zip(op._schema.arguments, given, strict=True):
            converted = _argument(formal, value)
            if formal.kwarg_only:
                named[formal.name] = converted
            else:
                positional.append(converted)
        return op(*positional, **named)

    def _if(self, node: Node, condition: Any, values: dict[int, Any]) -> tuple[Any, ...]:
        """The branch that the condition takes, which sizes may decide; on a tensor's values both are computed and one is chosen."""
        accepted, refused = node.blocks()
        if isinstance(condition, torch.Tensor):
            return self._both(node, condition, accepted, refused, values)
        return self._block(accepted if condition else refused, values)

    def _both(self, node: Node, condition: torch.Tensor, accepted: Any, refused: Any, values: dict[int, Any]) -> tuple[Any, ...]:
        if (effects := [inner for block in (accepted, refused) for inner in _effects(block)]):
            raise Unsupported([Problem(place(inner), "stands in a branch that a tensor's values decide, and does more than compute",
                                       "take it out of the branch") for inner in effects])
        chosen = []
        for one, other in zip(self._block(accepted, values), self._block(refused, values), strict=True):
            if one is other:
                chosen.append(one)
            elif isinstance(one, bool) and isinstance(other, bool):
                chosen.append(condition if one else torch.logical_not(condition))  # again a truth that a tensor holds
            elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.dim() == other.dim() and one.dtype == other.dtype:
                chosen.append(torch.where(condition, one, other))
            else:
                raise Unsupported(Problem(place(node), "a tensor's values decide which of two results is taken that differ in kind",
                                          "give both branches tensors of one dtype and rank"))
        return tuple(chosen)

    def _loop(self, node: Node, given: list[Any], values: dict[int, Any]) -> tuple[Any, ...]:
        """Turn by turn: the count and the condition must be known without looking at a tensor's values or at a dynamic dim."""
        count, again, *carried = given
        block = next(node.blocks())
        turn, *inside = block.inputs()
        if isinstance(count, torch.SymInt) and count.node.expr.free_symbols:
            raise Unsupported(Problem(place(node), f"the loop runs {count} times, and that is a dynamic dim",
                                      "make the dim static in the model's inputs, or write the loop as a tensor operation"))
        done = 0
        while done < int(count):
            if isinstance(again, torch.Tensor) or (isinstance(again, torch.SymBool) and again.node.expr.free_symbols):
                raise Unsupported(Problem(place(node), "whether the loop goes on depends on a tensor's values or on a dynamic dim",
                                          "give it a count that the static dims fix"))
            if not again:
                break
            values[turn.unique()] = done
            for value, one in zip(inside, carried, strict=True):
                values[value.unique()] = one
            again, *carried = self._block(block, values)
            done += 1
        return tuple(carried)

    def _block(self, block: torch._C.Block, values: dict[int, Any]) -> tuple[Any, ...]:
        self._nodes(block.nodes(), values)
        return tuple(values[output.unique()] for output in block.outputs())


def _constant(value: Any) -> Any:
    """Traced code holds numbers that sizes are computed with as tensors."""
    is_number = isinstance(value, torch.Tensor) and value.dim() == 0 and value.dtype == torch.int64
    return value.item() if is_number else value


def _effects(block: torch._C.Block) -> Iterator[Node]:
    """Nodes of a block that write to something."""
    for node in block.nodes():
        schema = None if node.schema() == "(no schema)" else torch._C.parse_schema(node.schema())
        writes = schema is not None and any(formal.alias_info is not None and formal.alias_info.is_write for formal in schema.arguments)
        if writes or node.kind() in ("prim::SetAttr", "prim::RaiseException"):
            yield node
        for inner in node.blocks():
            yield from _effects(inner)


def _operator(node: Node) -> torch._ops.OpOverload | None:
    """The op that a node's schema names, or None if torch.ops has none."""
    if node.schema() == "(no schema)":
        return None
    name, _, overload = node.schema().partition("(")[0].partition(".")
    namespace, _, word = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), word, None)
    return getattr(packet, overload or "default", None)


def _argument(formal: Any, value: Any) -> Any:
    """A value as Python passes it to an op: enumerations that TorchScript writes as ints, and numbers that traced code holds as tensors."""
    kind = str(formal.real_type).removeprefix("Optional[").removesuffix("]")
    if isinstance(value, int) and not isinstance(value, bool) and kind in _ENUMERATIONS:
        return _ENUMERATIONS[kind](value)
    if kind == "Tensor" and isinstance(value, int | float | bool | torch.SymInt | torch.SymFloat):
        return torch.ops.aten.scalar_tensor(value, dtype=torch.int64 if isinstance(value, int | torch.SymInt) else torch.float32)
    return value


_BY_CODE = {row.code: row for row in types.DTYPES.values()}
_ENUMERATIONS: dict[str, Callable[[int], Any]] = {
    "ScalarType": lambda code: _BY_CODE[code].torch, "Layout": _LAYOUTS.__getitem__, "MemoryFormat": _MEMORY_FORMATS.__getitem__,
}  # fmt: skip
