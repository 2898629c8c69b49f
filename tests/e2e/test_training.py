"""A network in training goes down the whole ladder: its gradients are eager's at TorchScript and MHLO, and in the artifact."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.numerics.delivery import artifact
from lowering.record.result import JobResult
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

MODEL = Model(
    "pictures", {"_target_": "tests.unit.models.training_models.Pictures"},
    {"pixels": Input("float32", ("batch", 3, 12, 12)), "labels": Input("int64", ("batch",), {"randint": [0, 3]})},
    {"batch": Symbol(1, 32)}, mode="training",
)  # fmt: skip
STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(), "verify": Verify(points=2, platforms=("cpu",)), "package": Package()}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def result(folder: Path) -> JobResult:
    return pipeline.run(Job(MODEL, STAGES), folder)


def test_every_gradient_and_statistic_is_compared_at_every_level_and_point(result: JobResult) -> None:
    assert result.outcome == "ok", result.problems
    weights = ("0.weight", "1.weight", "1.bias", "4.weight", "4.bias", "8.weight", "8.bias")
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    wanted = {"loss", "logits", *(f"grad.body.{name}" for name in weights), *(f"buffer_mutation/body.1.{name}" for name in statistics)}
    for point in result.verify["points"]:
        assert set(point["levels"]) == {"torchscript", "mhlo"}
        assert all(set(level["outputs"]) == wanted for level in point["levels"].values())


def test_the_batch_stays_dynamic_and_bounded(result: JobResult) -> None:
    assert {(dim["argument"], dim["verdict"]) for dim in result.symbols["requested"]} == {("pixels", "dynamic"), ("labels", "dynamic")}
    assert [refusal for refusal in result.verify["refused"] if "batch must be at most 32" in refusal]


def test_the_artifact_gives_the_recorded_gradients(result: JobResult, folder: Path) -> None:
    assert result.outcome == "ok"
    compared = artifact.execute(folder, {"batch": 1}, compare=True).compared
    assert compared is not None
    assert all(found.agrees for found in compared.values())
    assert "grad.body.4.weight" in compared
