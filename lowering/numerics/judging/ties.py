"""Indices of elements that are equal: which elements an index picks, found by watching eager run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lowering.numerics.running.watching import Watching

# Ops that say which elements they picked, where equal ones may be picked in any order: the position of their indices among the results.
_PICKING = {"sort": 1, "topk": 1, "kthvalue": 1, "median": 1, "nanmedian": 1, "mode": 1, "max": 1, "min": 1, "argmax": 0, "argmin": 0,
            "argsort": 0}
# Of these, those that pick the first of equal elements, as PyTorch documents. Rounding may part floats that are equal in eager, but not
# integers, nor floats that are small integers in all elements, as of a mask.
_FIRST = frozenset(("argmax", "argmin", "max", "min"))
_COUNTED = 128  # a small integer
# Ops that search a sorted sequence, and its position among their operands: where it holds NaN, the result depends on which elements are
# probed.
_SEARCHING = {"searchsorted": 0, "bucketize": 1}
# Ops whose result holds elements of their first operand as they are.
MOVING = frozenset((
    "_to_copy", "alias", "clone", "detach", "expand", "flip", "permute", "reshape", "select", "slice", "squeeze", "t", "transpose",
    "unsqueeze", "unsafe_view", "_unsafe_view", "view",
))  # fmt: skip


@dataclass(frozen=True)
class Picked:
    """The positions of an index tensor's elements: `bases + index * stride` is a flat position in `source`; indices are below `size`."""

    source: torch.Tensor
    bases: torch.Tensor
    stride: int
    size: int

    def positions(self, indices: torch.Tensor) -> torch.Tensor | None:
        """Return the flat positions that are picked. None if `indices` has another shape, or one is out of range."""
        if indices.shape != self.bases.shape or bool(((indices < 0) | (indices >= self.size)).any()):
            return None
        return self.bases + indices.long() * self.stride


class Picks(Watching):
    """Watches ops: for every tensor of indices, and every tensor of moved indices, the tensor into which they point.

    `ties`: whether any op met equal elements. `finite_ties`: the same without infinities, which inputs without equal elements may lead to
    too, as where a mask of logits is applied before they are sorted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ties = self.finite_ties = False
        self._found: dict[int, tuple[torch.Tensor, Picked]] = {}  # by id, with the tensor, so that no other gets its id

    def find(self, indices: torch.Tensor) -> Picked | None:
        found = self._found.get(id(indices))
        return found[1] if found else None

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = op(*args, **kwargs)
        name = op.overloadpacket.__name__
        if name in _PICKING:
            self._look(op, name, args, kwargs, result)
        elif name in _SEARCHING and isinstance(sequence := args[_SEARCHING[name]], torch.Tensor):
            self._add(*[bool((sequence != sequence).any())] * 2)
        elif name in MOVING and isinstance(result, torch.Tensor) and (picked := self.find(args[0])) and not result.dtype.is_floating_point:
            moved = picked.bases.clone() if name == "_to_copy" else op(picked.bases, *args[1:], **kwargs)
            self._found[id(result)] = result, Picked(picked.source, moved, picked.stride, picked.size)
        return result

    def _look(self, op: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        given = {formal.name: formal.default_value for formal in op._schema.arguments if formal.has_default_value()}
        given |= dict(zip((formal.name for formal in op._schema.arguments), args, strict=False)) | dict(kwargs)
        results = result if isinstance(result, tuple) else (result,)
        source, dim = given["self"], given.get("dim")
        if given.get("stable") is True or len(results) <= _PICKING[name] or source.dim() == 0 or source.numel() == 0:
            return
        if name in _FIRST and _is_exact(source):
            return
        indices, source = results[_PICKING[name]], source.detach().clone(memory_format=torch.contiguous_format)
        if dim is None:  # argmax of all elements
            picked, lines = Picked(source, torch.zeros_like(indices), 1, source.numel()), source.reshape(1, -1)
        else:
            bases = torch.arange(source.numel()).view(source.shape).select(dim, 0)
            if indices.dim() == source.dim():
                bases = bases.unsqueeze(dim).expand(indices.shape)
            picked, lines = Picked(source, bases, source.stride(dim), source.shape[dim]), source.movedim(dim, -1)
        self._found[id(indices)] = indices, picked
        self._add(*_find_ties(lines))

    def _add(self, ties: bool, finite_ties: bool) -> None:
        self.ties, self.finite_ties = self.ties or ties, self.finite_ties or finite_ties


def _is_exact(tensor: torch.Tensor) -> bool:
    """Return whether rounding has no part in which elements are equal: all are integers, if floats then small ones or infinite."""
    if not tensor.dtype.is_floating_point:
        return True
    counted = (tensor == tensor.round()) & (tensor.abs() <= _COUNTED) | torch.isinf(tensor)
    return bool(counted.all())


def _find_ties(lines: torch.Tensor) -> tuple[bool, bool]:
    """Return whether elements of one line are equal, or so close that rounding may exchange them; and whether finite ones are."""
    ordered = (lines.double() if lines.dtype.is_floating_point else lines.long()).sort(-1)[0]
    low, high = ordered[..., :-1], ordered[..., 1:]
    equal = (low == high) | ((low != low) & (high != high))
    close = equal | (high - low <= 1e-5 * high.abs()) & torch.isfinite(high) if lines.dtype.is_floating_point else equal
    return bool(close.any()), bool((close & ~torch.isinf(high)).any())
