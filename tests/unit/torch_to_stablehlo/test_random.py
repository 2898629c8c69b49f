"""Random numbers that are drawn in MHLO have the distribution of torch's."""

from __future__ import annotations

import pytest
import torch

from lowering.model import Built, Input, Model, Symbol
from lowering.numerics.running.runner import make_runner
from lowering.numerics.running.xla import Xla
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript


class Drawn(torch.nn.Module):
    """Six kinds of random numbers in the shape of x."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.rand_like(x), torch.randn_like(x), torch.randint_like(x, 3, 7), torch.normal(x, 2.0),
                torch.empty_like(x).geometric_(0.25),
                torch.nn.functional.dropout(x + 1, 0.25, training=True), torch.randn(x.shape[0], 2) * 3)  # fmt: skip


# mean and standard deviation of each; x is all zeros
WANTED = {"uniform": (0.5, 12**-0.5), "normal": (0, 1), "integers": (4.5, 1.25**0.5), "normal around x": (0, 2), "geometric": (4, 12**0.5),
          "dropout": (1, 3**-0.5), "normal of a size": (0, 3)}  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> dict[str, torch.Tensor]:
    model = Model("drawn", {"_target_": "tests.unit.torch_to_stablehlo.test_random.Drawn"}, {"x": Input("float32", ("rows", 8))},
                  {"rows": Symbol(2)})
    program = Export().export(Built(model, Drawn().eval()), {"x": torch.zeros(5, 8)}, Silent())
    for stage in (ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        assert not stage.requires(program)
        program = stage.apply(program, Silent())
        assert not stage.ensures(program)
    return dict(zip(WANTED, make_runner(program, Xla())({"x": torch.zeros(40_000, 8)}), strict=True))


@pytest.mark.parametrize("kind", WANTED)
def test_mean_and_deviation(drawn: dict[str, torch.Tensor], kind: str) -> None:
    numbers, (mean, deviation) = drawn[kind].double(), WANTED[kind]
    assert numbers.mean().item() == pytest.approx(mean, abs=8 * deviation / numbers.numel() ** 0.5)
    assert numbers.std().item() == pytest.approx(deviation, rel=0.03)


def test_bounds(drawn: dict[str, torch.Tensor]) -> None:
    assert drawn["uniform"].min() >= 0
    assert drawn["uniform"].max() < 1
    assert drawn["integers"].unique().tolist() == [3, 4, 5, 6]
    assert drawn["geometric"].min() == 1
    assert drawn["dropout"].unique().tolist() == pytest.approx([0, 4 / 3])


def test_every_draw_is_its_own(drawn: dict[str, torch.Tensor]) -> None:
    rows = drawn["normal"]
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows, drawn["normal around x"] / 2)
