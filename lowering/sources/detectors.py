"""The detectors of torchvision, with random weights that make a difference: their own start gives every box the same score."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from lowering.errors import LoadError, Problem

INSTALL = "pip install 'shapeline[detection]', for the build of torch that is installed"


def build(model: str, **kwargs: Any) -> nn.Module:
    """Return a detector of `torchvision.models.detection` by its name; it takes a list of images (3, height, width).

    Weights are scaled so that the output of each layer has the deviation 1 on an image of noise. Raises LoadError without torchvision, or
    where its ops are built for another torch.
    """
    place = f"the detector '{model}'"
    try:
        detection = importlib.import_module("torchvision.models.detection")
    except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError where its ops do not load
        raise LoadError(Problem(place, f"needs torchvision, which does not load: {error}", INSTALL)) from error
    if (create := getattr(detection, model, None)) is None:
        raise LoadError(Problem(place, "is no function of torchvision.models.detection"))
    made: nn.Module = create(weights=None, weights_backbone=None, **kwargs)
    made.eval()
    layers = [part for part in made.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    hooks = [layer.register_forward_hook(_scale) for layer in layers]
    with torch.no_grad():
        made([torch.rand(3, 96, 96)])
    for hook in hooks:
        hook.remove()
    return made


def _scale(layer: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
    """Scale the weights of a layer, and its output, so that this has the deviation 1."""
    deviation = output.std() if output.numel() > 1 else output.new_ones(())
    if deviation == 0:
        return output
    layer.weight.div_(deviation)
    return output / deviation
