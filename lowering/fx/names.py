"""The names of an exported program's inputs and symbols, and sizes as expressions of the symbols that the model declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from lowering import types
from lowering.eager.pytrees import build_marked, list_sources, name_leaves
from lowering.model import Model
from lowering.sizes.dims import Affine, name_flexible

Names = Mapping[sympy.Symbol, sympy.Expr]


def input_names(program: ExportedProgram) -> dict[str, str]:
    """Return the name by which the user passes each input, by placeholder. torch's own names are in lower case and ASCII."""
    positional, named = program.call_spec.in_spec.children()  # type: ignore[union-attr]
    words = [""] * positional.num_leaves + (name_leaves(named) if named.num_leaves else [])
    inputs = [str(spec.arg.name) for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    return {name: word for name, word in zip(inputs, words, strict=False) if word}


def input_sources(program: ExportedProgram) -> dict[str, str]:
    """Return the name of each input by the way guards write it: `L['state'].hidden[0]`."""
    _, named = program.call_spec.in_spec.children()  # type: ignore[union-attr]
    return list_sources(build_marked(named)) if named.num_leaves else {}


def input_values(program: ExportedProgram, model: Model) -> dict[str, Any]:
    """Return the traced value of each input of the model, by the name by which the user passes it."""
    names = input_names(program)
    found = {names.get(node.name, node.name): node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    return {name: found[name] for name in model.leaves if name in found}


def symbol_names(program: ExportedProgram, model: Model) -> dict[sympy.Symbol, sympy.Expr]:
    """Return each symbol of the trace as an expression in the model's symbols: `s43 -> batch`, `s9 -> seq/8`.

    Flexible dims are named by `name_flexible`.
    """
    names: dict[sympy.Symbol, sympy.Expr] = {}
    values = input_values(program, model)
    flexible = []
    for input_name, declared in model.leaves.items():
        value = values.get(input_name)
        if isinstance(value, torch.SymInt):
            _solve_symbol(names, sympy.sympify(value.node.expr), _make_symbol(input_name))
        if not isinstance(value, torch.Tensor):
            continue
        for position, (dim, size) in enumerate(zip(declared.dims(), value.shape, strict=True)):
            if not isinstance(size, torch.SymInt):
                continue
            expression = sympy.sympify(size.node.expr)
            if isinstance(dim, Affine):
                _solve_symbol(names, expression, (_make_symbol(dim.symbol) * dim.scale) + dim.offset)
            else:
                flexible.append((expression, name_flexible(input_name, position)))
    for expression, word in flexible:
        _solve_symbol(names, expression, _make_symbol(word))
    return names


def _make_symbol(word: str) -> sympy.Symbol:
    return sympy.Symbol(word, integer=True, positive=True)


def _solve_symbol(names: dict[sympy.Symbol, sympy.Expr], expression: sympy.Expr, meaning: sympy.Expr) -> None:
    """Solve `expression == meaning` for its only unnamed symbol, and add the solution to `names`."""
    unnamed = [symbol for symbol in expression.free_symbols if symbol not in names]
    if len(unnamed) == 1:
        solutions = sympy.solve(expression.subs(names) - meaning, unnamed[0]) if expression != unnamed[0] else [meaning]
        if len(solutions) == 1:
            names[unnamed[0]] = solutions[0]


def is_static(size: Any) -> bool:
    """Return whether a size, or an input that is an int, is a number. torch may keep a SymInt after specializing it."""
    return isinstance(size, int) or (isinstance(size, torch.SymInt) and bool(sympy.sympify(size.node.expr).is_number))


def name_dims(sizes: Iterator[Any] | tuple[Any, ...] | torch.Size, names: Names) -> tuple[int | str, ...]:
    """Return sizes as ints, or as expressions in the model's symbols."""
    return tuple(name_dim(size, names) for size in sizes)


def name_dim(size: Any, names: Names) -> int | str:
    """Return a size as an int or an expression. torch keeps a SymInt after specializing a dim."""
    if isinstance(size, int):  # most sizes, and substituting in a number takes sympy long
        return size
    expression = size if isinstance(size, sympy.Expr) else size.node.expr if isinstance(size, torch.SymInt) else int(size)
    meant = sympy.sympify(expression).subs(names)
    return int(meant) if meant.is_Integer else str(meant)


def describe_type(value: Any, names: Names) -> tuple[str, tuple[int | str, ...]]:
    """Return the dtype and dims of a tensor or number."""
    if isinstance(value, torch.Tensor):
        return types.dtype_name(value.dtype), name_dims(value.shape, names)
    scalar = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool"}
    return next((word for kind, word in scalar.items() if isinstance(value, kind)), type(value).__name__), ()
