"""Shapes and strides of fake results, computed without a guard where no number of a functional program depends on the answer.

torch's own compares each size with 1, also where all operands have the same one, and strides with each other. Of a plain symbol, which is
traced at 2 or more, no guard remains; of `n - 2` one does, which refuses `n = 3`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any
from unittest import mock

import torch
from torch import _meta_registrations, _prims_common, _refs
from torch._subclasses import fake_impls
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.sym_node import SymNode
from torch.fx.experimental.symbolic_shapes import ShapeEnv, statically_known_true, sym_or
from torch.fx.passes import shape_prop

from lowering.fx.tracing import patching

# These ask about sizes only to choose strides, or whether a result is a view.
_FUNCTIONS = (
    *((_prims_common, name) for name in ("compute_elementwise_output_logical_to_physical_perm", "compute_elementwise_output_strides",
                                         "is_non_overlapping_and_dense_or_false", "is_contiguous_or_false")),
    (fake_impls, "is_contiguous_for_memory_format_or_false"), (fake_impls, "is_contiguous_or_false"), (_refs, "is_contiguous_or_false"),
    (shape_prop, "is_contiguous_for_memory_format_or_false"), (torch._C, "_conv_determine_backend_memory_format"),
)  # fmt: skip
_SOURCES = ("c10/core/Contiguity.h", "aten/src/ATen/TensorUtils.cpp")  # in C++; they ask by these methods of a symbolic bool:
_METHODS = ("guard_or_false", "guard_or_true")

_infer_size, _broadcast_shapes = fake_impls.infer_size, _refs._broadcast_shapes
_reshape_view = _refs._reshape_view_helper


@contextmanager
def compute_unguarded() -> Iterator[None]:
    """Compute strides of fake results inside the block as at the traced sizes, and ask of shapes only what decides the result's."""
    replaced = {(owner, name): _suppress_guards(getattr(owner, name)) for owner, name in _FUNCTIONS}
    replaced |= {(SymNode, name): _suppress_in_layouts(getattr(SymNode, name)) for name in _METHODS}
    replaced[fake_impls, "infer_size"] = lambda *shapes: tuple(_broadcast(_infer_size, shapes))
    replaced |= {(owner, "_broadcast_shapes"): _broadcast_all for owner in (_refs, _meta_registrations)}
    replaced |= {(_refs, "_maybe_broadcast"): _expand_all, (_meta_registrations, "_maybe_broadcast"): _expand_all,
                 (_refs, "_reshape_view_helper"): _view}
    expansion = torch.ops.prims.broadcast_in_dim.default
    replaced[expansion, "prim_meta_impl"] = _expand(expansion.prim_meta_impl)
    table = fake_impls.op_implementations_dict
    written = {torch.ops.aten.copy.default: _write(table[torch.ops.aten.copy.default])}
    with mock.patch.dict(table, written), patching.replace_functions(replaced):
        yield


def _suppress_guards(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(*args: Any, **kwargs: Any) -> Any:
        env = next(filter(None, map(_find_env, args)), None)
        if env is None:
            return function(*args, **kwargs)
        with env.suppress_guards():
            return function(*args, **kwargs)

    return compute


def _find_env(arg: Any) -> ShapeEnv | None:
    if isinstance(arg, FakeTensor):
        return arg.fake_mode.shape_env
    if not isinstance(arg, torch.Tensor):
        return None
    return next((size.node.shape_env for size in arg.shape if isinstance(size, torch.SymInt)), None)  # inside of a kernel: a meta tensor


def _write(implementation: Callable[..., Any]) -> Callable[..., Any]:
    """Return aten::copy of fake tensors, which asks whether the written tensor has gaps, as each second column of another one does."""
    unguarded = _suppress_guards(implementation)

    def compute(mode: Any, op: Any, tensor: torch.Tensor, source: torch.Tensor, *rest: Any, **named: Any) -> Any:
        shape = tensor.shape[tensor.dim() - source.dim():]
        is_known = source.dim() <= tensor.dim() and all(_find_common(pair) is not None for pair in zip(shape, source.shape, strict=True))
        return (unguarded if is_known else implementation)(mode, op, tensor, source, *rest, **named)

    return compute


def _suppress_in_layouts(method: Callable[..., bool]) -> Callable[..., bool]:
    def ask(node: SymNode, file: str, line: int) -> bool:
        if not file.endswith(_SOURCES):
            return method(node, file, line)
        with node.shape_env.suppress_guards():
            return method(node, file, line)

    return ask


def _expand(meta: Callable[..., Any]) -> Callable[..., Any]:
    """Return prims::broadcast_in_dim of fake tensors, which asks whether new dims are 1 for their strides."""
    unguarded = _suppress_guards(meta)

    def compute(tensor: torch.Tensor, shape: Sequence[Any], dims: Sequence[int]) -> torch.Tensor:
        for size, dim in zip(tensor.shape, dims, strict=True):
            torch._check(sym_or(size == 1, size == shape[dim]), lambda: f"{list(tensor.shape)} does not expand to {list(shape)}")
        return unguarded(tensor, shape, dims)  # type: ignore[no-any-return]

    return compute


def _expand_all(*args: Any, preserve_cpu_scalar_tensors: bool = True) -> tuple[Any, ...]:
    """Return tensors expanded to a common shape, and what else is among them as it is."""
    shape = _broadcast_all(*(arg.shape if isinstance(arg, torch.Tensor) else None for arg in args))

    def expand(arg: Any) -> Any:
        if not isinstance(arg, torch.Tensor) or (preserve_cpu_scalar_tensors and _prims_common.is_cpu_scalar_tensor(arg)):
            return arg
        is_equal = arg.dim() == len(shape) and all(map(_is_known_equal, arg.shape, shape))  # type: ignore[arg-type]
        return arg if is_equal else arg.expand(shape)

    return tuple(map(expand, args))


def _view(tensor: torch.Tensor, *sizes: Any, allow_copy: bool) -> torch.Tensor:
    """Return a tensor as another shape.

    torch's own asks which dims are split or merged, also where the tensor is contiguous and the shape fits at all sizes.
    """
    shape = list(_prims_common.extract_shape_from_varargs(sizes, validate=False))
    if isinstance(tensor, FakeTensor) and tensor.dim() and shape and _prims_common.is_contiguous_or_false(tensor):
        count = tensor.numel()
        shape = [count // -prod(shape) if isinstance(size, int) and size == -1 else size for size in shape]
        if _is_known_equal(count, prod(shape)):
            return tensor.as_strided(shape, _prims_common.make_contiguous_strides_for(shape))
    return _reshape_view(tensor, *sizes, allow_copy=allow_copy)  # type: ignore[no-any-return]


def _broadcast_all(*shapes: Any) -> list[Any] | None:
    """Return the shape that shapes broadcast to, of which some may be ints or None."""
    given = [shape if isinstance(shape, Sequence) else (shape,) for shape in shapes if shape is not None]
    return list(_broadcast(_broadcast_shapes, given)) if given else None


def _broadcast(function: Callable[..., Sequence[Any]], shapes: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """Yield the sizes that shapes broadcast to. `function` is asked about dims whose sizes may differ and are not the number 1."""
    rank = max(map(len, shapes))
    padded = [[*[1] * (rank - len(shape)), *shape] for shape in shapes]
    known = list(map(_find_common, zip(*padded, strict=True)))
    asked = function(*([size if common is None else 1 for size, common in zip(shape, known, strict=True)] for shape in padded))
    yield from (size if common is None else common for size, common in zip(asked, known, strict=True))


def _find_common(sizes: Sequence[Any]) -> Any:
    """Return what the sizes of a dim broadcast to, or None if that has to be asked."""
    others = [size for size in sizes if not (isinstance(size, int) and size == 1)]
    is_equal = all(_is_known_equal(size, others[0]) for size in others[1:])
    return 1 if not others else others[0] if is_equal else None


def _is_known_equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.SymInt) and isinstance(right, torch.SymInt) and left.node.expr == right.node.expr:
        return True  # most dims
    return statically_known_true(left == right)
