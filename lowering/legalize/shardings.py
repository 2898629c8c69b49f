"""Shardings of the arguments and results of @main, written as `mhlo.sharding`, which XLA's partitioner reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch_mlir import ir

from lowering import meshes
from lowering.errors import Problem
from lowering.ir import mlir

NAME = "mhlo.sharding"
Patterns = Mapping[str, meshes.Sharding]


def find_problems(patterns: Patterns, names: Sequence[str], ranks: Sequence[int], mesh: meshes.Axes, place: str) -> list[Problem]:
    """Report patterns that match no name, unknown axes, and shardings of more dims than a tensor has."""
    found = []
    for pattern, dims in patterns.items():
        at = f"{place}.{pattern}"
        found += meshes.find_unknown_axes(mesh, list(dims), at)
        matched = [(name, rank) for name, rank in zip(names, ranks, strict=True) if fnmatchcase(name, pattern)]
        if not matched:
            found.append(Problem(at, "matches none", f"names are {', '.join(names[-8:])}"))
        found += [Problem(at, f"splits {len(dims)} dims, and '{name}' has {rank}") for name, rank in matched if len(dims) > rank]
    return found


def write(module: Any, key: str, names: Sequence[str], ranks: Sequence[int], patterns: Patterns, mesh: meshes.Axes) -> None:
    """Write the sharding of each name into `arg_attrs` or `res_attrs` (`key`) of @main. The last pattern that matches counts; others are
    replicated.
    """
    main = mlir.find_main(module.body.operations)
    with module.context:
        held = list(main.attributes[key]) if key in main.attributes else [ir.DictAttr.get({})] * len(names)
        written = []
        for own, name, rank in zip(held, names, ranks, strict=True):
            dims = next((dims for pattern, dims in reversed(list(patterns.items())) if fnmatchcase(name, pattern)), ())
            sharding = ir.StringAttr.get(meshes.format_sharding(mesh, dims, rank))
            written.append(ir.DictAttr.get({**{entry.name: entry.attr for entry in own}, NAME: sharding}))
        main.attributes[key] = ir.ArrayAttr.get(written)
