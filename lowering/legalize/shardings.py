"""Shardings of the arguments and results of @main, in the forms that XLA's partitioners read from any StableHLO.

GSPMD reads `mhlo.sharding`. Shardy reads those of arguments from frontend attributes, and those of results from custom calls, which have
the shape of the result as an operand, so that they can be refined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch_mlir import ir

from lowering import meshes
from lowering.errors import Problem
from lowering.ir import mlir
from lowering.ir.expansion import Builder

NAME = "mhlo.sharding"
SHARDY = "xla.sdy.sharding"
MESHES = "xla.sdy.meshes"
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


def find(patterns: Patterns, name: str) -> meshes.Sharding:
    """Return the sharding of a name: that of the last pattern that matches, else replicated."""
    return next((dims for pattern, dims in reversed(list(patterns.items())) if fnmatchcase(name, pattern)), ())


def write(module: Any, key: str, names: Sequence[str], ranks: Sequence[int], patterns: Patterns, mesh: meshes.Axes) -> None:
    """Write the sharding of each name for GSPMD into `arg_attrs` or `res_attrs` (`key`) of @main."""
    with module.context:
        _add(module, key, [{NAME: ir.StringAttr.get(meshes.format_sharding(mesh, find(patterns, name), rank))}
                           for name, rank in zip(names, ranks, strict=True)])


def write_shardy_arguments(module: Any, names: Sequence[str], ranks: Sequence[int], patterns: Patterns, mesh: meshes.Axes) -> None:
    """Write the mesh and the sharding of each argument of @main for Shardy."""
    with module.context:
        module.operation.attributes[meshes.FRONTEND] = ir.DictAttr.get({MESHES: ir.StringAttr.get(meshes.format_shardy_mesh(mesh))})
        written = [f"#sdy.sharding<{meshes.format_shardy(find(patterns, name), rank)}>" for name, rank in zip(names, ranks, strict=True)]
        _add(module, "arg_attrs", [{meshes.FRONTEND: ir.DictAttr.get({SHARDY: ir.StringAttr.get(sharding)})} for sharding in written])


def write_shardy_results(module: Any, names: Sequence[str], ranks: Sequence[int], patterns: Patterns) -> None:
    """Write the sharding of each result of @main for Shardy, as a custom call that returns the result."""
    end = list(mlir.find_main(module.body.operations).regions[0].blocks[0].operations)[-1].operation
    with module.context, ir.InsertionPoint(end), end.location:
        for position, (name, rank) in enumerate(zip(names, ranks, strict=True)):
            value, sharding = end.operands[position], meshes.format_shardy(find(patterns, name), rank)
            attributes = {
                "call_target_name": ir.StringAttr.get(meshes.SHARDY_RESULT), "has_side_effect": ir.BoolAttr.get(True),
                meshes.FRONTEND: ir.DictAttr.get({SHARDY: ir.StringAttr.get(f"#sdy.sharding_per_value<[<{sharding}>]>")}),
            }
            operands = [value]
            if not ir.RankedTensorType(value.type).has_static_shape:
                operands.append(Builder(ir).shape(value))
                attributes["indices_of_shape_operands"] = ir.Attribute.parse("dense<1> : tensor<1xi64>")
            end.operands[position] = ir.Operation.create("stablehlo.custom_call", results=[value.type], operands=operands,
                                                         attributes=attributes).result


def _add(module: Any, key: str, added: Sequence[Mapping[str, Any]]) -> None:
    """Add attributes to those of each argument or result of @main."""
    main = mlir.find_main(module.body.operations)
    held = list(main.attributes[key]) if key in main.attributes else [ir.DictAttr.get({})] * len(added)
    main.attributes[key] = ir.ArrayAttr.get([ir.DictAttr.get({**{entry.name: entry.attr for entry in own}, **more})
                                             for own, more in zip(held, added, strict=True)])
