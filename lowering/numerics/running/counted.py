"""The true part of padded results: sliced by the counts that follow them, after the conditions of the run are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering.errors import Problem, Refused, StageFailed
from lowering.numerics.running import watching
from lowering.signature import Signature
from lowering.sizes import evaluation


class RefusedData(Refused):
    """The values of arguments break conditions of the run: a count exceeds its capacity, or an assertion of the model fails."""


def trim(signature: Signature, computed: Sequence[Any]) -> tuple[Any, ...]:
    """Return the results that callers see of all that a program computed, each padded dim cut to its count.

    Raises RefusedData with every condition of the run that does not hold, StageFailed if a count is none of its padded dim.
    """
    pairs = list(zip(signature.computed, computed, strict=True))
    if broken := [Problem(result.name, "does not hold on these values") for result, value in pairs if result.kind == "check" and not value]:
        raise RefusedData(broken)
    counts = {result.name: int(value) for result, value in pairs if result.kind == "count"}
    return tuple(_cut(value, result.dims, counts) for result, value in pairs if result.kind not in ("count", "check"))


def find_full(signature: Signature, results: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> set[str]:
    """Return the counts that are equal to their capacities at `sizes`, by the shapes of the results that callers see."""
    capacities = {result.name: result.value for result in signature.computed if result.kind == "count"}
    found = set()
    for result, value in zip(signature.returned, results, strict=True):
        for dim, size in zip(result.dims, value.shape, strict=True):
            if dim in capacities and evaluate_capacity(capacities[str(dim)], sizes) == size:
                found.add(str(dim))
    return found


def evaluate_capacity(capacity: int | str, sizes: Mapping[str, int]) -> int | None:
    """Return a capacity at `sizes`, or None if it depends on more than these."""
    try:
        return evaluation.evaluate(capacity, sizes)
    except evaluation.Unknown:
        return None


def _cut(value: Any, dims: Sequence[int | str], counts: Mapping[str, int]) -> Any:
    counted = [(position, counts[dim]) for position, dim in enumerate(dims) if isinstance(dim, str) and dim in counts]
    for position, count in counted:
        if not 0 <= count <= value.shape[position]:
            cause = f"the count of dim {position} is {count}, and its capacity is {value.shape[position]}"
            raise StageFailed(Problem(f"a result of {list(value.shape)}", cause, "the program has to refuse such values"))
        value = value.narrow(position, 0, count)
    return value.clone() if counted else value


def decides_sizes(run: Callable[[Mapping[str, torch.Tensor]], Any], given: Mapping[str, torch.Tensor]) -> bool:
    """Return whether data decide a size when a model runs."""
    return watching.meets(lambda: run(given), _decides_size)


def _decides_size(op: Any, args: Sequence[Any]) -> bool:
    is_read = op is torch.ops.aten.index.Tensor and not _has_mask(args)
    return not is_read and (torch.Tag.data_dependent_output in op.tags or torch.Tag.dynamic_output_shape in op.tags)


def _has_mask(args: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.bool, torch.uint8) for leaf in pytree.tree_leaves(args[1:]))
