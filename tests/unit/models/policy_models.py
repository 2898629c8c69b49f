"""Modules that torch.export refuses as declared, or captures wrongly for sizes of 0 and 1, and small nets of their kinds."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.utils import torch_compilable_check

from lowering.model import Input, Model, Symbol


class Halved(nn.Module):
    """A branch on a condition that holds for every size, which torch cannot prove."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2]
        return x * 2 if 2 * (size // 2) < 1 + size else x


class Slices(nn.Module):
    """Slices that are clamped, or have one element, at some sizes."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x[:, 1:] - x[:, :-1], x[:, :3] + 1, x[:, ::2] * 2, x[:, x.shape[1] // 2]


class Heads(nn.Module):
    """Slices that are longer than the least size."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x[:2] + 1, x[-2:] * 2, x[1:2].sum(0)


class First(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:1] + 1


class TopOfSize(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.topk(x, min(3, x.shape[1])), torch.topk(x, x.shape[1] // 5)


class Windows(nn.Module):
    """Pads to whole windows, in two ways to write it."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        windows = functional.pad(x, (0, (8 - x.shape[0] % 8) % 8)).view(-1, 8), functional.pad(x, (0, -x.shape[0] % 7)).view(-1, 7)
        return windows[0].sum(1), windows[1].sum(1)


class ImageWindows(nn.Module):
    """The mean of each window of an image that is padded to whole windows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        x = functional.pad(x, (0, -width % 7, 0, -height % 7))
        x = x.view(batch, channels, x.shape[2] // 7, 7, x.shape[3] // 7, 7)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, 49, channels).mean(1)


class Pairs(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 2).sum(1)  # even sizes only


class Quadratic(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.shape[0] * x.shape[0] > 4 * x.shape[0] + 1000 else x


class BranchOnOne(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.shape[0] == 1 else x - x.mean(0)  # another result at 1


class LongerThanThree(nn.Module):
    """Another result for short inputs, and none for long ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 20:
            raise ValueError("at most 20 rows")
        return x * 2 if x.shape[0] > 3 else x  # of several rows


class Doubles(nn.Module):
    """Pads rows to the next power of two, which a Python loop finds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = 1
        while size < x.shape[0]:
            size *= 2
        return torch.cat([x, x.new_zeros(size - x.shape[0], 3)])


class Groups(nn.Module):
    """Regroups rows, by reshapes that copy or not, which torch decides by size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(4, x.shape[0] // 4, 3).transpose(0, 1).reshape(x.shape[0], 3)


class Written(nn.Module):
    """Writes the end of a cache, which some size fills as a whole."""

    def forward(self, cache: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        cache = cache.clone()
        cache[:, 8 - rows.shape[1]:] = rows
        return cache * 2


class HarmlessBranch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(0, keepdim=True) if x.shape[0] > 1 else x  # the same result at 1


class Causal(nn.Module):
    """Masks what comes later, unless there is nothing later."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(x, x, x, is_causal=bool(x.shape[0] > 1))


class DrawnBranch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        drawn = torch.rand_like(x)
        return drawn.sum(0, keepdim=True) if x.shape[0] > 1 else drawn


class Squeezes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze()


class LastSqueeze(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze(0).sum()


class Folds(nn.Module):
    """Takes the whole groups of 4, by code that looks whether there is a rest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.shape[0]
        whole = functional.pad(x, (0, 0, 0, 4 - rows % 4)) if rows % 4 else x
        return whole.reshape(-1, 4, 3).sum(1)


class Slow(nn.Module):
    """Takes long to trace, not to run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(x, torch._subclasses.FakeTensor):
            end = time.process_time() + 30
            while time.process_time() < end:  # slow
                pass
        return x * 2


class OnData(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = x.to(torch.int64).sum().item()  # counted
        return x if count == 1 else x + 1


class Patches(nn.Module):
    """Joins each four rows, by code whose guards leave out a single patch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(x.reshape(2, x.shape[1] // 4, 12)).flatten(0, 1)


class Rows(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack(x.unbind(0))


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] >= 4:
            raise ValueError("too many rows")
        return x


class Looked(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * {1: 2, 5: 3}[x.shape[0]]


class Converts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer.type(torch.float32)(x)


class ConvertsToItsOwn(Converts):
    """Converts a layer to the dtype that it has, as routers of mixtures of experts do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.layer = self.layer.to(torch.float32)
        return self.layer.float()(x)


class Jagged(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nested.nested_tensor_from_jagged(x, torch.tensor([0, 2, 3])).sum(1)


class LoopOnData(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.sum()
        for place in x.nonzero():
            total = total + place.sum()
        return total


class Halves(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, y], 1)


class Counted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[: int(x.sum())]


class Sum(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y  # of two symbols


class Product(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x @ y


class Strict(nn.Module):
    """A size that is guarded, behind a constant."""

    def forward(self, x: torch.Tensor, scale: int, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x * scale, y * 2 if y.shape[0] % 43 == 0 else y


class BranchOnData(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return x * 3


class Texts(nn.Module):
    """Makes a number of the text of a size. how: the way."""

    def forward(self, x: torch.Tensor, how: str) -> torch.Tensor:
        if how == "f-string":
            return x * len(f"{x.shape[0]}")
        if how == "a part of one":
            text = f"a{x.shape[0]}b"
            return x * len(text)
        if how == "percent":
            return x * len("%s" % (x.shape,))  # noqa: UP031 - as models do
        if how == "a key":
            return x * {"12": 3.0}.get(str(x.shape[0]), 1.0)
        return x * len(f"{x.shape[0]:5d}")


class Messages(nn.Module):
    """Writes sizes into messages only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logging.getLogger(__name__).warning(f"rows {x.shape[0]:4d} of {x.shape}")  # noqa: G004 - as models do
        assert x.shape[0] > 0, f"no rows: {x.shape}"
        torch._check(x.shape[0] > 0, lambda: f"no rows: {x.shape[0]}")
        torch_compilable_check(x.shape[0] > 0, f"no rows: {x.shape[0]}")
        if x.dim() != 2:
            raise ValueError(f"rank of {x.shape}")
        return x * 2


def model(kind: type[nn.Module], symbols: dict[str, Symbol], constants: dict[str, Any] | None = None, weights: Any = "random",
          **shapes: tuple[int | str | None, ...]) -> Model:
    inputs = {name: Input("float32", shape) for name, shape in shapes.items()}
    return Model(kind.__name__.lower(), {"_target_": f"{kind.__module__}.{kind.__name__}"}, inputs, symbols, constants=constants or {},
                 weights=weights)
