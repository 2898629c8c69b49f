"""Keep sizes symbolic in functions that would make them numbers, while torch.export runs the model's code.

Python's `math.sqrt`, `math.log`, `math.pow` and others, `divmod`, and `round` to digits, torch functions whose parameters are plain ints
(`torch.numel`, `torch.linspace`), and TorchScript's ops on numbers (`torch.ops.aten.size`) read the traced number of a size. Inside
`keep_symbolic` they compute the same by operators that stay symbolic.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch._export.non_strict_utils import _NonStrictTorchFunctionHandler
from torch.export import _trace
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lowering.fx import detection_functions, logarithms, scans, size_texts, transforms
from lowering.fx.composed_by_size import BY_SIZE
from lowering.fx.composed_functions import COMPOSED, COMPOSED_OF_NUMBERS
from lowering.ops import attention

_dtype_to_type_ctor = torch._prims_common.dtype_to_type_ctor
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


@contextmanager
def keep_symbolic(is_model_code: size_texts.IsModelCode) -> Iterator[None]:
    """Replace the functions inside the block. They do what they did on anything but symbolic numbers.

    is_model_code: whether a file is the model's, whose texts of sizes are values (see `size_texts`).
    """
    replaced: dict[tuple[Any, str], Any] = {(math, name): _extend(getattr(math, name), symbolic) for name, symbolic in _MATH.items()}
    replaced |= {(torch.SymInt, "__round__"): _round_int, (torch.SymInt, "bit_length"): logarithms.find_bit_length}
    replaced |= {(torch.nn.Module, name): _keep_equal(name, dtype) for name, dtype in _CONVERSIONS.items()}
    replaced[torch._prims_common, "dtype_to_type_ctor"] = _choose_type
    replaced[torch.distributions.Distribution, "_validate_args"] = False  # of whether to raise for the data at hand
    replaced[torch.nn.modules.transformer, "_detect_is_causal_mask"] = _read_is_causal
    if flex := sys.modules.get("torch.nn.attention.flex_attention"):  # the model's code has imported it
        replaced |= {(flex, "flex_attention_hop"): attention.flexible, (flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"): True}
    replaced[_trace, "_NonStrictTorchFunctionHandler"] = _watch_calls
    replaced |= size_texts.list_replacements(is_model_code) | detection_functions.list_replacements() | scans.list_replacements()
    originals = {(owner, name): getattr(owner, name) for owner, name in replaced}
    added: dict[tuple[Any, str], Any] = {**size_texts.list_additions(is_model_code), **detection_functions.list_additions()}
    added |= {(torch.SymInt, "__divmod__"): _divide, (torch.SymInt, "__rdivmod__"): lambda right, left: _divide(left, right)}
    for (owner, name), function in replaced.items():
        setattr(owner, name, function)
    for (owner, name), function in added.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name), function in originals.items():
            setattr(owner, name, function)
        for owner, name in added:
            delattr(owner, name)


@contextmanager
def _watch_calls() -> Iterator[None]:
    """Enter torch's mode for the trace inside ours. Before that mode torch makes fakes of all weights, which has no use for ours."""
    with _SymbolicCalls(), _NonStrictTorchFunctionHandler():
        yield


@contextmanager
def compose_in_graphs() -> Iterator[None]:
    """Replace torch's functions inside the block where Dynamo runs the graph that it made, and where that graph is traced again.

    Dynamo's graph holds the calls as the model's code wrote them. A mode around Dynamo itself would be traced as part of the model.
    """
    from torch._dynamo import utils as dynamo_utils  # most of a second, which an export that is not strict does without

    replaced = {(dynamo_utils, "run_node"): _inside_mode(dynamo_utils.run_node, _SymbolicCalls)}
    replaced |= {(_trace, name): _inside_mode(getattr(_trace, name), _TracedCalls)
                 for name in ("_export_to_aten_ir", "_export_to_aten_ir_make_fx")}
    with ExitStack() as stack:
        for (owner, name), function in replaced.items():
            stack.enter_context(mock.patch.object(owner, name, function))
        yield


def _inside_mode(function: Callable[..., Any], mode: Callable[[], TorchFunctionMode]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with mode():
            return function(*args, **kwargs)

    return call


def _keep_equal(name: str, dtype: torch.dtype | None) -> Callable[..., torch.nn.Module]:
    """Return a conversion of torch.nn.Module that does nothing where the module is that already. torch.export refuses even such a write.

    name: of the conversion; dtype: the one that it converts to, None if its arguments say so.
    """
    original = getattr(torch.nn.Module, name)

    def convert(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        device, wanted, _, memory_format = torch._C._nn._parse_to(*args, **kwargs) if dtype is None else (None, dtype, None, None)
        is_equal = memory_format is None and all(
            device in (None, tensor.device) and (wanted in (None, tensor.dtype) or not (tensor.is_floating_point() or tensor.is_complex()))
            for tensor in (*module.parameters(), *module.buffers()))
        return module if is_equal else original(module, *args, **kwargs)  # type: ignore[no-any-return]

    return convert


def _extend(original: Callable[..., Any], symbolic: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original` with `symbolic` for calls that take a symbolic number."""

    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple(map(logarithms.unwrap, args))
        return (symbolic if not kwargs and any(isinstance(arg, _SYMBOLIC) for arg in args) else original)(*args, **kwargs)

    return call


def _choose_type(dtype: torch.dtype) -> Callable[[Any], Any]:
    """Return the constructor of numbers of a dtype. torch's own reads the traced number of a size that a complex tensor meets."""
    original = _dtype_to_type_ctor(dtype)
    return (lambda number: torch.sym_float(number) if isinstance(number, _SYMBOLIC) else original(number)) if dtype.is_complex else original


def _round_int(size: Any, digits: int | None = None) -> Any:
    """Round an int to a multiple of 10 ** -digits, ties to the even multiple, as Python does. torch's own ignores the digits."""
    if digits is None or digits >= 0:
        return size
    step = 10**-digits
    doubled = 2 * size + step
    nearest = doubled // (2 * step)
    is_tie = nearest - (doubled - 1) // (2 * step)  # 1 or 0
    return (nearest - is_tie * (nearest % 2)) * step


def _read_is_causal(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:  # noqa: ARG001 - torch's parameters
    """Return the caller's hint. torch's own compares the mask's data to find one, though attention adds the mask either way."""
    return bool(is_causal)


def _divide(left: Any, right: Any) -> tuple[Any, Any]:
    return left // right, left % right


def _read(function: Callable[[torch.Tensor], torch.Tensor], number: Any) -> Any:
    """Return a function of a number by torch's function of tensors, in float64. torch.export has no such op on symbolic numbers."""
    return function(torch.scalar_tensor(number, dtype=torch.float64)).item()


def _log(number: Any, base: Any = None) -> Any:
    if base is None:
        return _take_logarithm(math.log, torch.log, number)
    if isinstance(base, _SYMBOLIC):
        return _log(number) / _log(base)
    return _take_logarithm(lambda value: math.log(value, base), lambda value: torch.log(value) / math.log(base), number)


def _log2(number: Any) -> Any:
    """Return the logarithm to base 2, exact for powers of 2 in every library: of 1/2 it is a quotient of equal numbers."""

    def of_tensors(tensor: torch.Tensor) -> torch.Tensor:
        mantissa, exponent = torch.frexp(tensor)
        return torch.log2(mantissa) + exponent

    return _take_logarithm(math.log2, of_tensors, number)


def _take_logarithm(function: Callable[[Any], float], of_tensors: Callable[[torch.Tensor], torch.Tensor], number: Any) -> Any:
    """Return a logarithm of a number. function: Python's; of_tensors: torch's."""
    if isinstance(number, torch.SymInt):
        return logarithms.Logarithm(number, function, functools.partial(_read, of_tensors, number))
    return _read(of_tensors, number) if isinstance(number, _SYMBOLIC) else function(number)


_CONVERSIONS = {"to": None, "float": torch.float32, "double": torch.float64, "half": torch.float16, "bfloat16": torch.bfloat16}
_MATH: dict[str, Callable[..., Any]] = {
    "sqrt": torch.sym_sqrt, "pow": lambda base, exponent: torch.sym_float(base) ** exponent,
    "exp": lambda exponent: math.e ** torch.sym_float(exponent), "log": _log, "log2": _log2,
    "isqrt": lambda size: torch.sym_int(torch.sym_sqrt(size)),  # exact below 2 ** 52
    "log10": functools.partial(_take_logarithm, math.log10, torch.log10),
    **{name: functools.partial(_read, getattr(torch, name)) for name in ("log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh")},
}  # fmt: skip

# By name: TorchScript's ops on numbers, and on tensors with a number as result.
_SCRIPT_OPS: dict[str, Callable[..., Any]] = {
    "size": lambda tensor, dim=None: list(tensor.shape) if dim is None else tensor.shape[dim], "numel": lambda tensor: tensor.numel(),
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "floordiv": operator.floordiv,
    "remainder": operator.mod, "neg": operator.neg, "pow": operator.pow, "sqrt": torch.sym_sqrt, "Int": torch.sym_int,
    "Float": torch.sym_float, "ceil": math.ceil, "floor": math.floor,
    "ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt, "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip
_OF_TENSORS = ("size", "numel")


class _SymbolicCalls(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named = dict(kwargs) if kwargs else {}
        if not args and "input" in named:  # torch's name of the first tensor
            args = (named.pop("input"),)
        if function is torch.sym_int and isinstance(args[0], logarithms.Logarithm):
            return math.trunc(args[0])
        args, named = logarithms.unwrap_all(args, named)  # type: ignore[assignment]
        symbolic = _find_symbolic(function, args, named)
        return (symbolic or function)(*args, **named)


class _TracedCalls(_SymbolicCalls):
    """The same for Dynamo's graph, which has `_sym_log2` for math.log2."""

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return _log2(*args) if function is torch._sym_log2 else super().__torch_function__(function, types, args, kwargs)


def _find_symbolic(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return what replaces a call, or None for a call that reads no size."""
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
        has_symbols = any(isinstance(leaf, _SYMBOLIC) for leaf in pytree.tree_leaves((args, dict(kwargs))))
        return replaced if has_symbols and _takes(replaced, args, kwargs) else None
    namespace, _, name = (function._schema.name if isinstance(function, torch._ops.OpOverload)
                          else function._qualified_op_name).partition("::")
    if namespace != "aten" or name not in _SCRIPT_OPS:
        return None
    are_numbers = args and not any(isinstance(leaf, torch.Tensor) for leaf in args) and any(isinstance(leaf, _SYMBOLIC) for leaf in args)
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
_REPLACED = frozenset((torch.numel, *transforms.COMPOSED, *COMPOSED, *_NARROWS, *_TORCH))
