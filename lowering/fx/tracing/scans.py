"""torch's associative scan over a dynamic dim, composed without a branch on its size.

torch's own halves the dim until it has one element, and looks at the parity of each half. Here every element is combined with the one that
is 1, 2, 4, ... places before it, as often as the largest size of the dim needs; smaller sizes need the first of these steps only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering.ops import symbolic

_MODULE = "torch._higher_order_ops.associative_scan"  # an attribute of this name is the function


def list_replacements() -> dict[tuple[Any, str], Callable[..., Any]]:
    """Return the replacements of attributes of torch's module of associative scans, if it is imported."""
    module = sys.modules.get(_MODULE)
    return {} if module is None else {(module, "generic_associative_scan"): _extend(module.generic_associative_scan)}


def _extend(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original`, the scan of leaves along their dim 0, with steps of doubled length for a dynamic dim that has a maximum."""

    def scan(operator: Callable[..., Any], leaves: Sequence[torch.Tensor], dim: int = 0, additional_inputs: Sequence[Any] = ()) -> Any:
        size = leaves[0].shape[0]
        largest = symbolic.find_largest(size) if isinstance(size, torch.SymInt) else None
        if dim != 0 or largest is None:
            return original(operator, leaves, dim, additional_inputs)
        return scan_by_doubling(lambda *pair: operator(*pair, *additional_inputs), leaves, largest)

    return scan


def scan_by_doubling(operator: Callable[..., Any], leaves: Sequence[torch.Tensor], largest: int) -> list[torch.Tensor]:
    """Return the inclusive scan of leaves of up to `largest` rows along dim 0.

    operator: takes the rows of all leaves before, then those after, and returns the leaves of both; it has to be associative.
    """
    size = leaves[0].shape[0]
    places = torch.arange(size, device=leaves[0].device)
    found = list(leaves)
    step = 1
    while step < largest:
        # the first rows have none before them: any row of the right kind will do, since its result is not taken
        before = [torch.cat([leaf[:1].expand(step, *leaf.shape[1:]), leaf])[:size] for leaf in found]
        combined = pytree.tree_leaves(operator(*before, *found))
        found = [torch.where((places < step).reshape(-1, *[1] * (leaf.dim() - 1)), leaf, new)
                 for leaf, new in zip(found, combined, strict=True)]  # fmt: skip
        step *= 2
    return found
