"""Small models in which benchmarks.planted plants faults of whole programs.

They have caches, quantized layers, complex numbers, gradients, scans and capacities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.planted_models import declare
from lowering.model import Input, Model, Symbol

WIDTH = 8


class Slots(nn.Module):
    """A cache of fixed length, written at a position, and attention over what it holds up to there."""

    def forward(self, x: Tensor, position: Tensor, keys: Tensor) -> dict[str, Tensor]:
        written = keys.index_copy(1, position, x[:, None])
        reached = torch.arange(written.shape[1]) <= position
        scores = (written @ x[:, :, None])[:, :, 0].masked_fill(~reached, float("-inf"))
        return {"output": (scores.softmax(-1)[:, :, None] * written).sum(1), "keys": written}


class Integer(nn.Module):
    """A layer in int8 with scales per row and per channel, and a zero point."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randint(-128, 128, (WIDTH, WIDTH), dtype=torch.int8))
        self.register_buffer("scales", torch.rand(WIDTH) / 64 + 0.01)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scale = x.abs().amax(-1, keepdim=True) / 100
        quantized = (x / scale + 3).round().clamp(-128, 127).to(torch.int8)
        total = (quantized.to(torch.int32) - 3) @ self.weight.to(torch.int32)
        return {"output": total * scale * self.scales, "quantized": quantized,
                "saturated": (x * 90).round().clamp(-128, 127).to(torch.int8)}


class Complex(nn.Module):
    """A filter in the frequency domain, and parts of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(WIDTH // 2 + 1, dtype=torch.complex64))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        spectrum = torch.fft.rfft(x) * self.filter
        return {"filtered": torch.fft.irfft(spectrum, WIDTH), "power": (spectrum * spectrum.conj()).real, "angle": spectrum.angle(),
                "turned": spectrum * 1j}


class Forces(nn.Module):
    """An energy, and its gradient that forward computes."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        def energy(places: Tensor) -> Tensor:
            pairs = (places[:, None] - places[None]).square().sum(-1)
            return self.down(torch.tanh(self.up(places))).sum() + torch.exp(-pairs).sum() / 2

        return {"energy": energy(x)[None], "forces": -torch.func.grad(energy)(x)}


class Scanned(nn.Module):
    """A recurrence over the steps, and a loop that ends by its data."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        def step(count: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
            return count + 1, total * 0.5 + x.sum(0)

        count, total = torch.while_loop(lambda count, total: (count < x.shape[0]) & (total.abs().amax() < 3), step,
                                        (torch.zeros((), dtype=torch.int64), torch.zeros(WIDTH)))
        return {"count": count[None], "total": total, "sums": x.cumsum(0), "largest": x.cummax(0).values,
                "recent": functional.pad(x, (0, 0, 1, 0))[:-1]}


class Chosen(nn.Module):
    """Indices of rows that data choose, and how often each class is met."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"places": torch.nonzero(x > 0.5), "rows": x[x > 0.5] * 2}


class Dtyped(nn.Module):
    """Computes something else in float64: takes a branch by its dtype, adds a step of it."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        step = torch.finfo(x.dtype).eps * 2**20
        return {"branch": torch.tanh(x) * (1.5 if x.dtype is torch.float64 else 1.0), "step": x.cos() + step,
                "inverse": 1 / (x.relu() + step)}


def _float(*shape: int | str, **more: object) -> Input:
    return Input("float32", shape, **more)  # type: ignore[arg-type]


EXPORTS: dict[str, dict[str, object]] = {"chosen": {"data_sizes": "capacity"}}

MODELS: dict[str, Model] = {model.name: model for model in (
    declare(Slots,
            {"x": _float("b", WIDTH), "position": Input("int64", (1,), {"randint": [0, 16]}), "keys": _float("b", 16, WIDTH, state=True)},
            {"b": Symbol(1, 16)}),
    declare(Integer, {"x": _float("n", WIDTH)}, {"n": Symbol(1, 32)}),
    declare(Complex, {"x": _float("n", WIDTH)}, {"n": Symbol(1, 32)}),
    declare(Forces, {"x": _float("n", 3)}, {"n": Symbol(2, 16)}),
    declare(Scanned, {"x": _float("n", WIDTH)}, {"n": Symbol(1, 32)}),
    declare(Dtyped, {"x": _float("n", WIDTH)}, {"n": Symbol(1, 32)}),
    declare(Chosen, {"x": _float("n")}, {"n": Symbol(2, 32)}, capacities={"u0": 20, "u1": 20}),
)}  # fmt: skip
