"""Small modules to train: norms with state, weights that are not trained, randomness, regions without gradients."""

from __future__ import annotations

import torch
from torch import nn
from torch._higher_order_ops.scan import scan
from torch.utils.checkpoint import checkpoint


class Classifier(nn.Module):
    """(batch, 4) -> {"logits": (batch, 3)}: batch norm, a frozen layer, and a parameter that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.frozen = nn.Linear(6, 6)
        self.frozen.requires_grad_(False)
        self.unread = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.head(torch.tanh(self.frozen(self.norm(self.up(x)))))}


class Dropping(nn.Module):
    """(batch, 4) -> its own loss, with dropout in a module and in a call."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(p))
        self.p = p

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.body(x)
        return {"loss": nn.functional.dropout(hidden, self.p, self.training).square().mean(), "hidden": hidden}


class Convolved(nn.Module):
    """(batch, 4) -> its own loss, by a convolution, whose backend torch chooses by the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.layer(x.view(-1, 1, 2, 2)).square().mean()}


class Stopped(nn.Module):
    """(batch, 4) -> its own loss; what flows through a region without gradients is a constant of the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.layer(x)
        with torch.no_grad():
            target = self.layer(x).flip(1) * 2
        return {"loss": (hidden - target).square().mean(), "input": x}


class Pictures(nn.Module):
    """(batch, 3, 12, 12) and labels -> its own loss: convolutions of several kinds, batch norm, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        )  # fmt: skip

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.body(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Solved(nn.Module):
    """(batch, 4) -> its own loss, by a linear system, and a pooling that torch composes in training."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(4) * 3 + torch.arange(16.0).view(4, 4).sin())

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        solution = torch.linalg.solve(self.matrix, x.t())
        return {"loss": nn.functional.adaptive_avg_pool1d(solution.unsqueeze(0).square(), 2).sum() + torch.linalg.inv(self.matrix)[0].sum()}


class Lone(nn.Module):
    """(batch, 4) -> its loss alone, of an image at points that a normed layer chooses, in every padding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        self.image = nn.Parameter(torch.arange(24.0).view(1, 2, 3, 4).cos())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        points = torch.cat([self.layer(x), self.layer.weight.new_tensor([[-1.0, 1.0]])]).view(1, 1, -1, 2)  # and a corner
        taken = [nn.functional.grid_sample(self.image, points, mode, padding, align_corners=True)
                 for mode, padding in (("bilinear", "border"), ("bicubic", "reflection"), ("bilinear", "zeros"), ("nearest", "zeros"))]
        volume = nn.functional.grid_sample(self.image.unsqueeze(2), nn.functional.pad(points, (0, 1)).unsqueeze(1), align_corners=False)
        return torch.stack(taken).square().sum() + volume.square().sum()


class Counted(nn.Module):
    """(batch, 4) -> its loss alone, from a spectral norm's power iterations, an embedding with scaled gradients, and a counter."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
        self.table = nn.Embedding(5, 4, scale_grad_by_freq=True)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return self.layer(x + self.table((x[:, 0] > 0).long())).square().mean() * self.count


class Shifted(nn.Module):
    """(rows, tokens) -> its loss alone: each next token from the two before it, and a total variation."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4, sparse=True)
        self.window, self.head = nn.Conv1d(4, 4, 2), nn.Linear(4, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.window(self.table(tokens).mT).mT
        loss = nn.functional.cross_entropy(self.head(hidden)[:, :-1].reshape(-1, 5), tokens[:, 2:].reshape(-1))
        return loss + (hidden[:, 1:] - hidden[:, :-1]).abs().mean()


class Spectral(nn.Module):
    """(batch, 4) -> its loss alone, by Fourier transforms of real numbers along the batch and signs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(x)
        spectrum = torch.fft.rfft(hidden, dim=0)
        back = torch.fft.irfft(spectrum * spectrum.sgn(), n=x.shape[0], dim=0) * hidden.sgn()
        return back.square().sum() + torch.fft.rfft2(hidden).abs().sum() + torch.fft.hfft(spectrum, n=x.shape[0], dim=0).sum()


class Fitted(nn.Module):
    """(batch, 4) -> its loss alone: a ridge regression, whose matrix has equal singular values, and those of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(x)
        ridge, wanted = torch.cat([hidden, torch.eye(4)]), torch.cat([hidden.sin(), torch.zeros(4, 4)])
        return torch.linalg.lstsq(ridge, wanted).solution.square().sum() + torch.linalg.svdvals(hidden).sum()


class Written(nn.Module):
    """(batch, 4) -> its loss alone, from rows that are written one by one and two by two."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(x)
        hidden[1::2] = torch.tanh(hidden[:1])
        hidden[::2, 1:3] = self.layer(x[::2])[:, :2]
        padded = nn.functional.pad(hidden.mT, (2, 1))[:, 1:]
        return padded.square().sum()


class Scanned(nn.Module):
    """(batch, 4) -> its loss alone, by a recurrence over the batch, and branches of which one alone reads a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.other, self.start = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last, rows = scan(lambda state, row: (torch.tanh(self.layer(state) + row), state * row), self.start, x)
        chosen = torch.cond(x.sum() > 0, lambda value: self.other(value), lambda value: value * self.layer.weight.sum(), (rows,))
        return chosen.square().sum() + last.sum()


class Averaged(nn.Module):
    """(batch, 4) -> its loss alone, through a batch norm, twice, whose running statistics are those of all batches so far."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, momentum=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.norm(self.norm(x) * 2 + 1)).square().mean()


class Penalized(nn.Module):
    """(batch, 4) -> its loss alone, with a penalty on the gradient of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda y: torch.tanh(self.layer(y)).sum())(x).norm(dim=1).sub(1).square().mean()


class Checkpointed(nn.Module):
    """(batch, 4) -> its loss alone; a part is run again in the backward."""

    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.first, self.second, self.use_reentrant = nn.Linear(4, 8), nn.Linear(8, 1), use_reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        part = checkpoint(lambda y: torch.relu(self.first(y)), self.second.weight.sum() * x, use_reentrant=self.use_reentrant)
        return self.second(part).square().mean() + self.first(x).square().mean()
