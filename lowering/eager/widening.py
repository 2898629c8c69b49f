"""A module of narrower floats run in float64 without a second copy of its weights: each op gets its operands widened, and gives them back."""

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

# They give elements as they are, so that widening what they give is as good, and less.
_MOVING = {"embedding", torch.ops.aten.embedding.default, torch.ops.aten._to_copy.default}
WIDE = {torch.float32: torch.float64, torch.bfloat16: torch.float64, torch.float16: torch.float64, torch.complex64: torch.complex128}


@contextmanager
def widened() -> Iterator[None]:
    """Inside, every float operand of 2 or 4 bytes and every such float that is asked for is float64, complex numbers likewise.

    RuntimeError where an op writes to a tensor of a narrower float: what it wrote would be lost.
    """
    with _Ops(), _Functions():
        yield


class _Functions(TorchFunctionMode):
    """What Python calls: convolutions and recurrent layers compare the dtypes of their operands before any op is run."""

    def __torch_function__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name = getattr(func, "__name__", "")
        if args and (name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))):  # `+=` and its like are called add_
            _refuse_narrow(args[0], name)
        return _called(func, args, kwargs, _wide_dtype if name in _MOVING else _wide)


class _Ops(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                _refuse_narrow(args[position] if position < len(args) else (kwargs or {}).get(argument.name), func)
        return _called(func, args, kwargs, _wide_dtype if func in _MOVING else _wide)


def suits(module: torch.nn.Module) -> bool:
    """Whether floats that can be widened are all that the module computes in, and what it runs are PyTorch's ops one by one."""
    is_plain = type(module).double is torch.nn.Module.double and not any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())
    return is_plain and all(weight.dtype in WIDE for weight in module.parameters() if weight.is_floating_point() or weight.is_complex())


def sharing(module: torch.nn.Module, model: Model) -> torch.nn.Module:
    """A copy of `module` that has its parameters, and buffers and other tensors of its own, which are widened."""
    copied = duplicates.duplicate(module, model, shared=True)
    for part in copied.modules():
        for held in (part._buffers, vars(part)):
            held.update({name: _wide(value) for name, value in held.items() if isinstance(value, torch.Tensor)})
    return copied


def _refuse_narrow(value: Any, op: Any) -> None:
    if getattr(value, "dtype", None) in WIDE:
        raise RuntimeError(f"{op} writes to a tensor that is not widened")


def _called(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, wide: Callable[[Any], Any]) -> Any:
    args, given = tree_map(wide, (tuple(args), dict(kwargs or {})))
    return func(*args, **given)


def _wide(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(WIDE[value.dtype]) if value.dtype in WIDE else value
    return _wide_dtype(value)


def _wide_dtype(value: Any) -> Any:
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value
