"""Calls of torch's functions that would read the number of a size, replaced by functions that stay symbolic."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lowering.errors import Problem, Unsupported
from lowering.fx.composed.by_size import BY_SIZE
from lowering.fx.composed.functions import COMPOSED, COMPOSED_OF_NUMBERS
from lowering.fx.tracing import logarithms, transforms
from lowering.fx.tracing.symbolic_numbers import SYMBOLIC, take_log2

# By name: TorchScript's ops on numbers, and on tensors with a number as result.
_SCRIPT_OPS: dict[str, Callable[..., Any]] = {
    "size": lambda tensor, dim=None: list(tensor.shape) if dim is None else tensor.shape[dim], "numel": lambda tensor: tensor.numel(),
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "floordiv": operator.floordiv,
    "remainder": operator.mod, "neg": operator.neg, "pow": operator.pow, "sqrt": torch.sym_sqrt, "Int": torch.sym_int,
    "Float": torch.sym_float, "ceil": math.ceil, "floor": math.floor,
    "ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt, "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip
_OF_TENSORS = ("size", "numel")


class SymbolicCalls(TorchFunctionMode):
    """Replaces calls that would read the number of a size, in the code of a model.

    Raises Unsupported for a write to the result of a replaced call that is a copy where torch's own is a view.
    """

    def __init__(self) -> None:
        super().__init__()
        self._copies: weakref.WeakValueDictionary[int, torch.Tensor] = weakref.WeakValueDictionary()

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named = dict(kwargs) if kwargs else {}
        if not args and "input" in named:  # torch's name of the first tensor
            args = (named.pop("input"),)
        if function is torch.sym_int and isinstance(args[0], logarithms.Logarithm):
            return math.trunc(args[0])
        args, named = logarithms.unwrap_all(args, named)  # type: ignore[assignment]
        symbolic = _find_symbolic(function, args, named)
        if symbolic is None:
            if self._copies and args and self._copies.get(id(args[0])) is args[0] and _writes(function):
                cause = "writes to a part of a tensor that begins or is framed where data or sizes decide, which is a copy here"
                raise Unsupported(Problem(function.__name__, cause, "write to the tensor itself, by index_copy or slice_scatter"))
            return function(*args, **named)
        result = symbolic(*args, **named)
        if symbolic in _COPIES:
            self._copies[id(result)] = result
        return result


class TracedCalls(SymbolicCalls):
    """Replaces calls in Dynamo's graph, which has `_sym_log2` for math.log2."""

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return take_log2(*args) if function is torch._sym_log2 else super().__torch_function__(function, types, args, kwargs)


def _writes(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return function is torch.Tensor.__setitem__ or (name.endswith("_") and not name.endswith("__"))


def _find_symbolic(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return the replacement of a call, or None for a call that reads no size."""
    if function not in _REPLACED and not isinstance(function, _OPS):  # most calls
        return None
    if composed := transforms.find_composed(function):
        return composed
    if function is torch.numel:
        return _SCRIPT_OPS["numel"]
    if function in COMPOSED:
        return COMPOSED[function] if _takes(COMPOSED[function], args, kwargs) else None
    if function in _NARROWS:
        return _narrow if isinstance(args[2] if len(args) > 2 else kwargs.get("start"), torch.Tensor) else None
    replaced = _TORCH.get(function)
    if replaced is None and not isinstance(function, _OPS):
        return None
    if replaced is not None:
        has_symbols = any(isinstance(leaf, SYMBOLIC) for leaf in pytree.tree_leaves((args, dict(kwargs))))
        return replaced if has_symbols and _takes(replaced, args, kwargs) else None
    namespace, _, name = (function._schema.name if isinstance(function, torch._ops.OpOverload)
                          else function._qualified_op_name).partition("::")
    if namespace != "aten" or name not in _SCRIPT_OPS:
        return None
    are_numbers = args and not any(isinstance(leaf, torch.Tensor) for leaf in args) and any(isinstance(leaf, SYMBOLIC) for leaf in args)
    return _SCRIPT_OPS[name] if name in _OF_TENSORS or are_numbers else None


def _takes(composed: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a composed function has the parameters of a call: torch's own takes other names too, and `out`."""
    try:
        _signature(composed).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


_signature = functools.cache(inspect.signature)
_OPS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
_NARROWS = (torch.narrow, torch.Tensor.narrow)


def _linspace(start: Any, end: Any, steps: Any, *, dtype: torch.dtype | None = None, **settings: Any) -> torch.Tensor:
    """Return torch.linspace, counted from the nearer end as eager does."""
    dtype = dtype or torch.get_default_dtype()
    places = torch.arange(steps, **settings)
    first, last = (torch.scalar_tensor(end, dtype=torch.float64) for end in (start, end))
    step = (last - first) / torch.sym_max(steps - 1, 1)
    return torch.where(places < steps / 2, first + step * places, last - step * (steps - 1 - places)).to(dtype)


def _logspace(start: Any, end: Any, steps: Any, base: float = 10.0, *, dtype: torch.dtype | None = None, **settings: Any) -> torch.Tensor:
    powers = torch.pow(base, _linspace(start, end, steps, dtype=torch.float64, **settings))
    return powers.to(dtype or torch.get_default_dtype())


def _narrow(tensor: torch.Tensor, dim: int, start: torch.Tensor, length: Any) -> torch.Tensor:
    """Return torch.narrow from a start that a tensor holds."""
    places = torch.where(start < 0, start + tensor.shape[dim], start).reshape([1]) + torch.arange(length, device=tensor.device)
    return tensor.index_select(dim, places)


def _tensor(data: Any, *, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> torch.Tensor:
    """Return torch.tensor of numbers, some of which are symbolic, or of nested lists of them."""
    leaves = pytree.tree_leaves(data)
    if dtype is None:
        has_floats, are_bools = (any(isinstance(leaf, float | torch.SymFloat) for leaf in leaves),
                                 all(isinstance(leaf, bool | torch.SymBool) for leaf in leaves))
        dtype = torch.get_default_dtype() if has_floats else torch.bool if are_bools else torch.int64
    if isinstance(data, list | tuple):
        return torch.stack([_tensor(element, dtype=dtype, device=device) for element in data])
    return data if isinstance(data, torch.Tensor) else torch.scalar_tensor(data, dtype=dtype, device=device)


def _as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
    return _tensor(data, dtype=dtype, device=device)


_TORCH: dict[Any, Callable[..., Any]] = {
    torch.linspace: _linspace, torch.logspace: _logspace, torch.tensor: _tensor, torch.as_tensor: _as_tensor, **BY_SIZE,
    **COMPOSED_OF_NUMBERS,
}  # fmt: skip
_COPIES = (_narrow, BY_SIZE[torch.Tensor.unfold])
_REPLACED = frozenset((torch.numel, *transforms.COMPOSED, *COMPOSED, *_NARROWS, *_TORCH))
