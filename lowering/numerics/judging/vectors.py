"""Eigenvectors and singular vectors, which are unique up to a sign, or a rotation of those of equal values, found by watching eager run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.utils._pytree import tree_leaves

from lowering import types
from lowering.numerics.comparison import TOLERANCES
from lowering.numerics.judging.ties import MOVING
from lowering.numerics.running.watching import Watching

Tensor: TypeAlias = torch.Tensor

_SELECTING = MOVING | {"index_select", "gather", "index", "split", "unbind"}
_PRODUCTS = frozenset(("mm", "bmm", "matmul"))
_LINEAR = frozenset(("mul", "div", "neg"))
_CLOSE = 100  # values that differ by this times the error of the matrix are taken as equal: their vectors may turn into each other
_ANYWHERE = 2.0  # the largest distance of two vectors of length 1


@dataclass(frozen=True)
class Groups:
    """The vectors of equal values, as tensors by the number of a vector.

    group: the lowest number of a group. size: how many vectors it has. room: how far an element of a vector of length 1 may turn.
    """

    group: Tensor
    size: Tensor
    room: Tensor


class Vectors(Watching):
    """Watches decompositions of real matrices: the vector to which each element belongs, also after moves and products."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._groups: list[Groups] = []  # of each decomposition, whose numbers follow those of the last one
        self._found: dict[int, tuple[Tensor, Tensor]] = {}  # by id, with the tensor, so that no other gets its id
        self._derived: dict[int, Tensor] = {}  # what else depends on vectors

    def find(self, result: Tensor) -> Tensor | None:
        """Return the number of the vector that each element of `result` is of, or None if they are not elements of vectors."""
        found = self._found.get(id(result))
        return found[1] if found else None

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = op(*args, **kwargs)
        name = op.overloadpacket.__name__
        if name == "_linalg_eigh" and args[0].dtype.is_floating_point:
            self._look(result[0], {-1: result[1]}, is_square=True)
        elif name == "_linalg_svd" and args[0].dtype.is_floating_point:
            self._look(result[1], {-1: result[0], -2: result[2]}, is_square=args[0].shape[-1] == args[0].shape[-2])
        elif self._found:
            self._propagate(op, name, args, kwargs, result)
        return result

    def _propagate(self, op: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Record the owners of the results of an op on vectors. Values that only depend on vectors have signs of their own."""
        given = [value for value in tree_leaves((args, dict(kwargs))) if isinstance(value, torch.Tensor)]
        if op._schema.is_mutable:  # a written tensor, and what shares its memory, has no vectors any more
            written = {value.untyped_storage().data_ptr() for value in given}
            for key in [key for key, (one, _) in self._found.items() if one.untyped_storage().data_ptr() in written]:
                self._derived[key] = self._found.pop(key)[0]
        owned = [value for value in given if id(value) in self._found]
        is_derived = any(id(value) in self._derived for value in given)
        owners = self._trace(op, name, args, kwargs, result) if len(owned) == 1 and not is_derived else None
        if owners is not None:
            for one, owner in zip(_tuple(result), _tuple(owners), strict=True):
                self._found[id(one)] = one, owner
        elif owned or is_derived:
            self._derived.update((id(value), value) for value in tree_leaves(result) if isinstance(value, torch.Tensor))

    def _trace(self, op: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Any:
        """Return the owners of the results of an op on vectors, or None."""
        place = next((place for place, value in enumerate(args) if isinstance(value, torch.Tensor) and self.find(value) is not None), None)
        if place is None or (owner := self.find(args[place])) is None:
            return None
        if name in _SELECTING and place == 0:
            return _expand(owner, result) if name in ("_to_copy", "clone") else op(owner, *args[1:], **kwargs)
        if name in _LINEAR and (place == 0 or name == "mul"):
            return _expand(owner, result)
        if name in _PRODUCTS and owner.dim() == result.dim():  # each column of the result is one of the right operand, or a row
            first = owner.narrow(-1 if place == 0 else -2, 0, 1)
            return _expand(first, result) if bool((owner == first).all()) else None
        return None

    def _look(self, values: Tensor, vectors: Mapping[int, Tensor], is_square: bool) -> None:
        """Number the vectors of a decomposition, those of values (..., k); vectors: by the dim that counts them. Pairs have one number."""
        if not values.numel() or not all(each.numel() for each in vectors.values()):
            return
        is_pair, backward = len(vectors) == 2, TOLERANCES[types.dtype_name(values.dtype)].atol
        most = max(each.shape[dim] for dim, each in vectors.items())
        rows = torch.nn.functional.pad(values.detach().double().reshape(-1, values.shape[-1]), (0, most - values.shape[-1]))
        largest, gaps = rows.abs().amax(1, keepdim=True), rows.diff(dim=1).abs()
        bound = _CLOSE * backward * largest
        borders = torch.where(gaps > bound, gaps, torch.inf)
        order = torch.nn.functional.pad((gaps > bound).cumsum(1), (1, 0))  # of the groups in a row
        near = torch.minimum(*(torch.nn.functional.pad(borders, pad, value=torch.inf) for pad in ((1, 0), (0, 1))))
        distance, lowest = (torch.zeros_like(rows).scatter_reduce(1, order, each, "amin", include_self=False).gather(1, order)
                            for each in (near, rows.abs()))
        is_apart = (lowest <= bound) & is_pair  # vectors of the singular value 0 are no pairs
        if is_pair and not is_square:  # the longer side has more vectors, of the value 0
            distance = torch.where(is_apart, distance, torch.minimum(distance, lowest))
        numbers, total = torch.arange(rows.numel()).reshape(rows.shape), rows.numel()
        first = torch.zeros_like(numbers).scatter_reduce(1, order, numbers, "amin", include_self=False).gather(1, order).reshape(-1)
        sizes = torch.zeros(2 * total, dtype=torch.int64)
        room = torch.nan_to_num(backward * largest / distance).reshape(-1).repeat(2)
        for dim, each in vectors.items():
            is_own = torch.arange(most) < each.shape[dim]
            own = numbers + torch.where(is_apart & (dim == -2), total, 0)
            members = torch.zeros_like(numbers).scatter_add(1, order, is_own.expand(rows.shape).to(torch.int64)).gather(1, order)
            sizes[own[:, is_own]] = members[:, is_own]
            if each.shape[dim] < each.shape[-3 - dim]:  # more vectors of the value 0 are left out, into which these may turn
                room[own[is_own & is_apart]] = _ANYWHERE
            owner = (self._count + own[:, is_own]).reshape(*values.shape[:-1], 1, -1)
            self._found[id(each)] = each, _expand(owner if dim == -1 else owner.mT, each)
        self._groups.append(Groups(self._count + torch.cat([first, first + total]), sizes, room))
        self._count += 2 * total

    def find_owners(self, results: Sequence[Tensor]) -> Owned:
        """Return which elements of `results`, of the run that was watched, are of which vectors."""
        columns = zip(*((each.group, each.size, each.room) for each in self._groups), strict=True)
        return Owned(tuple(map(self.find, results)), Groups(*map(torch.cat, columns)) if self._groups else None)


@dataclass(frozen=True)
class Owned:
    """The number of the vector that each element of each result is of, None for other results; groups: None without a decomposition."""

    owners: Sequence[Tensor | None]
    groups: Groups | None

    def turn(self, got: Sequence[Tensor], want: Sequence[Tensor]) -> list[Tensor]:
        """Return `got` with its vectors turned to those of `want`: by a sign each, or a rotation of those of equal values.

        All vectors of a number are turned alike, in all results. Elements are then moved towards those of `want` by as much as an error of
        the decomposed matrix of the size of the tolerance turns them.
        """
        parts = [_Part(owner, one, other) if owner is not None and one.shape == other.shape == owner.shape else None
                 for owner, one, other in zip(self.owners, got, want, strict=True)]
        turned = [part for part in parts if part]
        if self.groups is None or not turned:
            return list(got)
        products = torch.zeros(len(self.groups.size), dtype=torch.float64)
        for part in turned:
            products.index_add_(0, part.owner, part.ours * part.theirs)
        for part in turned:
            part.ours = part.ours * torch.where(products < 0, -1.0, 1.0)[part.owner]
        members: dict[int, set[int]] = defaultdict(set)
        present = torch.cat([part.owner for part in turned]).unique()
        for number in present[self.groups.size[present] > 1].tolist():
            members[int(self.groups.group[number])].add(number)
        for numbers in members.values():
            _rotate(turned, sorted(numbers), int(self.groups.size[min(numbers)]))
        return [part.join(self.groups.room, one) if part else one for part, one in zip(parts, got, strict=True)]

    def to_tensors(self, labels: Sequence[str]) -> dict[str, Tensor]:
        """Return everything as tensors by name, to be saved; labels: of the results."""
        owners = {f"owner/{label}": owner for label, owner in zip(labels, self.owners, strict=True) if owner is not None}
        if self.groups is None or not owners:
            return {}
        return {**owners, "group": self.groups.group, "size": self.groups.size, "room": self.groups.room}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], labels: Sequence[str]) -> Owned | None:
        """Restore the data that `to_tensors` saved, for the results `labels`; None if there were no vectors."""
        if not tensors:
            return None
        return cls(tuple(tensors.get(f"owner/{label}") for label in labels), Groups(*(tensors[name] for name in ("group", "size", "room"))))


class _Part:
    """The elements of a result, flat: the number of the vector that each is of, `ours`, and eager's."""

    def __init__(self, owner: Tensor, got: Tensor, want: Tensor) -> None:
        self.owner, self.ours, self.theirs = owner.reshape(-1), got.double().reshape(-1), want.double().reshape(-1)
        self._order = self.owner.argsort(stable=True)
        numbers, counts = self.owner.unique(return_counts=True)
        self._slices = dict(zip(numbers.tolist(), zip((counts.cumsum(0) - counts).tolist(), counts.tolist(), strict=True), strict=True))

    def find(self, number: int) -> Tensor:
        """Return the positions of the elements of a vector, none if it is not in this result."""
        start, count = self._slices.get(number, (0, 0))
        return self._order.narrow(0, start, count)

    def join(self, room: Tensor, like: Tensor) -> Tensor:
        """Return the elements in the shape and dtype of `like`, moved towards eager's by the vector's `room` times its length."""
        squares = torch.zeros_like(room).index_add_(0, self.owner, self.theirs.square())
        off, near = self.ours - self.theirs, (room * squares.sqrt())[self.owner]
        moved = self.theirs + off.sign() * (off.abs() - near).clamp_min(0)
        return torch.where(torch.isfinite(off), moved, self.ours).reshape(like.shape).to(like.dtype)


def _rotate(parts: Sequence[_Part], numbers: Sequence[int], size: int) -> None:
    """Rotate the vectors of a group, in all results that have them. It needs all of the group, in each of these results."""
    found = [[part.find(number) for number in numbers] for part in parts]
    counts = [{len(positions) for positions in each} for each in found]
    if len(numbers) < size or any(len(each) > 1 for each in counts):
        return
    ours, theirs = (torch.cat([torch.stack([side[positions] for positions in each], -1) for side, each in zip(sides, found, strict=True)])
                    for sides in ([part.ours for part in parts], [part.theirs for part in parts]))
    if not bool(torch.isfinite(ours).all() and torch.isfinite(theirs).all()):
        return
    left, _, right = torch.linalg.svd(ours.mT @ theirs)
    for part, each in zip(parts, found, strict=True):
        turned = torch.stack([part.ours[positions] for positions in each], -1) @ (left @ right)
        for column, positions in enumerate(each):
            part.ours[positions] = turned[:, column]


def _expand(owner: Tensor, like: Tensor) -> Tensor:
    """Return the owners of the elements of `like`, in its strides, so that ops that view it can view them."""
    return torch.empty_like(like, dtype=torch.int64).copy_(owner)


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)
