"""Runs a module of narrower floats in float64 without a second copy of its weights: operands of each op are widened, and freed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from lowering.eager import duplicates
from lowering.model import Model

# These return elements unchanged, so their results can be widened instead of their operands, which is cheaper.
_MOVING = {"embedding", torch.ops.aten.embedding.default, torch.ops.aten._to_copy.default}
WIDE = {torch.float32: torch.float64, torch.bfloat16: torch.float64, torch.float16: torch.float64, torch.complex64: torch.complex128}


@contextmanager
def widen() -> Iterator[None]:
    """Replace every float operand and requested float dtype of 2 or 4 bytes inside the block with float64, and likewise for complex
    numbers.

    Raises RuntimeError if an op writes to a tensor of a narrower float, because the result would be lost.
    """
    with _Ops(), _Functions():
        yield


def widen_dtypes() -> TorchDispatchMode:
    """Return a mode in which ops that are asked for a narrower float dtype make float64, so that a module in float64 casts to no other."""
    return _Dtypes()


class _Dtypes(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _call_widened(func, args, kwargs, _widen_dtype)


class _Functions(TorchFunctionMode):
    """Calls from Python: convolutions and recurrent layers compare the dtypes of their operands before any op runs."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if args and (name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))):  # `+=` is called add_
            _refuse_narrow(args[0], name)
        return _call_widened(func, args, kwargs, _widen_dtype if name in _MOVING else _widen)


class _Ops(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for position, argument in enumerate(func._schema.arguments):
            if argument.is_write:
                _refuse_narrow(args[position] if position < len(args) else (kwargs or {}).get(argument.name), func)
        return _call_widened(func, args, kwargs, _widen_dtype if func in _MOVING else _widen)


def can_widen(module: torch.nn.Module) -> bool:
    """Return whether the module computes only in floats that can be widened, and runs individual PyTorch ops only."""
    is_plain = type(module).double is torch.nn.Module.double and not any(isinstance(part, torch.jit.ScriptModule)
                                                                         for part in module.modules())
    return is_plain and all(weight.dtype in WIDE for weight in module.parameters() if weight.is_floating_point() or weight.is_complex())


def copy_sharing_parameters(module: torch.nn.Module, model: Model) -> torch.nn.Module:
    """Copy `module` with the same parameters, and with separate, widened copies of buffers and other tensors."""
    copied = duplicates.duplicate(module, model, shared=True)
    for part in copied.modules():
        for held in (part._buffers, vars(part)):
            held.update({name: _widen(value) for name, value in held.items() if isinstance(value, torch.Tensor)})
    return copied


def _refuse_narrow(value: Any, op: Any) -> None:
    if getattr(value, "dtype", None) in WIDE:
        raise RuntimeError(f"{op} writes to a tensor that is not widened")


def _call_widened(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, wide: Callable[[Any], Any]) -> Any:
    args, given = tree_map(wide, (tuple(args), dict(kwargs or {})))
    return func(*args, **given)


def _widen(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(WIDE[value.dtype]) if value.dtype in WIDE else value
    return _widen_dtype(value)


def _widen_dtype(value: Any) -> Any:
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value
