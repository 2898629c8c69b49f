"""Modules that index, slice, roll, pad and fill in everyday forms that a later level gets wrong or refuses."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Slices(nn.Module):
    """Bounds before the start, past the end, crossed, and with steps, of a dim of constant size and of one that is not."""

    BOUNDS = ((-2, -1, 1), (-4, -2, 1), (2, 5, 1), (None, -5, 1), (1, 0, 1), (0, 0, 1), (5, 2, 1), (5, 100, 1), (-100, -3, 1), (1, 6, 2),
              (-5, -1, 2))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [tensor[:, start:end:step] * 2 for tensor in (x, y) for start, end, step in self.BOUNDS]


class OneBeforeTheLast(nn.Module):
    """A slice that is empty at size 1, where torch traces it to be of size 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, -2:-1] * 2


class Scattered(nn.Module):
    """The same bounds as places to write."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [torch.slice_scatter(tensor, tensor[:, start:end:step] * 2, 1, start, end, step) for tensor in (x, y)
                for start, end, step in Slices.BOUNDS]  # fmt: skip


class Rolled(nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        shifts: Any = (((1, 1), (1, 2)), ((-3, 5), (1, 2)), ((1, 2, -9), (0, 1, 2)), ((1, 2), (1, 1)), ((x.shape[1],), (2,)))
        return [torch.roll(x, by, dims) for by, dims in shifts] + [torch.roll(x, -7)]


class Same(nn.Module):
    """padding='same' with even kernels, which pads one more at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(3, 2, 4, padding="same", dilation=3)
        self.plane = nn.Conv2d(1, 2, (4, 2), padding="same")
        self.space = nn.Conv3d(1, 2, (2, 3, 4), padding="same", dilation=(1, 2, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        whole = x.unsqueeze(1)
        return self.line(x), self.plane(whole), self.plane(whole[:, :, :3, :3]), self.space(whole.unsqueeze(2))


class Filled(nn.Module):
    """Numbers assigned to slices, rows and masked elements."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, z, w = x.clone(), mask.clone(), x.clone()
        y[:, 0] = 0
        y[0, -2:] = 7
        z[:, -1] = True
        w[mask] = 3.0
        w[~mask[:, 1]] = torch.arange(4.0)
        w[:, mask[0]] = x[:, :1] * 2
        return y, z, w, torch.index_put(x, (mask,), torch.tensor(2.0), accumulate=True)


class ConstantMask(nn.Module):
    """Masks that are known when the module is traced."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x.clone()
        y[:, torch.arange(4) > 1] = torch.tensor([5.0, 6.0])
        kept = x[:, torch.tensor([True, False, True, False])]
        return y, kept, kept.reshape(-1, 1), x[:, torch.tensor([[True, False], [False, True]]).flatten()].sum(1)


class Masked(nn.Module):
    """As many rows as the data says."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x[mask] * 2


class MaskedColumns(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1)[:, mask] * 2


class Buckets(nn.Module):
    def forward(self, edges: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ordered = edges.sort().values
        return torch.bucketize(x, ordered), torch.bucketize(x, ordered, right=True, out_int32=True), torch.bucketize(0.3, ordered)


class Attention(nn.Module):
    """Heads of a width that is not constant."""

    def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)


class Transposed(nn.Module):
    """A transposed convolution whose kernel is an argument."""

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv_transpose2d(x, w, stride=2)


class LargerSource(nn.Module):
    """Scatters whose source is larger than their index, and other views that are written or squeezed."""

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        source = torch.cat([x, x], 1)
        return (x.scatter_reduce(1, index, source, "sum"), x.scatter_add(1, index, source), x.unflatten(1, (2, 2)).squeeze(1),
                torch.as_strided_scatter(x, x.new_ones(1, 2), (1, 2), (1, 2), 1))  # fmt: skip


class Named(nn.Module):
    """Arguments, modules and buffers whose names are not in lower case, or not in ASCII."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("größe", nn.Linear(4, 4))
        self.register_buffer("Äb", torch.ones(4))

    def forward(self, X: torch.Tensor, inputIds: torch.Tensor, größe: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"Y": self.größe(X) + inputIds * größe.sum() + self.get_buffer("Äb"), "ü": X.view(größe.shape[0], -1)}


class Mapped(nn.Module):
    """vmap, once and nested, with and without a shared argument."""

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = x.unsqueeze(1)
        return (torch.vmap(lambda row: row.sum())(x), torch.vmap(torch.vmap(torch.dot))(rows, rows),
                torch.vmap(torch.matmul, (0, None))(x, w))


class MappedColumns(nn.Module):
    """vmap along another dim than the first, and with a matrix that is an argument of the module."""

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.vmap(lambda column: column.softmax(0), 1, 1)(x), torch.vmap(lambda row: w.T @ row)(x)


class Wide(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, (4,))


class Rounded(torch.autograd.Function):
    """Rounding with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, low: float) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(x)
        ctx.low = low
        return x.round(), x.mean(1)

    @staticmethod
    def backward(ctx: Any, *by: Any) -> Any:
        (x,) = ctx.saved_tensors
        return by[0] * 7 * (x > ctx.low) + by[1].unsqueeze(1) / x.shape[1], None


class RoundedBy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, size: int) -> torch.Tensor:
        return x.round() * size

    @staticmethod
    def backward(ctx: Any, *by: Any) -> Any:
        return by[0], None


class Straight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        rounded, mean = Rounded.apply(self.linear(x) * 4, 0.1)
        return {"loss": rounded.square().mean() + mean.sum()}


class StraightBySize(Straight):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": RoundedBy.apply(self.linear(x), x.shape[0]).sum()}
