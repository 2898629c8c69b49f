"""Tensors kept in the form in which a consumer takes them, so that weights are converted once and not for each run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch

Convert: TypeAlias = Callable[[torch.Tensor], Any]


class Held:
    """Converted tensors, by the identity of the tensor. Each tensor is kept too, so that no other one gets its id.

    The conversion is given with each call. Kept here, it would keep its consumer and the weights in memory until a garbage collection.
    """

    def __init__(self) -> None:
        self._held: dict[int, tuple[torch.Tensor, Any]] = {}

    def hold(self, tensors: Iterable[torch.Tensor], convert: Convert) -> None:
        """Convert the tensors that are not held yet, and keep them."""
        for tensor in tensors:
            if id(tensor) not in self._held:
                self._held[id(tensor)] = (tensor, convert(tensor))

    def take(self, tensor: torch.Tensor, convert: Convert, is_lost: Callable[[Any], bool] = lambda form: False) -> Any:
        """Return the converted form of a tensor: the one that is held, converted again if it is lost, or a new one that is not kept."""
        if id(tensor) not in self._held:
            return convert(tensor)
        if is_lost(self._held[id(tensor)][1]):
            self._held[id(tensor)] = (tensor, convert(tensor))
        return self._held[id(tensor)][1]
