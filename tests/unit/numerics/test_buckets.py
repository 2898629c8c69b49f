"""Buckets: static programs for chosen sizes from one dynamic program, which serve smaller sizes by padding."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lowering import files
from lowering.eager import inputs
from lowering.eager.module import run_eager
from lowering.errors import InfraError, Refused, Unsupported
from lowering.ir import mlir, portable
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol
from lowering.model_checks import find_problems
from lowering.numerics.delivery import artifact, buckets
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from tests.toys import Heard
from tests.unit.models import tiny_bert

SIZES = {"batch": (1, 4), "seq": (8, 32)}


def lowered(kind: str, shapes: dict[str, tuple[str, ...]], sizes: dict[str, tuple[int, ...]], **changes: object) -> Program:
    given = {name: Input("float32", shape) for name, shape in shapes.items()} | {name: Input("SymInt") for name in sizes if name == "count"}
    model = Model(kind.lower(), {"_target_": f"tests.unit.models.bucket_models.{kind}"}, given,
                  {name: Symbol(1, 16) for name in sizes}, buckets=sizes)  # fmt: skip
    model = replace(model, **changes)  # type: ignore[arg-type]
    return tiny_bert.lower(Program(Level.MODEL, model), Export(), ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO())


def module_of(program: Program) -> Built:
    top = program.at(Level.MODEL)
    assert top is not None
    return top.ir  # type: ignore[no-any-return]


def with_buckets(program: Program, model: Model) -> Program:
    top = program.at(Level.MODEL)
    assert top is not None
    return replace(program, above=replace(top, ir=Built(model, top.ir.module)))


def test_every_bucket_is_static_and_serves_smaller_sizes(tmp_path: Path) -> None:
    model = replace(tiny_bert.MODEL, buckets=SIZES)
    program, note = with_buckets(tiny_bert.mhlo_level(), model), Heard()
    package = Package()
    saved = package.save(package.apply(program, note), tmp_path / "07-package")
    assert not note.codes
    record = files.read(tmp_path / "dispatch.json")
    assert [bucket["sizes"] for bucket in record["buckets"]] == [
        {"batch": 1, "seq": 8}, {"batch": 4, "seq": 8}, {"batch": 1, "seq": 32}, {"batch": 4, "seq": 32}]  # fmt: skip
    assert [(argument["name"], argument["dims"], argument["pad"]) for argument in record["arguments"] if argument["kind"] == "input"] == [
        ("input_ids", ["batch", "seq"], 0), ("attention_mask", ["batch", "seq"], 0)]  # fmt: skip
    for bucket in record["buckets"]:
        module = portable.deserialize((tmp_path / bucket["program"]).read_bytes())
        assert {name.partition(".")[0] for name in mlir.count_ops(module)} == {"func", "stablehlo"}
        assert re.findall(r'jax.(?:arg|result)_info = "(\w+)"', mlir.text(module))[-4:] == [
            "input_ids", "attention_mask", "last_hidden_state", "pooler_output"]  # fmt: skip
        assert "?" not in mlir.text(module) and "custom_call" not in mlir.text(module)
        assert (tmp_path / bucket["mhlo"]).read_text().count("mhlo.erf") == 1
        assert (tmp_path / bucket["mhlo"]) in saved
    found = artifact.Artifact.load(tmp_path)
    module = module_of(program).module
    for seed, (batch, seq) in enumerate(((1, 8), (1, 1), (1, 9), (3, 5), (2, 32), (4, 31), (5, 3))):
        sizes = {"batch": batch, "seq": seq}
        done = found.execute(sizes, seed=seed)
        want = run_eager(module, model, inputs.make(model, sizes, seed)).leaves
        for name, value in done.results.items():
            torch.testing.assert_close(value, want[name], atol=1e-5, rtol=1e-4)
        expected = None if batch > 4 else {"batch": 1 if batch == 1 else 4, "seq": 8 if seq <= 8 else 32}
        assert (done.bucket and done.bucket.sizes) == expected and done.bucketed
    assert found.execute({"batch": 1, "seq": 8}, dynamic=True).bucket is None
    for part, key, value, error, cause in (
        ("buckets", "sizes", {}, InfraError, "has no size here"),
        ("buckets", "sizes", {"batch": 1 << 40, "seq": 1 << 20}, Refused, "memory"),
        ("results", "dims", ["batch"] * 9, InfraError, "too many indices"), ("arguments", "dims", ["(", 1], InfraError, "cannot read"),
    ):  # fmt: skip
        files.write(tmp_path / "dispatch.json", {**record, part: [{**item, key: value} for item in record[part]]})
        with pytest.raises(error, match=cause):
            artifact.execute(tmp_path, {"batch": 1, "seq": 8})


def test_ints_are_the_buckets_and_results_are_cropped(tmp_path: Path) -> None:
    program, note = lowered("Totals", {"x": ("rows", "columns")}, {"rows": (4,), "columns": (8,), "count": (6,)}), Heard()
    package = Package()
    package.save(package.apply(program, note), tmp_path / "07-package")
    assert not note.codes
    done = artifact.execute(tmp_path, {"rows": 3, "columns": 5, "count": 2})
    assert done.bucket is not None and {name: tuple(value.shape) for name, value in done.results.items()} == {
        "sum": (3,), "rows": (3, 5), "numbers": (2,)}  # fmt: skip
    assert torch.equal(done.results["numbers"], torch.arange(2))


@pytest.mark.parametrize(("kind", "names", "cause"), [
    ("Spans", "x", "'output' depends on columns itself, whatever the inputs are padded with"),
    ("Largest", "xy", "the padding of 'x' along columns changes 'output'"),
])
def test_a_symbol_whose_padding_changes_results_must_be_exact(tmp_path: Path, kind: str, names: str, cause: str) -> None:
    shapes = dict.fromkeys(names, ("rows", "columns"))
    program, note = lowered(kind, shapes, {"rows": (4,), "columns": (8,)}), Heard()
    package = Package()
    package.save(package.apply(program, note), tmp_path / "07-package")
    assert note.codes == ["bucket_not_padded"] and cause in note.messages[0]
    assert note.reports["buckets"][0]["exact"] == ["columns"]
    assert artifact.execute(tmp_path, {"rows": 3, "columns": 8}).bucket is not None
    assert artifact.execute(tmp_path, {"rows": 3, "columns": 7}).bucket is None


def test_a_pad_value_makes_a_bucket_serve(tmp_path: Path) -> None:
    padded = {"x": Input("float32", ("rows", "columns"), pad=-1e9), "y": Input("float32", ("rows", "columns"))}
    program, note = lowered("Largest", {}, {"rows": (4,), "columns": (8,)}, inputs=padded), Heard()
    Package().apply(program, note)
    assert not note.codes


def test_a_bucket_that_the_program_declines_is_refused_in_its_words() -> None:
    program = lowered("Halves", {"x": ("rows", "columns")}, {"rows": (4,), "columns": (8,)}, symbols={
        "rows": Symbol(1, 16), "columns": Symbol(2, 16, 2)})  # fmt: skip
    wrong = with_buckets(program, replace(module_of(program).model, buckets={"rows": (4, 17), "columns": (7, 8)}))
    with pytest.raises(Unsupported, match="bucket rows=17, columns=8: rows must be at most 16, got 17") as caught:
        Package().apply(wrong, Heard())
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(("sizes", "cause"), [
    ({"batch": [1]}, "model.buckets.seq: is missing (a static program needs a size of every symbol)"),
    ({"batch": [1], "sqe": [8]}, "model.buckets.sqe: is not a symbol (did you mean 'seq'?)"),
    ({"batch": [1, 9], "seq": [8]}, "model.buckets.batch: 9 is outside [1, 8] (every bucket is a size of the symbol)"),
    ({"batch": [4, 1], "seq": [8]}, "model.buckets.batch: [4, 1] is not a list of increasing sizes (for example [1, 8])"),
])
def test_wrong_buckets_are_refused(sizes: dict[str, list[int]], cause: str) -> None:
    assert cause in [str(problem) for problem in find_problems(replace(tiny_bert.MODEL, buckets=sizes))]  # type: ignore[arg-type]


def test_a_symbol_of_one_size_is_static() -> None:
    symbols = {"rows": Symbol(1, 16), "columns": Symbol(8, 8)}
    program = lowered("Halves", {"x": ("rows", "2*columns")}, {"rows": (4,), "columns": (8,)}, symbols=symbols)
    model = module_of(program).model
    assert (model.inputs["x"].shape, list(model.symbols), dict(model.buckets)) == (("rows", 16), ["rows"], {"rows": (4,)})
    assert program.signature is not None and program.signature.inputs[0].dims == ("rows", 16)
    (module,) = buckets.make_all(program, model)
    assert module.cost["products"] == 0
    one = Model("one", {"_target_": "tests.unit.models.bucket_models.Totals"}, {
        "x": Input("float32", ("rows", 2)), "count": Input("SymInt")}, {"rows": Symbol(1, 1), "count": Symbol(3, 3)})  # fmt: skip
    assert (dict(one.constants), list(one.inputs), one.inputs["x"].shape, find_problems(one)) == ({"count": 3}, ["x"], (1, 2), [])
