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
from lowering.numerics.ties import MOVING
from lowering.numerics.watching import Watching

Tensor: TypeAlias = torch.Tensor

_SELECTING = MOVING | {"index_select", "gather", "index", "split", "unbind"}
_PRODUCTS = frozenset(("mm", "bmm", "matmul"))
_LINEAR = frozenset(("mul", "div", "neg"))
_CLOSE = 100  # values that differ by this times the error of the matrix are taken as equal: their vectors may turn into each other


@dataclass(frozen=True)
class Group:
    """Vectors of equal values. size: their number. room: how far an element of a vector of length 1 may turn into other vectors."""

    size: int
    room: float


class Vectors(Watching):
    """Watches decompositions of real matrices: of which vector each element is, in vectors and in what moves or multiplies them."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._groups: dict[int, tuple[int, Group]] = {}  # number of a vector -> number of its group, and the group
        self._found: dict[int, tuple[Tensor, Tensor]] = {}  # by id, with the tensor, so that no other gets its id
        self._derived: dict[int, Tensor] = {}  # what else depends on vectors

    def of(self, result: Tensor) -> Tensor | None:
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
            self._spread(op, name, args, kwargs, result)
        return result

    def _spread(self, op: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Record what an op makes of vectors: elements of vectors, or values that depend on them, which have signs of their own."""
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
        """Return the owners of what an op makes of vectors, or None."""
        place = next((place for place, value in enumerate(args) if isinstance(value, torch.Tensor) and self.of(value) is not None), None)
        if place is None or (owner := self.of(args[place])) is None:
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
        numbers = self._count + torch.arange(rows.numel()).reshape(rows.shape)
        for dim, each in vectors.items():
            own = numbers[:, : each.shape[dim]].clone()
            for row in range(rows.shape[0]):
                self._group(rows[row], own[row], backward, is_pair, is_square, rows.numel() if dim == -2 else 0)
            owner = own.reshape(*values.shape[:-1], 1, -1)
            self._found[id(each)] = each, _expand(owner if dim == -1 else owner.mT, each)
        self._count += 2 * rows.numel()

    def _group(self, values: Tensor, numbers: Tensor, backward: float, is_pair: bool, is_square: bool, apart: int) -> None:
        """Record the groups of the vectors `numbers`, which are of the first of `values`.

        Those of the singular value 0 are no pairs: the numbers of one side are set `apart`.
        """
        size = float(values.abs().max())
        known = torch.cat([values, values.new_zeros(int(is_pair and not is_square))])  # a longer side has more vectors, of the value 0
        bound, start = _CLOSE * backward * size, 0
        gaps = (values[1:] - values[:-1]).abs()
        for end in [*(gaps > bound).nonzero().flatten().add(1).tolist(), len(values)]:
            members = numbers[start:end]
            if is_pair and float(values[start:end].abs().min()) <= bound:
                members += apart
            inside = values[start:end]
            others = known[(known < inside.min() - bound) | (known > inside.max() + bound)]
            gap = float((others.unsqueeze(-1) - inside).abs().min()) if others.numel() else float("inf")
            group = int(members[0]) if len(members) else 0, Group(len(members), backward * size / gap)
            self._groups.update(dict.fromkeys(members.tolist(), group))
            start = end

    def owned(self, results: Sequence[Tensor]) -> Owned:
        """Return which elements of `results`, of the run that was watched, are of which vectors."""
        return Owned(tuple(map(self.of, results)), self._groups)


@dataclass(frozen=True)
class Owned:
    """The number of the vector that each element of each result is of, None for other results, and the group of each number."""

    owners: Sequence[Tensor | None]
    groups: Mapping[int, tuple[int, Group]]

    def turn(self, got: Sequence[Tensor], want: Sequence[Tensor]) -> list[Tensor]:
        """Return `got` with its vectors turned to those of `want`: by a sign each, or a rotation of those of equal values.

        All vectors of a number are turned alike, in all results. Elements are then moved towards those of `want` by as much as an error of
        the decomposed matrix of the size of the tolerance turns them.
        """
        parts = [_Parts(owner, one, other) if owner is not None and one.shape == other.shape == owner.shape else None
                 for owner, one, other in zip(self.owners, got, want, strict=True)]
        members: dict[int, set[int]] = defaultdict(set)
        for part in parts:
            for number in part.ours if part else ():
                members[self.groups[number][0]].add(number)
        for numbers in members.values():
            _turn([part for part in parts if part], sorted(numbers), self.groups[min(numbers)][1])
        return [part.join(one) if part else one for part, one in zip(parts, got, strict=True)]

    def to_tensors(self, labels: Sequence[str]) -> dict[str, Tensor]:
        """Return everything as tensors by name, to be saved; labels: of the results."""
        used = {number for owner in self.owners if owner is not None for number in owner.unique().tolist()}
        if not used:
            return {}
        rows = [(number, self.groups[number][0], self.groups[number][1].size) for number in sorted(used)]
        rooms = [self.groups[number][1].room for number in sorted(used)]
        owners = {f"owner/{label}": owner for label, owner in zip(labels, self.owners, strict=True) if owner is not None}
        return {**owners, "groups": torch.tensor(rows), "rooms": torch.tensor(rooms, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], labels: Sequence[str]) -> Owned | None:
        """Return what `to_tensors` saved, for the results `labels`; None if there were no vectors."""
        if not tensors:
            return None
        groups = {number: (group, Group(size, room)) for (number, group, size), room in
                  zip(tensors["groups"].tolist(), tensors["rooms"].tolist(), strict=True)}
        return cls(tuple(tensors.get(f"owner/{label}") for label in labels), groups)


class _Parts:
    """The elements of each vector in a result: `ours` by its number, and eager's."""

    def __init__(self, owner: Tensor, got: Tensor, want: Tensor) -> None:
        self._order = owner.reshape(-1).argsort(stable=True)
        numbers, counts = owner.unique(return_counts=True)
        self.ours, self.theirs = (dict(zip(numbers.tolist(), each.double().reshape(-1)[self._order].split(counts.tolist()), strict=True))
                                  for each in (got, want))

    def join(self, like: Tensor) -> Tensor:
        joined = torch.empty(like.numel(), dtype=torch.float64)
        joined[self._order] = torch.cat(list(self.ours.values()))
        return joined.reshape(like.shape).to(like.dtype)


def _turn(parts: Sequence[_Parts], numbers: Sequence[int], group: Group) -> None:
    """Turn the vectors of a group, in all results that have them. A rotation needs all of the group, in each of these results."""
    holding = [[number for number in numbers if number in part.ours] for part in parts]
    whole = all(len(held) in (0, group.size) and len({part.ours[number].numel() for number in held}) < 2
                for part, held in zip(parts, holding, strict=True))
    for chosen in [numbers] if whole else [[number] for number in numbers]:
        having = [part for part in parts if chosen[0] in part.ours]
        ours, theirs = (torch.cat([torch.stack([side[number] for number in chosen], -1) for side in sides])
                        for sides in ([part.ours for part in having], [part.theirs for part in having]))
        if not bool(torch.isfinite(ours).all() and torch.isfinite(theirs).all()):
            continue
        left, _, right = torch.linalg.svd(ours.mT @ theirs)
        for part in having:
            turned = torch.stack([part.ours[number] for number in chosen], -1) @ (left @ right)
            for column, number in enumerate(chosen):
                wanted = part.theirs[number]
                off, room = turned[:, column] - wanted, group.room * torch.linalg.vector_norm(wanted)
                part.ours[number] = wanted + off.sign() * (off.abs() - room).clamp_min(0)


def _expand(owner: Tensor, like: Tensor) -> Tensor:
    """Return the owners of the elements of `like`, in its strides, so that ops that view it can view them."""
    return torch.empty_like(like, dtype=torch.int64).copy_(owner)


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)
