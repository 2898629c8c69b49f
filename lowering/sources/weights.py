"""Random weights that make numerics checks effective: no biases of zeros, no scales of ones."""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _NormBase


@torch.no_grad()
def spread(module: torch.nn.Module, by: float = 0.1) -> None:
    """Perturb every parameter and running statistic that its initialiser left constant, uniformly by at most `by` (relative if not 0).

    While they are 0 and 1, a lowering that drops a bias or swaps mean and variance still computes correct numbers.
    Draws from torch's current seed.
    """
    found: list[torch.Tensor] = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    for norm in module.modules():
        if isinstance(norm, _NormBase):
            found += [statistic for statistic in (norm.running_mean, norm.running_var) if statistic is not None]
    for tensor in found:
        if _is_constant(tensor):
            noise = torch.empty_like(tensor).uniform_(-by, by)
            tensor.copy_(torch.where(tensor == 0, noise, tensor * (1 + noise)))


def _is_constant(tensor: torch.Tensor) -> bool:
    flat = tensor.flatten()
    few = flat[:64]  # enough for almost every random tensor, however large
    return bool(flat.numel() and (few == flat[0]).all() and (flat == flat[0]).all())
