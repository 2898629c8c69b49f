"""Python numbers as inputs and outputs: an int is a symbol, a float and a bool are data. All are 0-d tensors in MHLO, none a constant."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from lowering import pipeline
from lowering.errors import Refused
from lowering.ir import mlir
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol
from lowering.model_checks import find_problems
from lowering.numerics.delivery import artifact
from lowering.numerics.running.iree import is_available
from lowering.numerics.running.runner import make_runner
from lowering.numerics.running.xla import Xla
from lowering.numerics.verifier import Settings, verify
from lowering.signature import Argument
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from lowering.symbols.schema import SymbolRecord
from lowering.torchscript import deployable
from lowering.torchscript.text import parse
from tests.unit.models import number_models

ROWS = Input("float32", ("batch", 40))
CROP = Model("crop", {"_target_": "tests.unit.models.number_models.Crop"}, {"x": ROWS, "columns": Input("SymInt")},
             {"batch": Symbol(2, 64), "columns": Symbol(2, 30)})
TEMPERATURE = Model(
    "temperature", {"_target_": "tests.unit.models.number_models.Temperature"},
    {"x": Input("float32", ("batch", 8)), "scale": Input("SymFloat", fill={"uniform": [0.5, 2]}), "masked": Input("SymBool")},
    {"batch": Symbol(2, 64)})
STAGES = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO()}


def lowered(model: Model) -> Program:
    program = Program(Level.MODEL, model)
    for stage in STAGES.values():
        assert not stage.requires(program)
        program = stage.apply(program, Silent())
        assert not stage.ensures(program)
    return program


@pytest.fixture(scope="module")
def crop() -> Program:
    return lowered(CROP)


@pytest.fixture(scope="module")
def temperature() -> Program:
    return lowered(TEMPERATURE)


def test_an_int_stays_dynamic_at_every_level(crop: Program) -> None:
    assert crop.signature is not None
    assert crop.signature.inputs[1] == Argument("input", "columns", "int64", (), value="columns")
    taken = {level: str(list(crop.at(level).ir.inputs())[3].type()) for level in (Level.TORCHSCRIPT,)}  # type: ignore[union-attr]
    assert taken == {Level.TORCHSCRIPT: "int"}
    text = str(crop.at(Level.TORCHSCRIPT).ir)  # type: ignore[union-attr]
    assert str(parse(text)) == text
    assert "%arg3: !torch.int" in mlir.text(crop.at(Level.TORCH).ir)  # type: ignore[union-attr]
    assert "%arg3: tensor<i64>) -> (tensor<?x?xf32>" in mlir.text(crop.ir)


def test_every_level_agrees_with_eager_at_several_values(crop: Program, temperature: Program) -> None:
    for program in (crop, temperature):
        levels = (Level.EXPORTED, Level.TORCHSCRIPT, Level.STABLEHLO, Level.MHLO)
        found, _ = verify(program, Settings(4, (*levels, Level.TORCH) if is_available() else levels))
        assert not [*found.mismatches, *found.failures]
    points = [check.point.sizes["columns"] for check in verify(crop, Settings(4, (Level.TORCHSCRIPT,)))[0].points]
    assert len(set(points)) >= 3


def test_a_value_outside_its_range_is_refused(crop: Program) -> None:
    found, _ = verify(crop, Settings(1))
    assert not found.answers.accepted
    assert any("columns must be at most 30, got 31" in words for words in found.answers.refused)


def test_floats_and_bools_are_data(temperature: Program) -> None:
    assert "%arg1: tensor<f64>, %arg2: tensor<i1>)" in mlir.text(temperature.ir)
    run = make_runner(temperature, Xla())
    x = torch.ones(5, 8)
    for scale, masked in ((0.5, False), (4.0, True)):
        scaled, doubled, kept, truth = run({"x": x, "scale": torch.tensor(scale, dtype=torch.float64), "masked": torch.tensor(masked)})
        assert torch.equal(scaled, x / scale)
        assert (doubled.item(), truth.item()) == (scale * 2, masked)
        assert torch.equal(kept, x * masked)


def test_the_deployable_module_takes_an_int(crop: Program) -> None:
    script = crop.at(Level.TORCHSCRIPT)
    assert script is not None
    held = io.BytesIO()
    torch.jit.save(deployable.build_module(script), held)
    held.seek(0)
    module, built = torch.jit.load(held), crop.at(Level.MODEL)
    assert built is not None and isinstance(built.ir, Built)
    for rows, columns in ((3, 4), (6, 29)):
        x = torch.randn(rows, 40)
        want = built.ir.module(x=x, columns=columns)
        for got, expected in zip(module(x, columns), want.values(), strict=True):
            assert torch.equal(got, expected) if isinstance(expected, torch.Tensor) else got == expected


def test_what_is_packaged_runs_at_any_value(tmp_path: Path) -> None:
    result = pipeline.run(Job(CROP, {**STAGES, "verify": Verify(points=2), "package": Package()}), tmp_path)
    assert result.outcome == "ok", result.problems
    loaded = artifact.Artifact.load(tmp_path)
    assert loaded.execute({"batch": 3, "columns": 9}).results["cropped"].shape == (3, 9)
    with pytest.raises(Refused, match="columns=31"):
        loaded.execute({"columns": 31})


def test_the_record_follows_an_int_to_mhlo(tmp_path: Path) -> None:
    result = pipeline.run(Job(CROP,
                              {"export": Export(archive=False), **{name: stage for name, stage in STAGES.items() if name != "export"}}),
                          tmp_path)
    assert result.symbols is not None
    entry = next(one for one in SymbolRecord.from_json(result.symbols).requested if one.id == "columns")
    assert (entry.verdict, entry.expr, entry.lost_at) == ("dynamic", "columns", None)
    assert [place.level for place in entry.levels] == ["exported", "torchscript", "torch", "stablehlo", "mhlo"]


def test_an_int_that_the_code_fixes_is_reported_with_its_line(tmp_path: Path) -> None:
    model = Model("unrolled", {"_target_": "tests.unit.models.number_models.Unrolled"}, {"x": ROWS, "turns": Input("SymInt")},
                  {"batch": Symbol(2, 64), "turns": Symbol(2, 30)})
    result = pipeline.run(Job(model, {"export": Export(explain=False)}), tmp_path)
    assert result.outcome == "error"
    line = next(number for number, text in enumerate(Path(number_models.__file__).read_text().splitlines(), 1) if "range(turns)" in text)
    messages = [warning.message for warning in result.warnings]
    (became,) = [message for message in messages if message.startswith("turns, requested as turns, became")]
    assert f"number_models.py:{line} " in became


@pytest.mark.parametrize(("given", "symbols", "cause"), [
    (Input("SymInt", (3,)), {"n": Symbol(2, 30)}, "inputs.n.shape: a SymInt is a Python number and has no shape"),
    (Input("SymInt"), {}, "inputs.n: a SymInt needs a symbol of the same name, and none is declared"),
    (Input("SymInt"), {"n": Symbol(2, 30, multiple_of=2)}, "symbols.n.multiple_of: torch.export does not support ints that are multiples"),
    (Input("SymInt", fill="ones"), {"n": Symbol(2, 30)}, "inputs.n.fill: a SymInt takes its values from the symbol's range"),
    (Input("SymBool", fill="randn"), {}, "inputs.n.fill: randn needs a floating dtype, not SymBool"),
    (Input("Symint"), {}, "inputs.n.dtype: 'Symint' is not a dtype (did you mean 'SymInt'?"),
])  # fmt: skip
def test_wrong_declarations_are_refused(given: Input, symbols: dict[str, Symbol], cause: str) -> None:
    model = Model("m", {"_target_": "tests.unit.models.number_models.Crop"}, {"x": ROWS, "n": given}, {"batch": Symbol(2, 64), **symbols})
    assert any(cause in str(problem) for problem in find_problems(model)), [str(problem) for problem in find_problems(model)]


def test_an_int_and_a_dim_are_two_symbols() -> None:
    model = Model("m", {"_target_": "tests.unit.models.number_models.Crop"}, {"x": ROWS, "batch": Input("SymInt")},
                  {"batch": Symbol(2, 64)})
    assert any("take the size from the tensor: x.shape[0]" in str(problem) for problem in find_problems(model))
