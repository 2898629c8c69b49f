"""Test of whether random results of two programs come from one distribution: a permutation test over several runs of each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from lowering import types
from lowering.model import Tolerance
from lowering.numerics import comparison
from lowering.numerics.comparison import Comparison
from lowering.numerics.running.runner import Run, Tensors

RUNS = 16  # of each program
_SHUFFLES = 20_000  # a program that draws as eager does is told apart from it once in that many tests
_ELEMENTS = 4096  # looked at, at equal distances
_QUANTILES = torch.linspace(0, 1, 11, dtype=torch.float64)


def compare(got: Sequence[torch.Tensor], want: Sequence[torch.Tensor], tolerance: Tolerance, seed: int = 0) -> Comparison:
    """Compare runs of a program with runs of eager: dtypes, shapes, elements that vary by rounding alone, and how the others vary.

    Alike in the mean and in the spread of each element, and in the quantiles of each run, as far as that many runs can tell.
    """
    first = want[0]
    for result in got:
        if result.dtype is not first.dtype or result.shape != first.shape:
            return comparison.compare(result, first, tolerance)
    if first.numel() == 0 or len(got) < 2 or len(want) < 2:
        return Comparison(first.numel(), None, "random: dtype and shape were compared", finite=int(first.isfinite().sum()))
    ours, theirs = _stack_runs(got), _stack_runs(want)
    if (ours.isfinite().double().mean(0) - theirs.isfinite().double().mean(0)).abs().max() == 1:
        return Comparison(first.numel(), "non-finite", "is always NaN or infinite where eager never is, or the other way round")
    both = torch.nan_to_num(torch.cat([ours, theirs]), 0.0, 0.0, 0.0)
    ours, theirs = both[: len(got)], both[len(got) :]
    fixed = _find_fixed(ours, tolerance) & _find_fixed(theirs, tolerance)
    held = comparison.compare(ours.mean(0)[fixed], theirs.mean(0)[fixed], tolerance)
    if not held.agrees:
        return Comparison(first.numel(), "values", f"does not vary, and is not what eager always gives: {held.detail}", held.max_abs,
                          held.max_rel)
    varied = both[:, ~fixed]
    if varied.shape[1] == 0:
        return held
    for word, features in _compute_features(varied):
        if _differs(features, len(got), seed):
            return Comparison(first.numel(), "values", _describe(word, ours[:, ~fixed], theirs[:, ~fixed], first))
    says = f"random: {len(got)} runs are drawn as {len(want)} of eager are"
    return Comparison(first.numel(), None, says, finite=int(first.isfinite().sum()))


def _stack_runs(runs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return a row for each run, a column for each element looked at."""
    flat = torch.stack([(torch.view_as_real(run) if run.is_complex() else run).reshape(-1).to(torch.float64) for run in runs])
    return flat[:, :: -(-flat.shape[1] // _ELEMENTS)]


def _find_fixed(runs: torch.Tensor, tolerance: Tolerance) -> torch.Tensor:
    """Return a mask of the elements that vary by no more than their rounding, such as singular values found by random projections."""
    least, most = runs.amin(0), runs.amax(0)
    return most - least <= tolerance.atol + tolerance.rtol * torch.minimum(least.abs(), most.abs())


def _compute_features(runs: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    deviations = runs - runs.mean(0)
    scale = deviations.square().mean(0).sqrt()
    standard = deviations / torch.where(scale > 0, scale, 1.0)
    ordered = torch.quantile(runs, _QUANTILES, dim=1).T
    moments = torch.stack([runs.mean(1), runs.std(1) if runs.shape[1] > 1 else runs[:, 0].abs()], 1)
    return [("mean", standard), ("spread", standard.square()), ("quantiles", torch.cat([ordered, moments], 1))]


def _differs(features: torch.Tensor, count: int, seed: int) -> bool:
    """Return whether the first `count` rows lie further from the others than the two groups of any random split of the rows do."""
    centred = features - features.mean(0)
    size = centred.square().mean(0).sqrt()
    centred = centred[:, size > 0] / size[size > 0]
    products = centred @ centred.T
    own, signs = _deal_weights(features.shape[0], count, seed)
    shuffled = ((signs @ products) * signs).sum(1)
    return float(own @ products @ own) > float(shuffled.max()) * (1 + 1e-9)


@cache
def _deal_weights(rows: int, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights whose product with the rows is the difference of the means of two groups: the first `count` and the others.

    Dealt at random.
    """
    dealt = torch.rand((_SHUFFLES, rows), generator=torch.Generator().manual_seed(seed)).argsort(1)
    weights = torch.where(torch.arange(rows) < count, 1.0 / count, -1.0 / (rows - count)).double()
    return weights, weights[dealt]


def _describe(word: str, ours: torch.Tensor, theirs: torch.Tensor, result: torch.Tensor) -> str:
    def words(runs: torch.Tensor) -> str:
        low, middle, high = torch.quantile(runs.reshape(-1)[: 1 << 20], torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
        return f"mean {float(runs.mean()):.4g}, std {float(runs.std()):.4g}, 5/50/95 % at {low:.4g}/{middle:.4g}/{high:.4g}"

    return (f"random {types.dtype_name(result.dtype)} numbers of another distribution, "
                    f"seen in the {word} over {len(ours)} and {len(theirs)} runs: "
            f"{words(ours)}; eager {words(theirs)}")


def draw_runs(run: Run, given: Tensors, count: int, seed: int) -> tuple[tuple[torch.Tensor, ...], ...]:
    """Return the results of `count` runs, each with its own seed. The state of torch's generator is kept."""
    found = []
    with torch.random.fork_rng(devices=[]):
        for index in range(count):
            torch.manual_seed(1_000_003 * seed + index)
            found.append(run(given))
    return tuple(found)
