"""Convolutions whose backend guards no size: it decides strides only, by conditions such as `batch < 16`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor


@contextmanager
def select_unguarded() -> Iterator[None]:
    """Suppress the guards of the choice of a backend inside the block. The shapes, which the choice checks too, are checked here."""
    before = torch._C._select_conv_backend

    def select(image: torch.Tensor, weight: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        env = image.fake_mode.shape_env if isinstance(image, FakeTensor) else None
        if env is None:
            return before(image, weight, *args, **kwargs)
        with env.suppress_guards():
            backend = before(image, weight, *args, **kwargs)
        _check_shapes(image, weight, **kwargs)
        return backend

    torch._C._select_conv_backend = select
    try:
        yield
    finally:
        torch._C._select_conv_backend = before


def _check_shapes(image: torch.Tensor, weight: torch.Tensor, *, bias: torch.Tensor | None, padding: Sequence[Any], dilation: Sequence[Any],
                  transposed: bool, groups: Any, **_: Any) -> None:
    """Check, with guards, that the weight and the bias fit the channels, and the kernel the image. Raises RuntimeError."""
    outs, ins = weight.shape[0], weight.shape[1]
    channels, results = (outs, ins * groups) if transposed else (ins * groups, outs)
    torch._check(outs % groups == 0, lambda: f"{outs} rows of the weight are not divisible by {groups} groups")
    torch._check(image.shape[1] == channels, lambda: f"the image has {image.shape[1]} channels, and the weight takes {channels}")
    if bias is not None:
        torch._check(bias.shape[0] == results, lambda: f"the bias has {bias.shape[0]} elements, and the weight gives {results} channels")
    if not transposed:
        for dim, (size, kernel) in enumerate(zip(image.shape[2:], weight.shape[2:], strict=True)):
            reach = dilation[dim % len(dilation)] * (kernel - 1) + 1
            padded = size + 2 * padding[dim % len(padding)]
            torch._check(padded >= reach, lambda padded=padded, reach=reach:
                         f"the kernel spans {reach} elements, and the padded image has {padded}")
