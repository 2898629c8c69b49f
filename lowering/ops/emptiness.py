"""Results without elements, of which only the shapes are computed: torch-mlir and MHLO lower few ops on such tensors."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

from lowering.ops import factories
from lowering.ops.rows import Decomposition

Place: TypeAlias = int | tuple[int, int]  # a size, or the position of a tensor among the arguments with that of its dim
Shape: TypeAlias = tuple[Place, ...]


def find(node: Node) -> Decomposition | None:
    """Return the decomposition of an ATen op whose result has a dim of size 0 at all sizes of the dynamic dims, else None.

    Each dynamic dim of the result must be one of an argument. An op with several results is left as it is.
    """
    op, result = node.target, node.meta.get("val")
    if op.namespace != "aten" or op is torch.ops.aten.full.default or not isinstance(result, torch.Tensor):  # type: ignore[union-attr]
        return None
    if not any(isinstance(size, int) and size == 0 for size in result.shape):
        return None
    tensors = [leaf.meta["val"] for leaf in pytree.tree_leaves((node.args, dict(node.kwargs))) if isinstance(leaf, Node)]
    places: dict[Any, Place] = {size.node.expr: (position, dim) for position, tensor in enumerate(filter(_is_tensor, tensors))
                                for dim, size in enumerate(tensor.shape) if isinstance(size, torch.SymInt)}  # fmt: skip
    shape = [size if isinstance(size, int) else places.get(size.node.expr) for size in result.shape]
    return None if None in shape else _make(tuple(shape), result.dtype, result.device)  # type: ignore[arg-type]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


@functools.cache
def _make(shape: Shape, dtype: torch.dtype, device: torch.device) -> Decomposition:
    """Return a function that gives a tensor without elements."""

    def compute(*args: Any, **kwargs: Any) -> torch.Tensor:
        tensors = list(filter(_is_tensor, pytree.tree_leaves((args, kwargs))))
        sizes = [place if isinstance(place, int) else tensors[place[0]].shape[place[1]] for place in shape]
        return factories.zeros(sizes, dtype=dtype, device=device)

    return compute
