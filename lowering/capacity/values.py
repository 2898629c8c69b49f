"""Values that the rules of ops work on: padded tensors with the counts of their dims, and the numbers that data decide."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import sympy
import torch

Tensor: TypeAlias = torch.Tensor


class NoRule(Exception):
    """A form of an op through which counts cannot be carried; the text says why."""


@dataclass(frozen=True)
class Number:
    """A number that data decide: `value` is a 0-d tensor of int64, float64 or bool."""

    value: Tensor


@dataclass(frozen=True)
class Dim:
    """A dim of a tensor. size: its true size as an expression; length: the padded one; count: the true one as a 0-d tensor, if padded."""

    size: sympy.Expr
    length: Any
    count: Tensor | None = None

    @property
    def true(self) -> Any:
        """The true size: a 0-d tensor where data decide it, else an int or SymInt."""
        return self.length if self.count is None else self.count


@dataclass(frozen=True)
class Counted:
    """A tensor of which data decide some dims. Along each of these the first `count` places hold elements and the rest anything.

    It is no tensor on purpose: an op cannot take it without a rule's saying what becomes of the padding.
    """

    data: Tensor
    dims: tuple[Dim, ...]

    @property
    def counted(self) -> tuple[int, ...]:
        """The positions of the padded dims."""
        return tuple(position for position, dim in enumerate(self.dims) if dim.count is not None)

    def has(self, *positions: int) -> bool:
        """Return whether one of these dims is padded."""
        return any(position % max(1, len(self.dims)) in self.counted for position in positions)

    def mask(self, *positions: int) -> Tensor:
        """Return where elements are, as bools that broadcast to the tensor: along the padded dims of `positions`, by default of all."""
        chosen = [position % len(self.dims) for position in positions] if positions else self.counted
        masks = []
        for position in chosen:
            if (count := self.dims[position].count) is not None:
                shape = [1] * len(self.dims)
                shape[position] = -1
                masks.append((torch.arange(self.dims[position].length) < count).reshape(shape))
        return functools.reduce(torch.logical_and, masks)

    def fill(self, value: Any, *positions: int) -> Tensor:
        """Return the tensor with `value` for the padding along the padded dims among `positions`, by default along all."""
        if not (self.has(*positions) if positions else self.counted):
            return self.data
        other = torch.full((), value, dtype=self.data.dtype)
        return torch.where(self.mask(*positions), self.data, other)


@dataclass
class Call:
    """A call of an op under rewriting. results: the padded dims of each result that is a tensor; dtypes: theirs.

    counts: what the rule says about the dims that the op decides. checks: conditions of the run, with what they say.
    """

    op: Any
    results: Sequence[tuple[Dim, ...]]
    dtypes: Sequence[torch.dtype] = ()
    used: frozenset[int] = frozenset()  # the results that the program uses, of an op with several
    counts: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    checks: list[tuple[Tensor, str]] = field(default_factory=list)
    mask_count: Any = None  # how many elements the mask of an index selects

    def lengths(self, result: int = 0) -> list[Any]:
        """Return the padded sizes of a result."""
        return [dim.length for dim in self.results[result]]

    def decide(self, count: Tensor, result: int = 0, position: int = 0) -> None:
        """Say how many places of a dim of a result hold elements."""
        self.counts[result, position] = count.to(torch.int64).reshape(())

    def check(self, condition: Tensor, text: str) -> None:
        """Require a condition of the run; eager raises where it does not hold."""
        self.checks.append((condition.reshape(()), text))


Rule: TypeAlias = Callable[..., Any]


def plain(value: Any) -> Tensor:
    """Return the data of a tensor, padded or not."""
    return value.data if isinstance(value, Counted) else value  # type: ignore[no-any-return]


def number(value: Any) -> Any:
    """Return a number that data decide as a 0-d tensor, and others as they are."""
    return value.value if isinstance(value, Number) else value


def true_sizes(value: Any) -> list[Any]:
    """Return the true sizes of a tensor: 0-d tensors where data decide them, else ints."""
    return [dim.true for dim in value.dims] if isinstance(value, Counted) else list(value.shape)


def lowest(dtype: torch.dtype) -> Any:
    """Return the lower bound of all elements of a dtype: False, minus infinity, or the smallest integer."""
    return False if dtype is torch.bool else -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def highest(dtype: torch.dtype) -> Any:
    """Return the upper bound of all elements of a dtype, not counting NaN: True, infinity, or the largest integer."""
    return True if dtype is torch.bool else math.inf if dtype.is_floating_point else torch.iinfo(dtype).max


def last(dtype: torch.dtype, descending: bool) -> Any:
    """Return a value that a stable sort puts after all elements that precede it. NaN counts as the largest number."""
    if descending:
        return lowest(dtype)
    return math.nan if dtype.is_floating_point else highest(dtype)


def as_count(tensor: Counted, position: int) -> Tensor:
    """Return the count of a padded dim."""
    count = tensor.dims[position].count
    if count is None:
        raise NoRule(f"dim {position} is not padded")
    return count
