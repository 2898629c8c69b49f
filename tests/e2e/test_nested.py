"""A module of nested arguments and results through the whole ladder, and through the commands that read its job."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.__main__ import main
from lowering import files, pipeline
from lowering.job import Job
from lowering.record import folder as folders
from lowering.record.result import JobResult
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from tests.unit.models import nested_models

STAGES = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO(),
          "verify": Verify(levels=("exported", "torchscript", "mhlo"), points=4, platforms=("cpu",)), "package": Package()}
RESULTS = {"shifted", "state.hidden.0", "state.hidden.1", "state.scale", "pair.0", "pair.1.0"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobResult]:
    folder = tmp_path_factory.mktemp("nested")
    folders.prepare(Job(nested_models.model(), STAGES), folder)
    result = pipeline.run(Job.from_json(files.read(folder / folders.JOB)), folder)
    result.save(folder)
    return folder, result


def test_every_result_agrees_at_every_level_and_point(done: tuple[Path, JobResult]) -> None:
    _, result = done
    assert result.outcome == "ok", result.problems
    assert len(result.verify["points"]) >= 4
    assert all(set(level["outputs"]) == RESULTS for point in result.verify["points"] for level in point["levels"].values())


def test_dims_are_named_by_the_paths_of_their_leaves(done: tuple[Path, JobResult], capsys: pytest.CaptureFixture[str]) -> None:
    folder, result = done
    assert {(dim["id"], dim["verdict"], dim["expr"]) for dim in result.symbols["requested"]} == {
        ("state.hidden.0[0]", "dynamic", "batch"), ("state.hidden.1[0]", "dynamic", "batch"), ("batch.x.left[0]", "dynamic", "batch"),
        ("pair.first[0]", "dynamic", "pair_first_0"), ("pair.second[0]", "dynamic", "3*_count"),
    }
    assert main(["explain", str(folder), "pair.second[0]"]) == 0
    assert "pair.second[0]" in capsys.readouterr().out


def test_the_signature_has_the_trees(done: tuple[Path, JobResult]) -> None:
    data = files.read(done[0] / "signature.json")
    state = {"_target_": "tests.unit.models.nested_models.State", "hidden": ["state.hidden.0", "state.hidden.1"], "scale": "state.scale"}
    assert data["inputs"] == {"state": state, "batch": {"x": {"left": "batch.x.left", "right": None}, "mode": None},
                              "pair": ["pair.first", "pair.second"], "options": None}
    assert data["outputs"] == {"shifted": "shifted", "state": state, "pair": ["pair.0", ["pair.1.0"]]}


def test_the_program_runs_without_the_module_and_every_level_is_shown(done: tuple[Path, JobResult],
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    folder, result = done
    point = result.verify["points"][0]["sizes"]
    assert main(["exec", str(folder), "--compare", *(f"--size={name}={size}" for name, size in point.items())]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in RESULTS)
    for level in ("export", "torchscript", "torch", "stablehlo", "mhlo"):
        assert main(["show", str(folder), level]) == 0
    assert "@main" in capsys.readouterr().out


def test_steps_of_a_job_without_entries_are_refused(done: tuple[Path, JobResult], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps", str(done[0])]) == 2
    assert "has no entries to run one after another" in capsys.readouterr().err
    assert main(["steps", str(done[0]), "--entries", "decode"]) == 2
    assert "is a single entry, and steps come after another" in capsys.readouterr().err
