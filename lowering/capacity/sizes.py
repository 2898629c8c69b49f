"""Sizes of arguments as nodes of a graph, and counts as tensors."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import sympy
import torch
from torch.fx import Graph, Node
from torch.utils._sympy.functions import CleanDiv, FloorDiv, Max, Min, Mod, PowByNatural, PythonMod

from lowering.capacity.bounds import is_counted, to_expression


class Sizes:
    """The sizes of a graph's arguments: each expression of them is computed once, before the first call."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._first = next(node for node in graph.nodes if node.op != "placeholder")
        self._known: dict[sympy.Expr, Any] = {}
        self._find_symbols()

    def node(self, expression: sympy.Expr) -> Any:
        """Return an expression of sizes as an int or a node. Raises KeyError if a symbol of it is the size of no argument."""
        if expression.is_Integer:
            return int(expression)
        if expression not in self._known:
            self._known[expression] = evaluate(expression, self.node, self._call)
        return self._known[expression]

    def _call(self, function: Callable[..., Any], *values: Any) -> Any:
        if not any(isinstance(value, Node) for value in values):
            return function(*values)
        with self._graph.inserting_before(self._first):
            node = self._graph.call_function(function, values)
        node.meta["val"] = function(*(value.meta["val"] if isinstance(value, Node) else value for value in values))
        return node

    def _find_symbols(self) -> None:
        """Read each symbol from a dim that is the symbol, or a multiple of it, or from an argument that is an int."""
        for node in self._graph.nodes:
            if node.op != "placeholder":
                return
            value = node.meta.get("val")
            if isinstance(value, torch.SymInt) and value.node.expr.is_Symbol:
                self._known.setdefault(value.node.expr, node)
            for position, size in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
                expression = to_expression(size)
                factor, symbol = expression.as_coeff_Mul()
                if not symbol.is_Symbol or symbol in self._known or is_counted(symbol):
                    continue
                read = self._call(torch.ops.aten.sym_size.int, node, position)
                self._known[symbol] = read if factor == 1 else self._call(operator.floordiv, read, int(factor))


def evaluate(expression: sympy.Expr, find: Callable[[sympy.Expr], Any], call: Callable[..., Any]) -> Any:
    """Compute an expression from the values of its parts by functions of Python and torch. Raises KeyError for a form without one."""
    if expression.is_Integer:
        return int(expression)
    parts = [find(part) for part in expression.args]
    match expression:
        case sympy.Add():
            return functools.reduce(functools.partial(call, operator.add), parts)
        case sympy.Mul():
            return functools.reduce(functools.partial(call, operator.mul), parts)
        case FloorDiv() | CleanDiv():
            return call(operator.floordiv, *parts)
        case Mod() | PythonMod():
            return call(operator.mod, *parts)
        case Max() | sympy.Max():
            return functools.reduce(functools.partial(call, torch.sym_max), parts)
        case Min() | sympy.Min():
            return functools.reduce(functools.partial(call, torch.sym_min), parts)
        case sympy.Pow() | PowByNatural() if isinstance(parts[1], int) and parts[1] > 0:
            return functools.reduce(functools.partial(call, operator.mul), [parts[0]] * parts[1])
    raise KeyError(str(expression))


def count(expression: sympy.Expr, known: Mapping[sympy.Expr, Any]) -> torch.Tensor:
    """Compute an expression from counts, which are 0-d tensors, and sizes of arguments."""

    def find(part: sympy.Expr) -> Any:
        return known[part] if part in known else evaluate(part, find, compute)

    return find(expression)  # type: ignore[no-any-return]


def compute(function: Callable[..., Any], *values: Any) -> Any:
    """Apply a function of Python numbers, some of which are 0-d tensors."""
    if function not in _OF_TENSORS or not any(isinstance(value, torch.Tensor) for value in values):
        return function(*values)
    return _OF_TENSORS[function](*map(as_tensor, values))


def as_tensor(value: Any) -> torch.Tensor:
    """Return a number as a 0-d tensor of int64, float64 or bool."""
    if isinstance(value, torch.Tensor):
        return value
    kinds = {(bool, torch.SymBool): torch.bool, (float, torch.SymFloat): torch.float64}
    dtype = next((dtype for kind, dtype in kinds.items() if isinstance(value, kind)), torch.int64)
    return torch.scalar_tensor(value, dtype=dtype)


_OF_TENSORS: dict[Any, Callable[..., torch.Tensor]] = {
    operator.add: torch.add, operator.sub: torch.sub, operator.mul: torch.mul,
    operator.truediv: lambda one, other: one.to(torch.float64) / other.to(torch.float64),
    operator.floordiv: lambda one, other: torch.div(one, other, rounding_mode="floor"),
    operator.mod: torch.remainder, operator.neg: torch.neg, operator.abs: torch.abs,
    operator.eq: torch.eq, operator.ne: torch.ne, operator.lt: torch.lt, operator.le: torch.le, operator.gt: torch.gt,
    operator.ge: torch.ge,
    operator.and_: torch.logical_and, operator.or_: torch.logical_or, operator.not_: torch.logical_not, torch.sym_not: torch.logical_not,
    torch.sym_max: torch.maximum, torch.sym_min: torch.minimum,
    torch.sym_float: lambda one: one.to(torch.float64), torch.sym_int: lambda one: one.trunc().to(torch.int64),
    torch.sym_ite: torch.where, torch._sym_sqrt: lambda one: one.to(torch.float64).sqrt(),
}  # fmt: skip


def is_number_function(function: Any) -> bool:
    return function in _OF_TENSORS
