"""Expand CHLO's ops in a program that was written as StableHLO: no portable artifact can hold them on the way to MHLO."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.errors import Problem
from lowering.ir import chlo, mlir
from lowering.legalize import driver, preparation
from lowering.signature import Signature

EXPAND = "builtin.module(func.func(chlo-legalize-to-stablehlo,remove-shape-constraints))"
_INLINE, _SIMPLIFY = "builtin.module(inline,symbol-dce)", "builtin.module(func.func(cse,canonicalize,cse))"
_PLACE = "stablehlo: expansion of CHLO"


def list_expanded(module: Any) -> list[str]:
    """Return the names of CHLO's ops that `expand` replaces: all but those that MHLO has too."""
    names = {operation.name for operation in mlir.walk_operations(module)}
    return sorted(name for name in names if name.startswith("chlo.") and name not in chlo.WHOLE)


def expand(module: Any, signature: Signature) -> list[Problem]:
    """Replace CHLO's ops by StableHLO's in place, and return a problem for each op that could not be made StableHLO.

    Calls are inlined. A dim that two operands of a broadcast give differently is that of the second where the first is 1 at run time.
    Raises StageFailed where a CHLO op has no expansion.
    """
    mlir.run(module, _INLINE, _PLACE)
    chlo.to_calls(module)
    mlir.run(module, EXPAND, _PLACE)
    chlo.from_calls(module)
    preparation.open_assumptions(module)
    mlir.run(module, _SIMPLIFY, _PLACE)  # gives extent tensors their length
    _choose_extents(module)
    mlir.run(module, _SIMPLIFY, _PLACE)
    problems = driver.legalize(module, signature, with_assertions=False)
    if not problems:
        mlir.run(module, _SIMPLIFY, _PLACE)
    return problems


def _choose_extents(module: Any) -> None:
    """Replace each `shape.broadcast` by a choice per dim. The legalization takes dims of two symbols for equal, as torch's traces do."""
    for operation in list(mlir.walk_operations(module)):
        if operation.name == "shape.broadcast":
            with operation.context, operation.location, ir.InsertionPoint(operation):
                chosen = _insert("tensor.from_elements", operation.results[0].type, *_broadcast(list(operation.operands)))
            operation.results[0].replace_all_uses_with(chosen)
            operation.erase()


def _broadcast(shapes: list[Any]) -> list[Any]:
    """Return the extents of the common shape of extent tensors, aligned at the right."""
    index, flag = ir.IndexType.get(), ir.IntegerType.get_signless(1)
    one, equal = _constant(1), ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 0)
    found: list[Any] = []
    for shape in shapes:
        rank = ir.RankedTensorType(shape.type).get_dim_size(0)
        extents = [_insert("tensor.extract", index, shape, _constant(position)) for position in range(rank)]
        width = max(len(found), len(extents))
        left, right = ([one] * (width - len(each)) + each for each in (found, extents))
        found = [_insert("arith.select", index, _insert("arith.cmpi", flag, before, one, predicate=equal), after, before)
                 for before, after in zip(left, right, strict=True)]
    return found


def _constant(number: int) -> Any:
    index = ir.IndexType.get()
    return _insert("arith.constant", index, value=ir.IntegerAttr.get(index, number))


def _insert(name: str, type_: Any, *operands: Any, **attributes: Any) -> Any:
    return ir.Operation.create(name, results=[type_], operands=list(operands), attributes=attributes).result
