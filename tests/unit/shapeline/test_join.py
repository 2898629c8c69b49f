from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import shapeline
from lowering.errors import ConfigError, Refused
from lowering.ir import mlir
from lowering.numerics.delivery import artifact


class Scorer(nn.Module):
    """Two methods with weights in common, a buffer that one of them writes, and a constant of each with the same name."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 4)
        self.head = nn.Linear(4, 8)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(tokens)).cumsum(1) + torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8])


class Step(nn.Module):
    """A step of the same model, whose weights have other names."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, token: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        self.scorer.calls.add_(1)
        return (self.scorer.head(self.scorer.table(token)) + total).cumsum(0) * torch.tensor([8.0, 7, 6, 5, 4, 3, 2, 1])


@pytest.fixture(scope="module")
def joined() -> shapeline.Joined:
    torch.manual_seed(0)
    module = Scorer()
    prefill = shapeline.lower(module, (torch.zeros(2, 3, dtype=torch.int64),), dynamic_shapes=({0: "batch", 1: "seq"},),
                              symbols={"batch": (1, 8), "seq": (1, 8)})
    decode = shapeline.lower(Step(module), (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 8)),
                             dynamic_shapes=({0: "batch"}, {0: "batch"}), symbols={"batch": (1, 8)})
    return shapeline.join({"prefill": prefill, "decode": decode})


def test_each_level_is_one_module_with_a_function_per_entry(joined: shapeline.Joined) -> None:
    for word in ("torch", "stablehlo", "mhlo"):
        functions = list(mlir.walk_functions(joined.mlir[word].module))
        assert [function.attributes["sym_name"].value for function in functions if mlir.is_public(function)] == ["prefill", "decode"]


def test_equal_weights_of_other_names_are_one_and_different_ones_of_one_name_are_two(joined: shapeline.Joined) -> None:
    names = {entry: [weight.name for weight in signature.weights] for entry, signature in joined.signatures.items()}
    assert {"table.weight", "head.weight", "head.bias"} < set(names["prefill"])
    assert {"table.weight", "head.weight", "head.bias", "scorer.calls"} < set(names["decode"])
    assert len(joined.weights) == 7  # a constant of each, and the buffer twice, because one entry writes to it
    assert [result.name for result in joined.signatures["decode"].results if result.kind == "buffer_mutation"] == ["scorer.calls"]


def test_the_functions_of_the_program_give_what_the_modules_give(joined: shapeline.Joined) -> None:
    for entry in joined.values():
        entry.verify(2)
    with pytest.raises(KeyError):
        joined["encode"]


def test_a_saved_program_runs_by_the_name_of_an_entry(joined: shapeline.Joined, tmp_path: Path) -> None:
    joined.save(tmp_path)
    done = artifact.Artifact.load(tmp_path, entry="decode").execute({"batch": 3})
    assert done.results["output"].shape == (3, 8) and done.results["buffer_mutation/scorer.calls"] == 1
    assert len(list((tmp_path / "weights").rglob("*.safetensors"))) == 1
    with pytest.raises(Refused, match=r"no entry is named .*entries: prefill, decode"):
        artifact.Artifact.load(tmp_path)
    with pytest.raises(Refused, match="'encode': is not an entry of the program"):
        artifact.Artifact.load(tmp_path, entry="encode")


def test_what_is_not_at_mhlo_cannot_be_joined() -> None:
    with pytest.raises(ConfigError, match="give the name and the lowered module of at least one"):
        shapeline.join({})
