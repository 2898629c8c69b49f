"""Rewrite an exported program whose sizes data decide into one whose sizes follow from its arguments.

A dim that data decide is padded to its capacity. Its count is a 0-d tensor that the program computes. torch's own shapes tell which dims
these are, so that none is missed: a call that takes or gives such a dim is rewritten by a rule, or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from lowering.capacity import rules, sizes
from lowering.capacity.bounds import LARGEST, Bounds, is_counted, to_expression
from lowering.capacity.calls import Tracing, find_decided, list_results
from lowering.capacity.sizes import Sizes
from lowering.capacity.values import Counted, Dim, NoRule
from lowering.errors import Problem, Unsupported
from lowering.fx.results import Extra
from lowering.fx.rewriting import decompose
from lowering.ir import source_lines
from lowering.ops.tables import decompositions

_REFUSED = object()  # the value of a node after a refusal: what takes it is not refused again
_DROPPED = object()  # the value of a condition that always holds


def rewrite(program: ExportedProgram, declared: Mapping[str, int]) -> Extra | None:
    """Rewrite a functional program in place; None if data decide no size of it.

    declared: capacities by symbol (`u0`) or user line (`model.py:42`). Raises Unsupported with every call through which no count can be
    carried, and every size without a known bound.
    """
    if not any(_is_for_rules(node) for node in program.graph.nodes):
        return None
    decompose.decompose(program.graph_module, _choose)
    return _Rewriting(program, declared).run()


def _is_for_rules(node: Node) -> bool:
    return node.target in rules.ALWAYS or is_counted(node.meta.get("val")) or bool(node.meta.get("unbacked_bindings"))


def _choose(node: Node) -> Any:
    """Return the decomposition of an op without a rule that takes or gives a counted dim."""
    op: Any = node.target
    if not isinstance(op, torch._ops.OpOverload) or rules.find(op) is not None or node.meta.get("unbacked_bindings"):
        return None  # traced again, an op that decides a size would decide another symbol
    if not any(is_counted(each.meta.get("val")) for each in (node, *node.all_input_nodes)):
        return None
    is_composite = torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), "CompositeImplicitAutograd")
    return decompositions.core_table().get(op) or (op.decompose if is_composite else None)


class _Rewriting:
    def __init__(self, program: ExportedProgram, declared: Mapping[str, int]) -> None:
        self._program, self._declared = program, declared
        self._graph = program.graph_module.graph
        self._mode = next(node.meta["val"].fake_mode for node in self._graph.nodes
                          if isinstance(node.meta.get("val"), torch._subclasses.FakeTensor))
        self._bounds = Bounds(self._mode.shape_env)
        self._lengths = Sizes(self._graph)
        self._values: dict[Node, Any] = {}  # what replaces a node: a node, or a list of them
        self._counts: dict[sympy.Expr, Node] = {}
        self._checks: dict[str, Node] = {}
        self._equal: list[tuple[Node, sympy.Expr, str]] = []  # a count, the size that torch takes it to equal, and the line
        self._problems: list[Problem] = []
        self._node = next(iter(self._graph.nodes))  # the one being rewritten

    def run(self) -> Extra:
        replaced = []
        for node in list(self._graph.nodes):
            if node.op == "call_function" and self._is_touched(node):
                self._rewrite_or_explain(node)
                replaced.append(node)
        if self._problems:
            raise Unsupported(list(dict.fromkeys(self._problems)))
        extra = self._finish(self._graph.output_node())
        for node in reversed(replaced):  # torch would keep conditions and random ops that nothing uses
            self._graph.erase_node(node)
        self._graph.eliminate_dead_code()
        for symbol in [key for key in self._program.range_constraints if free_unbacked_symbols(key)]:
            del self._program.range_constraints[symbol]
        self._graph.lint()
        self._program.graph_module.recompile()
        return extra

    def _is_touched(self, node: Node) -> bool:
        return _is_for_rules(node) or any(each in self._values for each in node.all_input_nodes)

    def _rewrite_or_explain(self, node: Node) -> None:
        self._node = node
        if any(self._values.get(each) is _REFUSED for each in node.all_input_nodes):
            self._values[node] = _REFUSED
            return
        try:
            self._rewrite(node)
        except Exception as reason:  # noqa: BLE001 - a rule may meet a form of its op that torch refuses, in any way
            target: Any = node.target
            name = str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))
            said = str(reason) if isinstance(reason, NoRule) else f"its rule fails: {type(reason).__name__}: {reason}".splitlines()[0]
            self._problems.append(Problem(f"{name}{self._describe_line()}", said))
            self._values[node] = _REFUSED

    def _describe_line(self) -> str:
        line = source_lines.find_model_line(self._node)
        return f" at {line}" if line else ""

    def _rewrite(self, node: Node) -> None:
        if getattr(node.target, "__name__", "") == "getitem" and isinstance(self._values.get(node.args[0]), list):  # type: ignore[arg-type]
            self._keep(node, self._values[node.args[0]][node.args[1]], node.meta["val"])  # type: ignore[index]
            return
        drops = any(self._values.get(each) is _DROPPED for each in node.all_input_nodes)
        if node.target is torch.ops.aten.sym_storage_offset.default or (drops and not isinstance(node.meta.get("val"), torch.Tensor)):
            self._values[node] = _DROPPED  # only conditions on tensors' memory use it, which no later level knows
            return
        rule = rules.find(node.target)
        if rule is None:
            raise NoRule(rules.describe_missing(node.target))
        value = node.meta.get("val")
        is_asserted = isinstance(value, torch.SymBool) and all(user.target in rules.CHECKS for user in node.users)
        if is_asserted and self._bounds.proves(value.node.expr):
            self._values[node] = _DROPPED
            return
        decided = find_decided(node, self._counts)
        for size in decided.values():
            if _is_symbol(size) and size not in self._bounds.capacities:
                self._set_capacity(size, rule.bound(node, self._read_shape) if rule.bound else None)
        tracing = Tracing(node, lambda each: self._values.get(each, each), self._find_capacity, lambda size: self._count(size, decided))
        made = tracing.sort_out(list(self._insert(lambda *values: tracing.run(rule.rule, *values), tracing.inputs)))
        for text, condition in made.checks:
            self._checks.setdefault(text + self._describe_line(), condition)
        for place, size in decided.items():
            count = made.counts.get(place)
            if count is None and isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
                count = made.results[0]
            if count is not None:
                self._bind(size, count)
        if unsaid := [size for size in decided.values() if size not in self._counts and is_counted(size) and _is_symbol(size)]:
            raise NoRule(f"its rule does not define {unsaid[0]}")
        self._check_shapes(tracing, made.results)
        if isinstance(value, list | tuple):
            self._values[node] = made.results
        elif value is None:
            self._values[node] = None
        else:
            self._keep(node, made.results[0], value)

    def _keep(self, node: Node, made: Node, value: Any) -> None:
        if is_counted(value):
            self._values[node] = made
        else:
            node.replace_all_uses_with(made)

    def _read_shape(self, node: Node) -> list[sympy.Expr]:
        """Return the padded shape of an argument."""
        return [to_expression(size) for size in self._values.get(node, node).meta["val"].shape]

    def _check_shapes(self, tracing: Tracing, made: list[Node]) -> None:
        """Raise NoRule if a result does not have the padded sizes of its dims: then a rule does not fit this form of the op."""
        tensors = [node for node, value in zip(made, list_results(self._node), strict=True) if isinstance(value, torch.Tensor)]
        for number, (node, lengths) in enumerate(zip(tensors, tracing.lengths(), strict=True)):
            if len(tensors) > 1 and number not in tracing.used:
                continue
            wanted = [to_expression(length.meta["val"] if isinstance(length, Node) else length) for length in lengths]
            given = [to_expression(size) for size in node.meta["val"].shape]
            if len(given) != len(wanted) or not all(map(self._is_equal, given, wanted)):
                raise NoRule(f"its rule gives {given} where {wanted} is padded")

    def _is_equal(self, one: sympy.Expr, other: sympy.Expr) -> bool:
        """Return whether two sizes are equal over the ranges of the arguments' sizes."""
        return sympy.expand(one - other) == 0 or self._mode.shape_env._maybe_evaluate_static(sympy.Eq(one, other)) is sympy.true

    def _set_capacity(self, symbol: sympy.Symbol, derived: sympy.Expr | None) -> None:
        """Take the smallest known bound: what follows from the op, what torch knows (torch._check), or what the model's file declares."""
        known = self._program.range_constraints.get(symbol)
        stated = [number for name, number in self._declared.items() if name == str(symbol) or (":" in name and self._is_at(name))]
        fixed = min([*([int(known.upper)] if known is not None and known.upper <= LARGEST else []), *stated], default=None)
        if derived is not None:
            self._bounds.derived[symbol] = derived
            largest = self._bounds.largest(derived)
            fixed = None if fixed is None or (largest is not None and largest <= fixed) else fixed
        if fixed is not None:
            self._bounds.capacities[symbol] = sympy.Integer(fixed)
        elif derived is not None:
            self._bounds.capacities[symbol] = derived
        elif (asserted := self._find_asserted(symbol)) is not None:
            self._bounds.capacities[symbol] = asserted

    def _find_asserted(self, symbol: sympy.Symbol) -> sympy.Expr | None:
        """Return a size of the arguments that the model's code asserts to be no smaller than a symbol."""
        asserted = (to_expression(node.args[0].meta["val"]) for node in self._graph.nodes  # type: ignore[union-attr]
                    if node.target is torch.ops.aten._assert_scalar.default and isinstance(node.args[0], Node))
        for condition in asserted:
            less, more = (condition.gts, condition.lts)[::-1] if isinstance(condition, sympy.Le | sympy.Ge) else (None, None)
            if less == symbol and not is_counted(more):
                return more
            if less is not None and not is_counted(less - more + symbol) and (less - more).coeff(symbol) == 1:
                return sympy.expand(symbol - less + more)  # torch writes u0 - s0 <= 0 too
        return None

    def _is_at(self, place: str) -> bool:
        line = source_lines.find_model_line(self._node)
        return line is not None and f"/{line.file}:{line.line}".endswith(f"/{place}")

    def _find_capacity(self, size: sympy.Expr) -> Any:
        """Return the capacity of a size as an int or a node."""
        capacity = self._bounds.find(size)
        if capacity is not None:
            return self._lengths.node(sympy.expand(capacity))
        unknown = sorted(str(symbol) for symbol in free_unbacked_symbols(size) if symbol not in self._bounds.capacities)
        words = " and ".join(unknown) or str(size)
        raise NoRule(f"the size {size} has no known bound: bound {words} by torch._check in the model, or declare `capacities: "
                     f"{{{unknown[0] if unknown else 'u0'}: 100}}` in its file")

    def _count(self, size: sympy.Expr, decided: Mapping[Any, sympy.Expr]) -> Node | None:
        """Return a size as a 0-d tensor; None while the call that decides it is being rewritten."""
        if size in self._counts:
            return self._counts[size]
        symbols = sorted(size.free_symbols, key=str)
        missing = [symbol for symbol in symbols if free_unbacked_symbols(symbol) and symbol not in self._counts]
        if missing and all(symbol in decided.values() for symbol in missing):
            return None
        if missing:
            raise NoRule(f"the size {missing[0]} is not computed before it")
        known = [self._counts[symbol] if free_unbacked_symbols(symbol) else self._lengths.node(symbol) for symbol in symbols]
        (self._counts[size],) = self._insert(lambda *values: (sizes.count(size, dict(zip(symbols, values, strict=True))),), known)
        return self._counts[size]

    def _bind(self, size: sympy.Expr, count: Node) -> None:
        """Take a count as the value of a symbol, or check it against the size that torch takes it to be equal to."""
        if not _is_symbol(size) or size in self._counts:
            self._equal.append((count, size, self._describe_line()))
            return
        self._counts[size] = count
        capacity = self._bounds.capacities.get(size)
        if capacity is not None and capacity != self._bounds.derived.get(size):
            (check,) = self._insert(lambda value, most: (value <= most,), [count, self._lengths.node(sympy.expand(capacity))])
            self._checks.setdefault(f"{size} must be at most its capacity {capacity}{self._describe_line()}", check)

    def _insert(self, run: Callable[..., Any], inputs: list[Any]) -> Any:
        """Trace a function of nodes and ints, insert its calls before the current node, and return its results."""
        places = [position for position, value in enumerate(inputs) if isinstance(value, Node)]

        def of_nodes(*given: Any) -> Any:
            values = list(inputs)
            for position, value in zip(places, given, strict=True):
                values[position] = value
            return run(*values)

        taken = [inputs[position] for position in places]
        return decompose.insert(self._node, decompose.trace(of_nodes, taken, self._mode), taken)

    def _finish(self, output: Node) -> Extra:
        """Fill the padding of results with zeros, and add the counts and the conditions to them."""
        self._node = output
        for count, size, line in self._equal:
            wanted = self._count(size, {}) if is_counted(size) else self._lengths.node(size)
            (check,) = self._insert(lambda one, other: (one == other,), [count, wanted])
            self._checks.setdefault(f"{size} must be the size that data decide{line}", check)
        results: list[Any] = list(output.args[0])  # type: ignore[arg-type]
        specs = self._program.graph_signature.output_specs
        true_sizes: dict[int, tuple[sympy.Expr, ...]] = {}
        for number, node in enumerate(results):
            if not isinstance(node, Node) or node not in self._values:
                continue
            value, new = node.meta["val"], self._values[node]
            if isinstance(value, torch.Tensor):
                true_sizes[number] = tuple(map(to_expression, value.shape))
                new = self._zero_padding(new, true_sizes[number])
            results[number] = new
            specs[number].arg = TensorArgument(new.name)
        counted = dict.fromkeys(size for shape in true_sizes.values() for size in shape if is_counted(size))
        extra = [*(self._counts[size] for size in counted), *self._checks.values()]
        specs += [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in extra]
        output.args = ((*results, *extra),)
        output.meta["val"] = tuple(node.meta.get("val") if isinstance(node, Node) else node for node in output.args[0])  # type: ignore[union-attr]
        capacities = {size: capacity for size in counted if (capacity := self._bounds.find(size)) is not None}
        return Extra(true_sizes, capacities, tuple(self._checks))

    def _zero_padding(self, node: Node, shape: tuple[sympy.Expr, ...]) -> Node:
        places = [position for position, size in enumerate(shape) if is_counted(size)]

        def fill(data: torch.Tensor, *counts: torch.Tensor) -> tuple[torch.Tensor]:
            known = dict(zip(places, counts, strict=True))
            dims = tuple(Dim(size, data.shape[position], known.get(position)) for position, size in enumerate(shape))
            return (Counted(data, dims).fill(0),)

        (filled,) = self._insert(fill, [node, *(self._count(shape[position], {}) for position in places)])
        return filled  # type: ignore[no-any-return]


def _is_symbol(size: sympy.Expr) -> bool:
    return bool(size.is_Symbol and free_unbacked_symbols(size))
