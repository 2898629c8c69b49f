"""The symbol log of a job: warnings in its row, strict dims, what comes from the store, what a failed export leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from flows.report import report
from lowering import pipeline
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Model, Symbol
from lowering.record.events import History
from lowering.record.result import JobResult
from lowering.stage import Note, Stage
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.symbols.schema import SymbolRecord
from lowering.symbols.tracing import selftest
from tests.unit.models import symbol_models as models
from tests.unit.models.symbol_models import FILE, line, model

FIXED = model(models.Fixed, x=[None])
BRANCH = model(models.Branch, {"n": Symbol(1, 64)}, x=["n"])
CHUNKS = model(models.Chunks, {"n": Symbol(8, 16, 4)}, x=["n"])
SHARED = model(models.Shared, {"batch": Symbol(2, 64)}, x=["batch", 7], y=["batch", 7])
LADDER = {"export": Export(), "torchscript": ToTorchScript(deployable=False), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO()}  # fmt: skip


def lower(declared: Model, folder: Path, stages: Mapping[str, Stage] | None = None, strict: bool = False, store: Path | None = None,
          events: list[Mapping[str, Any]] | None = None) -> JobResult:
    folder.mkdir(exist_ok=True)
    job = Job(declared, stages or {"export": Export()}, strict_dims=strict)
    return pipeline.run(job, folder, None if events is None else events.append, store)


def test_a_specialized_dim_is_a_warning_that_names_dim_value_and_line(tmp_path: Path) -> None:
    result = lower(FIXED, tmp_path)
    (remark,) = [remark for remark in result.warnings if remark.code == "became_static"]
    assert (result.outcome, remark.stage, remark.place) == ("ok", "export", "x[0]")
    assert "became 41" in remark.message and f"{FILE}:{line('fixed')}" in remark.message
    assert "warning: x[0], requested as null, became 41" in report.describe_cause(result)


def test_strict_dims_make_it_a_failure_that_names_them_too(tmp_path: Path) -> None:
    result = lower(FIXED, tmp_path, LADDER, strict=True)
    (problem,) = result.problems
    assert (result.outcome, result.stage, problem.place) == ("error", "export", "x[0]")
    assert "became 41" in problem.cause and f"{FILE}:{line('fixed')}" in problem.cause
    assert lower(SHARED, tmp_path, strict=True).outcome == "ok"


def test_strict_dims_refuse_a_promise_of_which_the_code_takes_one_size(tmp_path: Path) -> None:
    result = lower(CHUNKS, tmp_path, LADDER, strict=True)
    (problem,) = result.problems
    assert (result.outcome, result.stage, problem.place) == ("error", "export", "x[0]")
    assert "requested as n, became 12" in problem.cause and f"{FILE}:{line('chunks')}" in problem.cause


def test_strict_dims_hold_for_results_from_the_store(tmp_path: Path) -> None:
    made = lower(FIXED, tmp_path / "made", store=tmp_path / "store")
    strict = lower(FIXED, tmp_path / "strict", strict=True, store=tmp_path / "store")
    again = lower(FIXED, tmp_path / "again", store=tmp_path / "store")
    assert [result.stages[0].cache for result in (made, strict, again)] == ["miss", "hit", "hit"]
    assert [result.outcome for result in (made, strict, again)] == ["ok", "error", "ok"]
    assert again.warnings == made.warnings


def test_dims_are_followed_to_mhlo_also_through_the_store_and_from_events_alone(tmp_path: Path) -> None:
    events: list[Mapping[str, Any]] = []
    made = lower(SHARED, tmp_path / "made", LADDER, store=tmp_path / "store", events=events)
    again = lower(SHARED, tmp_path / "again", LADDER, store=tmp_path / "store")
    record = SymbolRecord.from_json(made.symbols)
    assert [(place.level, place.size) for place in record.requested[0].levels[1:]] == [
        ("torchscript", "?"), ("torch", "?"), ("stablehlo", "?"), ("mhlo", "?")]  # fmt: skip
    assert {stage.cache for stage in again.stages} == {"hit"}
    assert again.symbols == made.symbols
    watched = History(SHARED.name, "default")
    for event in events:
        watched.add(event)
    assert watched.result("crash").symbols == made.symbols


@dataclass(frozen=True)
class Freeze(Stage):
    """Makes the first dim of every input static."""

    source: ClassVar[Level] = Level.EXPORTED
    target: ClassVar[Level] = Level.TORCHSCRIPT

    def apply(self, program: Program, note: Note) -> Program:
        return program.replace_ir(Level.TORCHSCRIPT, torch._C.parse_ir("graph(%x : Float(5, 7), %y : Float(*, 7)):\n  return (%x)\n"))


def test_a_dim_lost_at_a_lower_level_is_reported_with_its_stage(tmp_path: Path) -> None:
    stages = {"export": Export(), "freeze": Freeze()}
    loose, strict = lower(SHARED, tmp_path, stages), lower(SHARED, tmp_path, stages, strict=True)
    (remark,) = [remark for remark in loose.warnings if remark.code == "lost_at_level"]
    assert (loose.outcome, remark.stage, remark.place) == ("ok", "freeze", "x[0]")
    (problem,) = strict.problems
    assert (strict.outcome, strict.stage, problem.place) == ("error", "freeze", "x[0]")
    assert "became 5 at level torchscript" in problem.cause


def test_an_export_that_fails_on_shapes_is_drafted_and_leaves_its_trace(tmp_path: Path) -> None:
    result = lower(BRANCH, tmp_path, {"export": Export(policy=("declared",))})
    record = SymbolRecord.from_json(result.symbols)
    assert result.outcome == "error"
    assert [(found.kind, found.line and found.line.line) for found in record.draft] == [("guard", line("branch"))]
    assert result.problems[0].fix == "in the model's YAML: symbols: {n: {min: 4, max: 64}}"
    assert '"create_symbol"' in (tmp_path / "01-export.trace.log").read_text()


def test_the_graph_of_an_export_that_fails_on_data_is_a_file_and_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = lower(model(models.Deciding, n=[]), tmp_path, {"export": Export(explain=False)})
    assert result.outcome == "error"
    assert "torch.ops.aten.item" in (tmp_path / "01-export.unfinished.py").read_text()
    assert "torch.ops.aten" not in "".join(capfd.readouterr())


def test_no_draft_is_made_where_it_is_not_wanted(tmp_path: Path) -> None:
    assert SymbolRecord.from_json(lower(BRANCH, tmp_path, {"export": Export(policy=("declared",), explain=False)}).symbols).draft == ()


def test_extended_debug_adds_the_whole_stack_of_one_symbol(tmp_path: Path) -> None:
    counting = model(models.Counting, n=[])
    result = lower(counting, tmp_path, {"export": Export(extended_debug=("u0",))})
    (entry,) = [entry for entry in SymbolRecord.from_json(result.symbols).symbols if entry.name == "u0"]
    assert "symbol_models.py" in entry.detail
    (plain,) = [entry for entry in SymbolRecord.from_json(lower(counting, tmp_path).symbols).symbols if entry.name == "u0"]
    assert plain.detail == ""


def test_the_pages_lie_beside_the_record(tmp_path: Path) -> None:
    lower(FIXED, tmp_path).save(tmp_path)
    assert "| x[0] | null |" in (tmp_path / "symbols.md").read_text()
    assert "^ x[0] specialized = 41" in (tmp_path / "symbols.source.txt").read_text()


def test_a_torch_that_logs_otherwise_is_a_warning_of_every_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "run_self_test", lambda: ("torch 9 logs no 'guard' event that the symbol log can read",))
    result = lower(SHARED, tmp_path)
    assert ("log_incomplete", "torch 9 logs no 'guard' event that the symbol log can read") in [
        (remark.code, remark.message) for remark in result.warnings]  # fmt: skip
