"""Keys' kernel of bicubic interpolation, by the distance of an input from the position of an output.

`a` is the slope at distance 1: -0.75 in OpenCV and eager, -0.5 in Pillow and eager with antialiasing.
"""

from __future__ import annotations

import torch


def weigh_near(distance: torch.Tensor, a: float) -> torch.Tensor:
    """Return the kernel at distances from 0 to 1."""
    return ((a + 2) * distance - (a + 3)) * distance * distance + 1


def weigh_far(distance: torch.Tensor, a: float) -> torch.Tensor:
    """Return the kernel at distances from 1 to 2."""
    return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
