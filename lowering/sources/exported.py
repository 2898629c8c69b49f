"""Exported programs as models: files of torch.export.save, with their weights, example arguments and dims."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sympy
import torch
from torch.utils import _pytree as pytree

from lowering.errors import ConfigError, LoadError, Problem
from lowering.model import Symbol


def load(path: str, trusted: bool = False) -> torch.nn.Module:
    """Load a file of torch.export.save as a module with all arguments by name.

    trusted: whether the file may run code of its maker, which torch cannot prevent when it reads one. Raises LoadError if it is not, or if
    the file is none.
    """
    return take_apart(read(path, trusted))[0]


def read(path: str, trusted: bool = False) -> torch.export.ExportedProgram:
    """Read an exported program. Raises LoadError as `load` does."""
    if not Path(path).is_file():
        raise LoadError(Problem(f"path: {path}", "file does not exist", "the path is relative to the working directory of the command"))
    if not trusted:
        raise LoadError(Problem(f"path: {path}", "reading a .pt2 file runs code of the file's author",
                                "if you trust it, say so: trusted: true"))  # fmt: skip
    try:
        return torch.export.load(path)
    except Exception as error:
        fix = "save it with torch.export.save, of this version of torch"
        raise LoadError(Problem(f"path: {path}", f"is not an exported program: {error}", fix)) from error


def take_apart(program: torch.export.ExportedProgram) -> tuple[torch.nn.Module, Sequence[Any], Mapping[str, Any], Any, dict[str, Symbol]]:
    """Return an exported program as a module with its example arguments, their dims, and its symbols with their ranges.

    torch keeps no names of Dims: a symbol is called after the first dim that has it, `x_d0`. Raises ConfigError without example arguments.
    """
    if program.example_inputs is None:
        raise ConfigError(Problem("the exported program", "holds no example arguments", "export it again, or pass the module itself"))
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    names: dict[Any, str] = {}
    specs = []
    for argument in program.graph_signature.user_inputs:
        shape = getattr(values.get(str(argument)), "shape", ())
        for position, size in enumerate(shape):
            if isinstance(size, torch.SymInt):
                for symbol in sorted(size.node.expr.free_symbols, key=str):
                    names.setdefault(symbol, f"{argument}_d{position}")
        dims = {position: str(size.node.expr.subs({symbol: sympy.Symbol(name) for symbol, name in names.items()}))
                for position, size in enumerate(shape) if isinstance(size, torch.SymInt)}
        specs.append(dims or None)  # of a static tensor, and of what is no tensor
    ranges = {str(symbol): span for symbol, span in program.range_constraints.items()}
    symbols = {name: Symbol(min=max(1, int(span.lower)), max=int(span.upper) if span.upper.is_Integer else None)
               for symbol, name in names.items() if (span := ranges.get(str(symbol)))}
    args, kwargs = program.example_inputs
    args_spec, kwargs_spec = _arrange(program.call_spec.in_spec, iter(specs))
    module = _ByName(program.module(check_guards=False), program.call_spec.in_spec)
    return module, args, kwargs, {**dict(zip(module.positional, args_spec, strict=True)), **kwargs_spec}, symbols


def _arrange(structure: pytree.TreeSpec, leaves: Iterator[Any]) -> Any:
    """Return the dims of leaves in the form in which torch.export takes those of a tree: an object, such as a cache, is a list."""
    if structure.is_leaf():
        return next(leaves)
    items = [_arrange(child, leaves) for child in structure.children()]
    keys = structure.context
    is_mapping = isinstance(keys, list) and len(keys) == len(items) and all(isinstance(key, str) for key in keys)
    return dict(zip(keys, items, strict=True)) if is_mapping else items


class _ByName(torch.nn.Module):
    """The module of an exported program, with all arguments by name: torch's takes none by name that was exported by position.

    Objects among the arguments may differ from the exported ones in what is no tensor, as caches do that were built otherwise.
    """

    def __init__(self, inner: torch.nn.Module, structure: pytree.TreeSpec):
        super().__init__()
        self._parameters, self._buffers, self._modules = inner._parameters, inner._buffers, inner._modules  # so weights keep their names
        for part in inner.modules():
            part.training = False  # its graph is what it is, and it has no eval()
        self.training = False
        signature = inspect.signature(inner.forward)
        by_position, by_name = structure.children()
        self.positional = tuple(signature.parameters)[: by_position.num_children]
        structures = {**dict(zip(self.positional, by_position.children(), strict=True)),
                      **dict(zip(by_name.context, by_name.children(), strict=True))}

        def forward(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs).arguments
            given = {name: _restore(value, structures[name]) for name, value in bound.items()}
            positional = [given.pop(name) for name in self.positional if name in given]
            return inner(*positional, **given)

        forward.__signature__ = signature  # type: ignore[attr-defined]
        self.forward = forward


def _restore(value: Any, structure: pytree.TreeSpec) -> Any:
    """Return a value with the structure of the exported one, if it has as many leaves."""
    leaves = pytree.tree_leaves(value)
    return pytree.tree_unflatten(leaves, structure) if len(leaves) == structure.num_leaves else value
