"""Programs in MLIR as models: forms of files, the level that the job starts at, what is compared, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.command import new
from flows.config import sources
from flows.config.plan import plan
from lowering import pipeline
from lowering.errors import ConfigError, ShapelineError, Unsupported
from lowering.ir import mlir, widening
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.running import iree
from lowering.record.result import JobResult
from lowering.sources import mlir as source
from lowering.stage import Note
from lowering.stages.mhlo import ToMHLO
from lowering.stages.read import ReadMHLO, ReadStableHLO, ReadTorch
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.verify import Verify

STABLEHLO = """
func.func @main(%x: tensor<?x3xf32>) -> (tensor<?x3xf32>, tensor<?xf32>) {
  %c = stablehlo.constant dense<[[0.25, -1.0, 2.0], [1.0, 0.5, 3.0], [0.0, 1.0, -2.0]]> : tensor<3x3xf32>
  %y = stablehlo.dot_general %x, %c, contracting_dims = [1] x [0] : (tensor<?x3xf32>, tensor<3x3xf32>) -> tensor<?x3xf32>
  %z = call @act(%y) : (tensor<?x3xf32>) -> tensor<?x3xf32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %s = stablehlo.reduce(%z init: %zero) applies stablehlo.add across dimensions = [1] : (tensor<?x3xf32>, tensor<f32>) -> tensor<?xf32>
  return %z, %s : tensor<?x3xf32>, tensor<?xf32>
}
func.func private @act(%y: tensor<?x3xf32>) -> tensor<?x3xf32> {
  %t = stablehlo.tanh %y : tensor<?x3xf32>
  return %t : tensor<?x3xf32>
}
"""
TORCH = """
func.func @decode(%x: !torch.vtensor<[?,3],f32>, %y: !torch.vtensor<[?,3],f32>) -> !torch.vtensor<[?,3],f32> {
  %one = torch.constant.int 1
  %sum = torch.aten.add.Tensor %x, %y, %one : !torch.vtensor<[?,3],f32>, !torch.vtensor<[?,3],f32>, !torch.int -> !torch.vtensor<[?,3],f32>
  return %sum : !torch.vtensor<[?,3],f32>
}
func.func @prefill(%x: !torch.vtensor<[?,3],f32>) -> !torch.vtensor<[?,3],f32> {
  return %x : !torch.vtensor<[?,3],f32>
}
"""
MHLO = """
func.func @main(%x: tensor<?x3xf32>) -> tensor<?x3xf32> {
  %y = mhlo.tanh %x : tensor<?x3xf32>
  return %y : tensor<?x3xf32>
}
"""
ROWS = {"x": Input("float32", ("n", 3))}
READERS = {"torch": ReadTorch, "stablehlo": ReadStableHLO, "mhlo": ReadMHLO}


@dataclass(frozen=True)
class WrongMHLO(ToMHLO):
    """A lowering with a planted error."""

    def apply(self, program: Program, note: Note) -> Program:
        right = super().apply(program, note).ir
        return program.replace_ir(Level.MHLO, mlir.parse(mlir.text(right).replace("mhlo.tanh", "mhlo.logistic"), right.context))


@dataclass(frozen=True)
class ExactMHLO(ToMHLO):
    """A lowering that adds and subtracts 0 in place of large numbers: what it computes is nearer to the exact result."""

    def apply(self, program: Program, note: Note) -> Program:
        right = super().apply(program, note).ir
        text = mlir.text(right)
        assert text.count("1.000000e+06") == 3
        return program.replace_ir(Level.MHLO, mlir.parse(text.replace("1.000000e+06", "0.000000e+00"), right.context))


def write(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "program.mlir"
    path.write_text(text)
    return str(path)


def lower(folder: Path, text: str, level: str, inputs: dict[str, Input] | None = None, entry: str | None = None, mhlo: ToMHLO | None = None,
          levels: tuple[str, ...] = ("torchscript", "mhlo"), **settings: Any) -> JobResult:
    factory = {"_target_": "lowering.sources.mlir.load", "path": write(folder, text), "level": level, "entry": entry}
    model = Model("program", factory, inputs or ROWS, {"n": Symbol(1, 16)}, **settings)
    below = {"stablehlo": {"mhlo": mhlo or ToMHLO()}, "torch": {"stablehlo": ToStableHLO(), "mhlo": mhlo or ToMHLO()}, "mhlo": {}}[level]
    verify = Verify(points=3, platforms=("cpu",), levels=levels)
    return pipeline.run(Job(model, {"read": READERS[level](), **below, "verify": verify}), folder)


def codes(result: JobResult) -> set[str]:
    return {remark.code for remark in result.warnings}


def test_stablehlo_is_compared_with_itself_run_by_xla_and_by_the_interpreter(tmp_path: Path) -> None:
    result = lower(tmp_path, STABLEHLO, "stablehlo", levels=("mhlo", "stablehlo:interpreter"))
    assert (result.outcome, result.unverified) == ("ok", ""), result.problems
    assert {"export_skipped", "source_reference", "ranges_not_carried"} <= codes(result)
    assert [(each["level"], each["consumer"], each["outcome"]) for each in result.verify["consumers"]] == [
        ("mhlo", "xla", "agrees"), ("stablehlo", "interpreter", "agrees")]
    assert [stage.name for stage in result.stages] == ["read", "mhlo", "verify"]


def test_ops_of_chlo_that_no_artifact_holds_are_expanded(tmp_path: Path) -> None:
    text = """
    func.func @main(%x: tensor<?x3xf32>) -> tensor<?x3xf32> {
      %c = stablehlo.constant dense<[0.25, -1.0, 2.0]> : tensor<3xf32>
      %y = chlo.broadcast_add %x, %c : (tensor<?x3xf32>, tensor<3xf32>) -> tensor<?x3xf32>
      return %y : tensor<?x3xf32>
    }"""
    result = lower(tmp_path, text, "stablehlo")
    assert (result.outcome, result.unverified) == ("ok", ""), result.problems
    assert [remark.place for remark in result.warnings if remark.code == "chlo_expanded"] == ["chlo.broadcast_add"]


def test_a_wrong_lowering_of_a_source_is_a_mismatch(tmp_path: Path) -> None:
    result = lower(tmp_path, STABLEHLO, "stablehlo", mhlo=WrongMHLO())
    assert (result.outcome, result.stage) == ("mismatch", "verify")
    assert "first wrong level: mhlo" in str(result.problems[0])


def test_rounding_of_a_source_is_told_from_a_wrong_lowering_by_its_float64_form(tmp_path: Path) -> None:
    text = """
    func.func @main(%x: tensor<?x3xf32>) -> tensor<?x3xf32> {
      %c = stablehlo.constant dense<[[1.0e6, 0.0, 0.0], [0.0, 1.0e6, 0.0], [0.0, 0.0, 1.0e6]]> : tensor<3x3xf32>
      %b = stablehlo.dot_general %x, %c, contracting_dims = [1] x [0] : (tensor<?x3xf32>, tensor<3x3xf32>) -> tensor<?x3xf32>
      %y = stablehlo.add %x, %b : tensor<?x3xf32>
      %z = stablehlo.subtract %y, %b : tensor<?x3xf32>
      return %z : tensor<?x3xf32>
    }"""
    result = lower(tmp_path / "rounds", text, "stablehlo", mhlo=ExactMHLO())
    assert result.outcome == "ok" and "verify_arbitrated" in codes(result), result.problems
    fixed = text.replace("stablehlo.subtract %y, %b", "stablehlo.custom_call @odd(%y) : (tensor<?x3xf32>) -> tensor<?x3xf32>\n//")
    with pytest.raises(Unsupported, match=r"stablehlo\.custom_call: has no float64 form"):
        widening.widen(mlir.parse(fixed, mlir.create_torch_context()))


def test_the_torch_dialect_starts_at_its_entry_and_reports_what_is_not_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iree, "is_available", lambda: False)
    result = lower(tmp_path, TORCH, "torch", {**ROWS, "y": ROWS["x"]}, "decode")
    assert result.outcome == "ok", result.problems
    assert "the lowering from it to stablehlo is not verified" in result.unverified
    assert "source_not_run" in codes(result) and "ranges_not_carried" not in codes(result)


def test_nothing_is_below_mhlo_so_the_job_is_unverified(tmp_path: Path) -> None:
    result = lower(tmp_path, MHLO, "mhlo")
    assert result.outcome == "ok" and "no level below mhlo:xla" in result.unverified
    assert "source_unverified" in codes(result)


@pytest.mark.parametrize("form", ["bytecode", "portable"])
def test_binary_forms_are_the_same_program(tmp_path: Path, form: str) -> None:
    from torch_mlir._mlir_libs import _stablehlo

    module = source.parse(source.load(write(tmp_path, STABLEHLO), "stablehlo"))
    wanted = mlir.text(module)
    data = mlir.to_bytecode(module) if form == "bytecode" else _stablehlo.serialize_portable_artifact(module, "1.9.0")
    (tmp_path / "program").write_bytes(data)
    assert mlir.text(source.parse(source.load(str(tmp_path / "program"), "stablehlo"))) == wanted


@pytest.mark.parametrize(("text", "level", "entry", "words"), [
    (TORCH, "torch", None, "has 2 public functions: decode, prefill (name one: factory.entry)"),
    (TORCH, "torch", "prefil", "has no function 'prefil' with a body (did you mean 'prefill'?)"),
    (TORCH, "stablehlo", "decode", "torch.aten.add.Tensor"),
    (MHLO, "mhlo", "other", "its functions: main"),
    (STABLEHLO.replace("tanh", "tahn"), "stablehlo", None, "does not parse"),
    (STABLEHLO.replace("dense<[[0.25, -1.0, 2.0], [1.0, 0.5, 3.0], [0.0, 1.0, -2.0]]>", "dense_resource<__elided__>"), "stablehlo", None,
     "abbreviated constants"),
    ("no MLIR", "mhlo", None, "does not parse"),
    ("module {}", "mhlo", None, "has no public function with a body"),
])  # fmt: skip
def test_an_unreadable_file_is_reported_with_its_cause(tmp_path: Path, text: str, level: Any, entry: str | None, words: str) -> None:
    with pytest.raises(ShapelineError) as caught:
        source.load(write(tmp_path, text), level, entry)
    assert words in str(caught.value)


@pytest.mark.parametrize(("inputs", "settings", "words"), [
    ({"x": Input("float32", ("n", 4))}, {}, "inputs.x.shape[1]: is 4, and the entry takes float32[?, 3] (write 3)"),
    ({"x": Input("float32", ("n", "n"))}, {}, "inputs.x.shape[1]: is 'n', and the entry takes float32[?, 3]: its size is fixed"),
    ({"x": Input("float32", (None, 3))}, {}, "inputs.x.shape[0]: is null, and the entry takes float32[?, 3] (name a symbol"),
    ({"x": Input("float16", ("n", 3))}, {}, "is declared as float16 of rank 2, and the entry takes float32[?, 3]"),
    ({**ROWS, "y": ROWS["x"]}, {}, "declares 2 tensors, and the entry takes 1"),
    (ROWS, {"buckets": {"n": (4, 16)}}, "buckets: cut results at their true sizes"),
    (ROWS, {"dtype": "float16"}, "dtype: applies to modules, and the source is stablehlo in MLIR (remove it)"),
])  # fmt: skip
def test_inputs_that_are_not_those_of_the_entry_are_refused(
    tmp_path: Path, inputs: dict[str, Input], settings: dict[str, Any], words: str
) -> None:
    result = lower(tmp_path, STABLEHLO, "stablehlo", inputs, **settings)
    assert result.stage == "read" and result.outcome != "ok"
    assert words in "\n".join(map(str, result.problems))


STAGES = {name: {"_target_": f"lowering.stages.{name}.{kind}"} for name, kind in (
    ("export", "Export"), ("torchscript", "ToTorchScript"), ("stablehlo", "ToStableHLO"), ("mhlo", "ToMHLO"), ("verify", "Verify"))}


def test_stages_above_the_source_give_way_to_its_reader() -> None:
    factory = {"_target_": sources.MLIR, "path": "x", "level": "stablehlo"}
    stages, refused = sources.enter(STAGES, factory, None)
    assert list(stages) == ["read", "mhlo", "verify"] and stages["read"] == {"_target_": "lowering.stages.read.ReadStableHLO"}
    assert not refused
    assert sources.enter(STAGES, {"_target_": "package.Model"}, None) == (STAGES, [])
    assert "name the level" in sources.enter(STAGES, {"_target_": sources.MLIR, "path": "x", "level": "linalg"}, None)[1][0][2]
    assert "below until: torchscript" in sources.enter(STAGES, factory, "torchscript")[1][0][1]


def test_new_writes_the_file_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, STABLEHLO)
    assert new.main(["model", "mine", "--from", "program.mlir"]) == 0
    (job,) = plan(["model=./mine.yaml"]).jobs
    assert job["model"]["inputs"] == {"arg0": job["model"]["inputs"]["arg0"]} and job["model"]["inputs"]["arg0"]["shape"] == ["arg0_d0", 3]
    assert list(job["stages"]) == ["read", "mhlo", "verify", "package"]
    write(tmp_path, TORCH)
    with pytest.raises(ConfigError, match="2 public functions"):
        new.main(["model", "other", "--from", "program.mlir"])
