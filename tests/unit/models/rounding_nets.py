"""Small nets of known architectures whose sizes are rounded: pools that round up, strides, windows and patches."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from lowering.model import Model, Symbol
from tests.unit.models.policy_models import model


class Inception(nn.Module):
    """Branches of convolutions and pools beside each other, then a pool that rounds up."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(torch.cat([self.one(x), self.three(x), functional.avg_pool2d(x, 3, 1, 1)], 1)).mean((2, 3))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 4, 3, padding=1), nn.BatchNorm2d(11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([x, self.first(x)], 1)
        x = self.norm(torch.cat([x, self.second(x)], 1)).relu()
        return functional.avg_pool2d(x, 2, 2, ceil_mode=True).mean((2, 3))


class ConvNeXt(nn.Module):
    """A stride-4 stem, depthwise convolution, layer norm of channels, and a shortcut that rounds up."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm, self.mlp = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return functional.avg_pool2d(x + y, 2, 2, ceil_mode=True, count_include_pad=False).mean((2, 3))


class EfficientNet(nn.Module):
    """A convolution padded as TensorFlow does: by what the size lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads = [max((-(-size // 2) - 1) * 2 + 3 - size, 0) for size in x.shape[-2:]]
        high, wide = pads
        return self.conv(functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))).relu().mean((2, 3))


class DeepEfficientNet(nn.Module):
    """Five such convolutions, whose padding makes each size a function of the last one; by quotients of both signs."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4 if layer else 3, 4, 3, 2) for layer in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, conv in enumerate(self.convs):
            wholes = [math.ceil(size / 2) if layer % 2 else -(size // -2) for size in x.shape[-2:]]
            high, wide = (max((whole - 1) * 2 + 3 - size, 0) for whole, size in zip(wholes, x.shape[-2:], strict=True))
            x = conv(functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))).relu()
        return x.mean((2, 3))


class WindowNet(nn.Module):
    """Three stages that pad an image to whole windows, mix the pixels of each window, crop, and halve the image, as DaViT's do."""

    def __init__(self) -> None:
        super().__init__()
        self.mixes = nn.ModuleList(nn.Linear(49, 49) for _ in range(3))
        self.halves = nn.ModuleList(nn.Conv2d(3, 3, 2, 2) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for mix, half in zip(self.mixes, self.halves, strict=True):
            batch, channels, height, width = x.shape
            padded = functional.pad(x, (0, (7 - width % 7) % 7, 0, (7 - height % 7) % 7))
            rows, columns = padded.shape[2] // 7, padded.shape[3] // 7
            windows = padded.view(batch, channels, rows, 7, columns, 7).transpose(3, 4).reshape(batch, channels, rows, columns, 49)
            mixed = mix(windows).view(batch, channels, rows, columns, 7, 7).transpose(3, 4).reshape(padded.shape)
            x = mixed[:, :, :height, :width]
            x = half(functional.pad(x, (0, width % 2, 0, height % 2)))
        return x.mean((2, 3))


class MobileViT(nn.Module):
    """Folds an image into patches, and attends between the pixels of the same position in each."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        rows, columns = -(-height // 2), -(-width // 2)
        resized = functional.interpolate(x, size=(rows * 2, columns * 2), mode="bilinear", align_corners=False)
        patches = resized.reshape(batch * channels * rows, 2, columns, 2).transpose(1, 2)
        patches = patches.reshape(batch, channels, rows * columns, 4).transpose(1, 3)
        patches = functional.scaled_dot_product_attention(patches, patches, self.mix(patches))
        return patches.mean(2)


NETS = (Inception, DenseNet, ConvNeXt, EfficientNet, DeepEfficientNet, WindowNet, MobileViT)


def net(kind: type[nn.Module]) -> Model:
    least = 29 if kind is WindowNet else 16  # two windows at the last stage: torch takes the layout of a single one for another
    return model(kind, {"b": Symbol(1, 4), "h": Symbol(least, 64), "w": Symbol(least, 64)}, x=("b", 3, "h", "w"))
