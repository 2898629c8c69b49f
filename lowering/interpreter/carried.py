"""Values that a loop carries from iteration to iteration: tensors and numbers of one type, rows of lists, and how they are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols, statically_known_true
from torch.multiprocessing.reductions import StorageWeakRef

from lowering.interpreter.lists import Rows


@contextmanager
def probe(leaves: Sequence[Any]) -> Iterator[None]:
    """Compute with shapes only inside the block, without leaving a trace in the exported graph."""
    mode = detect_fake_mode([leaf for leaf in leaves if isinstance(leaf, torch.Tensor)])
    if mode is None or mode.shape_env is None:
        raise RuntimeError("a loop over a dynamic dim can only run under torch.export")
    with disable_proxy_modes_tracing(), mode, mode.shape_env.ignore_fresh_unbacked_symbols():
        yield


def unknown_int() -> torch.SymInt:
    """Return an int of unknown value, for use while probing."""
    mode = detect_fake_mode()
    return mode.shape_env.create_unbacked_symint()  # type: ignore[union-attr]


def find_unbacked(leaves: Sequence[Any]) -> set[Any]:
    """Return the data-dependent sizes among `leaves`."""
    sizes = [size for leaf in leaves if isinstance(leaf, torch.Tensor) for size in leaf.shape]
    return free_unbacked_symbols(sizes) | free_unbacked_symbols([leaf for leaf in leaves if isinstance(leaf, torch.SymInt)])


def make_unassigned(like: Any) -> Any:
    """Return a value for a variable that is assigned before it is read."""
    if isinstance(like, torch.Tensor):
        return torch.zeros(like.shape, dtype=like.dtype)
    if isinstance(like, bool | torch.SymBool):
        return False
    return 0.0 if isinstance(like, float | torch.SymFloat) else 0


def classify(value: Any) -> tuple[Any, ...] | None:
    """Return the properties of a value that no iteration may change, or None if a loop cannot carry it."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.dim()
    if isinstance(value, bool | torch.SymBool):
        return torch.bool, 0
    if isinstance(value, float | torch.SymFloat):
        return torch.float64, 0
    return (int,) if isinstance(value, int | torch.SymInt) else None


def is_unchanged(before: Any, after: Any) -> bool:
    """Return whether an iteration did not change a value: it is the same tensor, or an equal number."""
    if before is after:
        return True
    if isinstance(before, torch.SymInt) and isinstance(after, torch.SymInt | int):
        return statically_known_true(before == after)
    return type(before) is type(after) and isinstance(before, bool | int | float | str) and before == after


def have_equal_shapes(one: Any, other: Any) -> bool:
    """Return whether two tensors have equal shapes at all sizes. Other values count as equal."""
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return True
    return one.dim() == other.dim() and all(statically_known_true(a == b) for a, b in zip(one.shape, other.shape, strict=True))


def describe(value: Any) -> str:
    """Describe a value for a message. A tensor is described by its dtype and shape."""
    if isinstance(value, torch.Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape ({', '.join(map(str, value.shape))})"
    return f"{value!r}" if value is None or isinstance(value, str) else f"a {type(value).__name__}"


def write_count(value: Any) -> int | None:
    """Return how often a tensor has been written to, including through views, or None for other values."""
    return int(value._version) if isinstance(value, torch.Tensor) else None


def storage_id(tensor: torch.Tensor) -> int:
    """Return a number that is equal for tensors that share memory."""
    return int(StorageWeakRef(tensor.untyped_storage()).cdata)


def first_element(values: Sequence[Any]) -> Any:
    """Return the first element of a list, which may begin with a run of rows."""
    return values[0].tensor[0] if isinstance(values[0], Rows) else values[0]


def are_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors have one dtype and one shape at all sizes."""
    return one.dtype == other.dtype and have_equal_shapes(one, other)


def write_rows(buffer: torch.Tensor, rows: torch.Tensor, place: Any) -> torch.Tensor:
    """Return `buffer` with `rows` written from index `place` of dim 0 on.

    Several rows are selected by a mask, since slices at a variable index have no lowering.
    """
    count, rank = rows.shape[0], rows.dim()
    if isinstance(count, int) and count == 1:
        return torch.select_scatter(buffer, rows.squeeze(0), 0, place)
    places = torch.arange(buffer.shape[0]) - place
    inside = ((places >= 0) & (places < count)).reshape([-1, *[1] * (rank - 1)])
    return torch.where(inside, rows.index_select(0, places.clamp(min=0).clamp(max=count - 1)), buffer)


def separate(results: Sequence[Any], given: Sequence[Any]) -> Iterator[Any]:
    """Yield the results of an iteration, each in its own memory, as `while_loop` requires."""
    taken = {storage_id(value) for value in given if isinstance(value, torch.Tensor)}
    for value in results:
        alone = value.clone() if isinstance(value, torch.Tensor) and storage_id(value) in taken else value
        if isinstance(alone, torch.Tensor):
            taken.add(storage_id(alone))
        yield alone
