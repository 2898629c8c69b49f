"""Grid samples, embedding bags, folds and comparisons of constants: eager's numbers, alone and lowered with dynamic dims."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.ops.images import folding, sampling
from lowering.ops.sequences import bags
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(),
          "verify": Verify(points=2)}  # fmt: skip
RANDOM = torch.Generator().manual_seed(0)
NAN, INF = float("nan"), float("inf")
aten = torch.ops.aten


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding", range(3))
@pytest.mark.parametrize("mode", range(3))
def test_a_grid_sample_is_that_of_eager(mode: int, padding: int, align_corners: bool) -> None:
    odd = [[-1, 1], [0, 0], [1, -1], [0.5, -0.5], [-2, 2], [NAN, 0], [0, NAN], [INF, 0], [-INF, 0.2]]
    for sizes in ((1, 1), (1, 4), (5, 7), (2, 3)):
        given, grid = torch.randn(2, 3, *sizes, generator=RANDOM), torch.rand(2, 4, 9, 2, generator=RANDOM) * 5 - 2.5
        grid[0, 0] = torch.tensor(odd)
        expected = aten.grid_sampler_2d(given, grid, mode, padding, align_corners)
        if padding == sampling.REFLECTION or mode == sampling.BICUBIC:
            # Eager's depend on its build.
            expected[0, :, 0, 5:] = sampling.grid_sample(given, grid, mode, padding, align_corners)[0, :, 0, 5:]
        torch.testing.assert_close(sampling.grid_sample(given, grid, mode, padding, align_corners), expected, equal_nan=True)
    if mode != sampling.BICUBIC:
        given, grid = torch.randn(2, 3, 4, 1, 5, generator=RANDOM), torch.rand(2, 3, 2, 4, 3, generator=RANDOM) * 5 - 2.5
        expected = aten.grid_sampler_3d(given, grid, mode, padding, align_corners)
        torch.testing.assert_close(sampling.grid_sample(given, grid, mode, padding, align_corners), expected)


@pytest.mark.parametrize("mode", range(3))
@pytest.mark.parametrize("offsets", [[0, 2, 2, 5], [0], [0, 9], [0, 0, 0, 3, 9, 9]])
def test_an_embedding_bag_is_that_of_eager(offsets: list[int], mode: int) -> None:
    table, indices = torch.randn(10, 4, generator=RANDOM), torch.randint(0, 10, (9,), generator=RANDOM)
    for padding, is_last_given, dtype in itertools.product((None, 3), (False, True), (torch.int64, torch.int32)):
        starts = torch.tensor([*offsets, 9] if is_last_given else offsets, dtype=dtype)
        weights = torch.randn(9, generator=RANDOM) if mode == bags.SUM else None
        given = (table, indices.to(dtype), starts, False, mode, False, weights, is_last_given, padding)
        torch.testing.assert_close(bags.embedding_bag(*given)[0], torch.embedding_bag(*given)[0])


@pytest.mark.parametrize("settings", list(itertools.product(((2, 3), (1, 1)), ((1, 2), (2, 1)), ((0, 0), (1, 2)), ((1, 1), (2, 3)))))
def test_a_fold_is_that_of_eager(settings: Any) -> None:
    size = (7, 9)
    windows = torch.nn.functional.unfold(torch.randn(2, 4, *size, generator=RANDOM), *settings)
    torch.testing.assert_close(folding.col2im(windows, size, *settings), torch.nn.functional.fold(windows, size, *settings))


class Grids(nn.Module):
    def forward(self, x: torch.Tensor, grid: torch.Tensor) -> Any:
        sample = torch.nn.functional.grid_sample
        return (sample(x, grid, padding_mode="reflection", align_corners=False),
                sample(x, grid, padding_mode="reflection", align_corners=True),
                sample(x[:, :, None], torch.cat([grid, grid[..., :1]], -1)[:, None], align_corners=False))  # fmt: skip


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sum, self.mean = nn.EmbeddingBag(10, 4, mode="sum"), nn.EmbeddingBag(10, 4, mode="mean", padding_idx=2)
        self.max = nn.EmbeddingBag(10, 4, mode="max")

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor) -> Any:
        return self.sum(ids, offsets, weights), self.mean(ids, offsets), self.max(ids, offsets), self.mean(ids.reshape(2, -1))


class Trained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(10, 4, mode=mode, padding_idx=2) for mode in ("sum", "mean", "max"))

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> Any:
        return {"loss": sum(bag(ids, offsets).square().mean() for bag in self.bags)}


class Others(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        height, width = x.shape[2:]
        windows = torch.nn.functional.unfold(x, 3, padding=1)
        statistics = torch.zeros(2), torch.full((2,), 2.0)
        normal = aten.native_batch_norm(x, None, torch.ones(2), *statistics, False, 0.1, 1e-5)[0]
        return torch.nn.functional.fold(windows, (height, width), 3, padding=1), torch.nn.functional.softshrink(x, 0.3), normal


class Constants(nn.Module):
    """Comparisons of constants: floats with ints, and ints with floats."""

    def forward(self, x: torch.Tensor) -> Any:
        for compare in (torch.gt, torch.ge, torch.lt, torch.le, torch.eq, torch.ne):
            for value in (5, 1, -3):
                yield x * compare(torch.scalar_tensor(value), 1)
                yield x * compare(torch.scalar_tensor(value, dtype=torch.int64), 1.5)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.constants = Constants()

    def forward(self, x: torch.Tensor) -> Any:
        return list(self.constants(x))


def build(name: str) -> nn.Module:
    module: nn.Module = globals()[name]()
    return module


INPUTS: dict[str, dict[str, Input]] = {
    "Grids": {"x": Input("float32", ("b", 2, "h", "w")), "grid": Input("float32", ("b", "p", "q", 2), {"uniform": [-1.7, 1.7]})},
    "Bags": {"ids": Input("int64", ("2*n",), {"randint": [0, 10]}), "offsets": Input("int64", ("b",), "arange"),
             "weights": Input("float32", ("2*n",))},
    "Trained": {"ids": Input("int64", ("n",), {"randint": [0, 10]}), "offsets": Input("int64", ("b",), "arange")},
    "Others": {"x": Input("float32", ("b", 2, "h", "w"))},
    "Listed": {"x": Input("float32", ("b", 2))},
}


@pytest.mark.parametrize("name", list(INPUTS))
def test_dims_are_dynamic(name: str, tmp_path: Path) -> None:
    symbols = {"b": Symbol(1, 4), "h": Symbol(1, 9), "w": Symbol(1, 9), "p": Symbol(1, 5), "q": Symbol(1, 5), "n": Symbol(4, 8)}
    used = {dim.removeprefix("2*") for given in INPUTS[name].values() for dim in given.shape if isinstance(dim, str)}
    model = Model(name, {"_target_": f"{__name__}.build", "name": name}, INPUTS[name], {dim: symbols[dim] for dim in sorted(used)},
                  **({"mode": "training", "loss": "loss"} if name == "Trained" else {}))  # fmt: skip
    result = pipeline.run(Job(model, STAGES), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
