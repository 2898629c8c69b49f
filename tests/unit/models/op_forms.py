"""Modules that use ops in forms which a later level refuses, or takes apart at a price."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


class Window(nn.Module):
    """Local windows: a padded picture is pooled by a kernel larger than any picture, as classifiers do last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 4096, ceil_mode=True)


class Rotation(nn.Module):
    """Positions as complex numbers, which a real one scales."""

    def forward(self, x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        turned = torch.view_as_complex(x) * (torch.polar(torch.ones_like(angle), angle) * 0.5)
        return torch.view_as_real(turned * angle)


class Parts(nn.Module):
    """A tensor that is written in two parts, the second up to its end."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        whole = x.new_zeros(x.shape[0], 6)
        whole[:, :2] = x
        whole[:, 2:] = y
        return whole


class Ends(nn.Module):
    """A tensor that is written at places counted from its end."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        whole = x * 2
        whole[:, -1] = y
        whole[:, -4:-2] = x[:, :2]
        return whole


class Repeated(nn.Module):
    """A bias whose heads are moved to the front, repeated for each picture and viewed: a repeat is a copy, so the view is valid."""

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        batch, length = x.shape[:2]
        repeated = bias.permute(2, 0, 1).unsqueeze(0).repeat(batch, 1, 1, 1)
        return repeated.view(batch * 4, length, length).bmm(x.repeat_interleave(4, 0))


class Resized(nn.Module):
    """A map as large as another one."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, size=y.shape[-2:]) + y


class WeightNorm(nn.Module):
    """A convolution whose weight is a direction and a length for each place of the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3), dim=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class Unfolded(nn.Module):
    """Windows over a sequence, as im2col gives them: in memory they lie otherwise than tracing thinks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = nn.functional.unfold(x.transpose(1, 2).unsqueeze(-1), (3, 1), padding=(1, 0))
        return windows.transpose(1, 2).reshape(x.shape[0], -1, 4, 3) * 2


class Regrouped(nn.Module):
    """A view whose number of rows is a quotient by a size, so that its guards divide by one."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.view(y.shape[0], -1, 4) + y


class Composed(nn.Module):
    """Functions that torch composes of others by the sizes at hand."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        products = torch.kron(x, y), torch.linalg.multi_dot([x, y, y.t()]), torch.vander(x[0], 3)
        spread = x.t().cov(correction=0, aweights=x[:, 0].abs() + 0.1), torch.corrcoef(x), torch.cov(x[:, 0])
        grids = [nn.functional.affine_grid(y[:2].reshape(1, 2, 3), (1, 1, *x.shape), align_corners=aligned) for aligned in (True, False)]
        named = torch.cdist(x1=x, x2=x), torch.div(input=x, other=2), nn.functional.max_pool1d(input=x, kernel_size=2)
        named += (nn.functional.conv2d(input=x[None, None], weight=torch.ones(1, 1, 2, 2)),)
        return *products, *named, *x.tensor_split(3, 1), nn.functional.gaussian_nll_loss(x, x * 2, x.abs() + 0.1), *spread, *grids


class Solved(nn.Module):
    """Loops: elimination, and Euclid's algorithm."""

    def forward(self, x: torch.Tensor, i: torch.Tensor) -> tuple[torch.Tensor, ...]:
        regular = x + 4 * torch.eye(3)
        solved = torch.linalg.solve(regular, x), torch.linalg.solve(regular, x[..., 0]), torch.linalg.solve(regular, x[:, :2], left=False)
        return torch.inverse(regular), *solved, torch.gcd(i, i + 6), torch.lcm(i, i + 4)


class Unbatched(nn.Module):
    """Convolutions of one image without a batch dim."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.back(self.conv(x))  # type: ignore[no-any-return]


class Margins(nn.Module):
    """Losses over labels, which end at the first -1."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        single = y[:, 0].clamp(min=0)
        weighted = nn.functional.multi_margin_loss(x, single, p=2, weight=torch.arange(5) * 0.5, reduction="none")
        return nn.functional.multilabel_margin_loss(x, y), nn.functional.multi_margin_loss(x, single), weighted


class Selected(nn.Module):
    """Dims that are split again, and selections of nothing."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.flatten(1).unflatten(1, (x.shape[1], 4)), x.flatten(0, 1).unflatten(0, (-1, x.shape[1])), x[:, :, []]


class Flexible(nn.Module):
    """Attention with a bias by distance, masks, grouped heads, and the log-sum-exp; some rows are masked completely."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(4, 50))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def biased(score: torch.Tensor, batch: torch.Tensor, head: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
            return torch.where(row >= column, score + self.bias[head, row - column], -torch.inf)

        def near(batch: torch.Tensor, head: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
            return ((row - column).abs() < 3) & (row > 1)

        size = x.shape[2]
        block = create_block_mask(near, None, None, size, size, device="cpu")
        output, sums = flex_attention(x, y, y, block_mask=block, scale=0.3, enable_gqa=True, return_lse=True)
        return output, sums, flex_attention(x, y, y, score_mod=biased, enable_gqa=True)  # type: ignore[return-value]
