"""TorchScript's types of FX values, and its constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy
import torch

from lowering import types

_SCALARS = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool", int: "int", float: "float", bool: "bool"}
_MEMORY_FORMATS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2, torch.channels_last_3d: 3}


def script_type(value: Any, fixed: Mapping[sympy.Expr, int]) -> torch._C.Type:
    """Return the TorchScript type of an FX value (`meta["val"]`), with None for each dynamic dim.

    fixed: expressions of sizes that have one value.
    """
    if isinstance(value, torch.Tensor):
        sizes = [_find_static_size(size, fixed) for size in value.shape]
        return torch._C.TensorType.get().with_dtype(value.dtype).with_sizes(sizes)  # type: ignore[attr-defined]
    if isinstance(value, list | tuple):  # torch keeps either for an op that returns a list
        is_plain = bool(value) and not isinstance(value[0], torch.Tensor)
        return torch._C.ListType(script_type(value[0], fixed) if is_plain else torch._C.TensorType.get())
    if value is None:
        return torch._C.NoneType.get()
    for kind, word in _SCALARS.items():
        if type(value) is kind:
            return _find_scalar_type(word)
    raise TypeError(f"a value of type {type(value).__name__} has no TorchScript type")


def _find_static_size(size: int | torch.SymInt, fixed: Mapping[sympy.Expr, int]) -> int | None:
    if isinstance(size, int) or size.node.expr.is_number:
        return int(size)
    return fixed.get(size.node.expr)


def _find_scalar_type(word: str) -> torch._C.Type:
    return {"int": torch._C.IntType, "float": torch._C.FloatType, "bool": torch._C.BoolType}[word].get()


def as_constant(given: Any) -> Any:
    """Return dtypes, layouts and memory formats as TorchScript's ints, and all other values as they are."""
    if isinstance(given, torch.dtype):
        return types.find_row(given).code
    if isinstance(given, torch.layout):
        return {torch.strided: 0}[given]
    return _MEMORY_FORMATS[given] if isinstance(given, torch.memory_format) else given
