"""Batch norms whose running statistics are plain averages of all batches so far: `momentum=None`, in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

_forward = _BatchNorm.forward


def list_replacements() -> dict[tuple[Any, str], Callable[..., Any]]:
    """Return what replaces the methods of torch's batch norms, by owner and name."""
    return {(_BatchNorm, "forward"): _normalize}


def _normalize(module: _BatchNorm, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
    """Return `module(input)`. torch's own reads the number of batches as a Python float, which is data here."""
    mean, var, count = module.running_mean, module.running_var, module.num_batches_tracked
    if module.momentum is not None or not module.training or mean is None or var is None or count is None:
        return _forward(module, input)
    module._check_input_dim(input)
    count.add_(1)
    of_batch = [torch.zeros_like(mean), torch.zeros_like(var)]  # momentum 1 makes them the statistics of the batch alone
    result = functional.batch_norm(input, *of_batch, module.weight, module.bias, training=True, momentum=1.0, eps=module.eps)
    factor = 1 / count.double()
    for running, new in zip((mean, var), of_batch, strict=True):
        running.copy_(factor * new + (1 - factor) * running)
    return result
