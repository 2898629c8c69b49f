"""Random weights that a numerics check can see: no bias of zeros, no scale of ones."""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _NormBase


@torch.no_grad()
def spread(module: torch.nn.Module, by: float = 0.1) -> None:
    """Scatter every parameter and running statistic that its initialiser left constant, uniformly by at most `by` (relative if not 0).

    A lowering that drops a bias or swaps mean and variance computes the right numbers as long as they are 0 and 1.
    Draws from torch's current seed.
    """
    found: list[torch.Tensor] = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    for norm in module.modules():
        if isinstance(norm, _NormBase):
            found += [statistic for statistic in (norm.running_mean, norm.running_var) if statistic is not None]
    for tensor in found:
        if _constant(tensor):
            noise = torch.empty_like(tensor).uniform_(-by, by)
            tensor.copy_(torch.where(tensor == 0, noise, tensor * (1 + noise)))


def _constant(tensor: torch.Tensor) -> bool:
    flat = tensor.flatten()
    few = flat[:64]  # decides for nearly every drawn tensor, however large
    return bool(flat.numel() and (few == flat[0]).all() and (flat == flat[0]).all())
