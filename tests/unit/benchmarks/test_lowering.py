"""The arithmetic of `benchmarks.lowering`: medians, ratios to the baseline, failures as rows; and its jobs are sound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import lowering
from benchmarks.contenders import Taken, weight_bytes
from benchmarks.lowering import BASELINE, MAIN, Row
from lowering.model import Model


def taken(seconds: float, peak: int = 100) -> Taken:
    return Taken(seconds, seconds / 2, 0.1, peak, 10, 0.0, {"export": {"seconds": seconds, "save_seconds": 0.0, "peak_bytes": peak}})


def test_each_figure_has_its_own_median() -> None:
    found = lowering.median([taken(3, 5), taken(1, 9), taken(2, 7)])
    assert (found.seconds, found.cpu_seconds, found.peak_bytes) == (2, 1, 7)
    assert found.stages == {"export": {"seconds": 2, "save_seconds": 0.0, "peak_bytes": 7}}


def test_ratios_are_to_the_baseline_and_summed_over_the_models_that_both_lower() -> None:
    rows = lowering.with_ratios([Row("a", MAIN, taken(1, 50)), Row("a", BASELINE, taken(4))])
    rows += lowering.with_ratios([Row("b", MAIN, taken(1, 50)), Row("b", BASELINE, taken(1))])
    rows += lowering.with_ratios([Row("c", MAIN, taken(9)), Row("c", BASELINE, None, "exit 1: no")])
    found = lowering.compute_figures(rows)
    assert found["models"] == 2
    assert found["ratio"] == found["cpu_ratio"] == {"geometric_mean": 0.5, "worst": 1.0}
    assert found["memory_ratio"] == {"geometric_mean": 0.5, "worst": 0.5}
    assert found["failed"] == [f"c: {BASELINE}"]


def test_without_a_pair_there_is_no_figure() -> None:
    assert lowering.compute_figures([Row("a", MAIN, taken(1))])["ratio"] is None


def test_a_failed_contender_reports_its_cause(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    assert isinstance(said := lowering.take(BASELINE, tmp_path / "job.json", tmp_path), str)
    assert said.startswith("exit 1: KeyError")


def test_every_model_has_a_job_for_every_contender(tmp_path: Path) -> None:
    jobs = list(lowering.jobs([*lowering.ENCODERS, "mlp"], tmp_path))
    assert len(jobs) == 4 * len({*lowering.ROUTES, *lowering.OTHERS})
    for _, contender, path in jobs:
        stages = json.loads(path.read_text())["stages"]
        assert ("torchscript" in stages) is (contender != "route fx")
        assert "verify" not in stages


def test_an_unknown_contender_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["lowering", "--contenders", "shapelin"])
    with pytest.raises(SystemExit) as ended:
        lowering.main()
    assert ended.value.code == 2
    assert "no contender shapelin; there are shapeline, route fx" in capsys.readouterr().err


class Tied(torch.nn.Module):
    """Two names of one parameter of 32 bytes, and a buffer of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = torch.nn.Linear(4, 2, bias=False)
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))


class TooLarge(torch.nn.Module):
    """A parameter of 4 EB, which no machine holds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(1 << 30, 1 << 30))


def test_the_bytes_of_weights_are_counted_from_their_shapes() -> None:
    assert weight_bytes(Model("tied", {"_target_": f"{__name__}.Tied"}, {})) == 40
    assert weight_bytes(Model("large", {"_target_": f"{__name__}.TooLarge"}, {}, weights="none")) == 4 << 60
