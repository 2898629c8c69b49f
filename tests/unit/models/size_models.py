"""Models whose sizes are no sums of symbols: windows, halves, TensorFlow's padding, floats."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Windows(nn.Module):
    """Pads to whole windows of 7 x 7 and parts them; the count of windows is a result's size, squared."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, w = x.shape[2:]
        padded = functional.pad(x, (0, (7 - w % 7) % 7, 0, (7 - h % 7) % 7))
        b, c, h, w = padded.shape
        parted = padded.view(b, c, h // 7, 7, w // 7, 7).permute(0, 2, 4, 3, 5, 1)
        return parted.reshape(b * (h // 7) * (w // 7), 49, c), x.new_ones((h // 7) ** 2)


class SamePooling(nn.Module):
    """Max pooling with the padding that TensorFlow calls `same`."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, w = x.shape[2:]
        rows, columns = math.ceil(h / 2), math.ceil(w / 2)
        high, wide = torch.sym_max((rows - 1) * 2 + 3 - h, 0), torch.sym_max((columns - 1) * 2 + 3 - w, 0)
        padded = functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return functional.max_pool2d(padded, 3, 2), x[:, :, :rows, :columns]


class FloatSizes(nn.Module):
    """Sizes and factors that come of floats."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        h, w = x.shape[2:]
        centers = math.ceil((-0.5 + torch.sym_float(w // 4)) / 1.0) + 2
        halves = math.ceil((1 + (h - 1) // 8) / 2) + 2
        scaled = math.trunc(1.9 * torch.sym_float(h)) + 2
        rounded = round(w * 0.5) + 2
        factors = x * (w**0.5) / (2**h) + torch.sym_sqrt(h) * torch.sym_min(64.0 / h, 48.0 / w) - torch.sym_float(h) % 2.5
        return (x.new_ones(centers, scaled), x.new_ones(rounded, halves), factors,
                functional.interpolate(x, scale_factor=0.6, mode="bilinear"))
