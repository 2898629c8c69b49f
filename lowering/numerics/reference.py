"""What a comparison holds a program to: the results of eager on one set of inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import torch

from lowering import types
from lowering.numerics.running.xla import to_numpy


class Results(Sequence[torch.Tensor]):
    """Results that are computed when they are first accessed. elements: the number of elements of all."""

    def __init__(self, compute: Callable[[], Sequence[torch.Tensor]], elements: int) -> None:
        self._compute, self.elements = compute, elements

    @cached_property
    def _tensors(self) -> Sequence[torch.Tensor]:
        return tuple(self._compute())

    @overload
    def __getitem__(self, index: int) -> torch.Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[torch.Tensor]: ...

    def __getitem__(self, index: int | slice) -> torch.Tensor | Sequence[torch.Tensor]:
        return self._tensors[index]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


@dataclass(frozen=True)
class Reference:
    """The results of eager on one set of inputs, and its CPU seconds; runs: more of them, of a model that draws random numbers.

    is_close: whether float32 results are held to what rounding explains, as those of halves always are. known: the digest of the results,
    where it is known.
    """

    want: Sequence[torch.Tensor]
    seconds: float = 0.0
    runs: tuple[tuple[torch.Tensor, ...], ...] = ()
    is_close: bool = False
    known: str = ""

    @property
    def elements(self) -> int:
        return self.want.elements if isinstance(self.want, Results) else sum(value.numel() for value in self.want)

    @cached_property
    def digest(self) -> str:
        return self.known or digest_all(self.want)


def digest_named(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of names, dtypes, shapes and bytes."""
    return hashlib.sha256(json.dumps([list(tensors), digest_all(list(tensors.values()))]).encode()).hexdigest()


def digest_all(tensors: Sequence[torch.Tensor]) -> str:
    """Return a digest of dtypes, shapes and bytes, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        content = to_numpy(tensor)
        digest.update(json.dumps([types.dtype_name(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(content.reshape(-1).view("uint8").data)
    return digest.hexdigest()
