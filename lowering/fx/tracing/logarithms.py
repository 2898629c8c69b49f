"""Logarithms of sizes: rounded and compared in integers, with Python's result for each size; data in all other uses."""

from __future__ import annotations

import math
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering.ops import symbolic

_LARGEST = (1 << 31) - 1  # of sizes without a bound, which are int32 in MHLO


class Logarithm(torch.SymFloat):
    """A growing function of a size, such as math.log2.

    size: an int of 1 or more; function: of an int, 0 at 1; read: returns the function of `size` as a symbolic float that is data.
    """

    def __init__(self, size: torch.SymInt, function: Callable[[int], float], read: Callable[[], torch.SymFloat]):
        self.size, self.function, self.read = size, function, read  # the base's __init__ would set `node`, which makes ops in the graph

    @cached_property
    def value(self) -> torch.SymFloat:
        """The value as data, for all uses but rounding and comparisons."""
        return self.read()

    @property
    def node(self) -> Any:
        return self.value.node

    def __ceil__(self) -> Any:
        return count_steps(self.size, lambda size: math.ceil(self.function(size)))

    def __floor__(self) -> Any:
        return count_steps(self.size, lambda size: math.floor(self.function(size)))

    __trunc__ = __floor__

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.value, digits) if digits is not None else count_steps(self.size, lambda size: round(self.function(size)))

    def __int__(self) -> int:
        return int(self.__floor__())

    def __float__(self) -> float:
        return self.function(int(self.size))

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __gt__(self, other: Any) -> Any:
        return self.size >= self._find_beyond(other) if _is_number(other) else self.value > unwrap(other)

    def __ge__(self, other: Any) -> Any:
        return self.size >= self._find_first(other) if _is_number(other) else self.value >= unwrap(other)

    def __lt__(self, other: Any) -> Any:
        return self.size < self._find_first(other) if _is_number(other) else self.value < unwrap(other)

    def __le__(self, other: Any) -> Any:
        return self.size < self._find_beyond(other) if _is_number(other) else self.value <= unwrap(other)

    def __eq__(self, other: Any) -> Any:
        return (self >= other) & (self <= other) if _is_number(other) else self.value == unwrap(other)

    def __ne__(self, other: Any) -> Any:
        return (self < other) | (self > other) if _is_number(other) else self.value != unwrap(other)

    __hash__ = None  # type: ignore[assignment]  # as of a symbolic float

    def _find_first(self, least: float) -> int:
        torch._check(self.size >= 1)
        return _find_first(lambda size: self.function(size) >= least, _find_largest(self.size))

    def _find_beyond(self, most: float) -> int:
        torch._check(self.size >= 1)
        return _find_first(lambda size: self.function(size) > most, _find_largest(self.size))


def _delegate(function: Callable[..., Any], is_reflected: bool = False) -> Callable[..., Any]:
    return lambda self, *others: function(*map(unwrap, (*others, self) if is_reflected else (self, *others)))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Logarithm, f"__{_name}__", _delegate(getattr(operator, _name)))
    setattr(Logarithm, f"__r{_name}__", _delegate(getattr(operator, _name), is_reflected=True))
for _name in ("neg", "pos", "abs"):
    setattr(Logarithm, f"__{_name}__", _delegate(getattr(operator, _name)))


_MAY_HOLD = (Logarithm, list, tuple)


class Steps(torch.SymInt):
    """A number of steps that a size has reached. As a plain int it narrows the range of the size, where torch would keep the sum.

    firsts: the first size of each step, in order.
    """

    def __init__(self, size: torch.SymInt, firsts: Sequence[int]):
        super().__init__(sum(torch.sym_min(1, size // first) for first in firsts).node)  # type: ignore[union-attr]
        self.size, self.firsts = size, firsts

    def __int__(self) -> int:
        if not self.size.node.has_hint():
            return super().__int__()
        reached = bisect_right(self.firsts, self.size.node.hint)
        for first in self.firsts[max(reached - 1, 0) : reached + 1]:
            bool(self.size >= first)  # a guard
        return reached

    __index__ = __int__


def count_steps(size: torch.SymInt, function: Callable[[int], int]) -> Any:
    """Return a function of a size that is 0 at 1, and grows by whole steps."""
    torch._check(size >= 1)
    largest = _find_largest(size)
    firsts = [_find_first(lambda value, step=step: function(value) >= step, largest)  # type: ignore[misc]
              for step in range(1, function(largest) + 1)]
    return Steps(size, firsts) if firsts else 0


def find_bit_length(size: torch.SymInt) -> Any:
    """Return int.bit_length of a size, or of a difference of sizes."""
    size = size if symbolic.find_range(size).lower >= 0 else abs(size)
    return Steps(size, [1 << bit for bit in range(_find_largest(size).bit_length())])


def unwrap(value: Any) -> Any:
    """Return the value of a logarithm as data, and others as they are."""
    return value.value if isinstance(value, Logarithm) else value


def unwrap_all(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments of a call with the values of logarithms, which may be in lists."""
    for arg in (*args, *kwargs.values()) if kwargs else args:  # a loop, as torch calls this for each attribute of a tensor
        if isinstance(arg, _MAY_HOLD):
            return pytree.tree_map(unwrap, (args, kwargs))  # type: ignore[no-any-return]
    return args, kwargs


def _find_first(is_reached: Callable[[int], bool], largest: int) -> int:
    """Return the first size from 1 for which a condition holds that holds for all later ones, `largest + 1` if there is none."""
    return 1 + bisect_left(range(1, largest + 1), True, key=is_reached)


def _find_largest(size: torch.SymInt) -> int:
    upper = symbolic.find_range(size).upper
    return max(1, int(upper)) if upper.is_Integer else _LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
