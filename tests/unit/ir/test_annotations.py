"""The comments that tell which code line each line of a saved module comes from."""

from __future__ import annotations

from pathlib import Path

from lowering.ir import mlir, portable
from lowering.ir.annotations import read_lines, read_modules, read_values, strip

NAMED = '''module {
  func.func @main(%arg0: tensor<?xf32>) -> tensor<?xf32> {
    %0 = stablehlo.negate %arg0 : tensor<?xf32> loc("a/model: one.py":7:3)
    %1 = stablehlo.negate %0 : tensor<?xf32> loc("encoder"("a/model: one.py":7:0))
    %2 = stablehlo.abs %1 : tensor<?xf32> loc(fused["b.py":12:1, "c.py":2:1])
    return %2 : tensor<?xf32> loc(unknown)
  } loc(unknown)
} loc(unknown)
'''


def test_every_line_of_a_saved_module_knows_its_code_line(tmp_path: Path) -> None:
    module = mlir.parse(NAMED, mlir.create_torch_context())
    text = mlir.save(module, tmp_path / "04-stablehlo", ".stablehlo.mlir").read_text()
    found = read_lines(text)
    lines = text.splitlines()
    assert {lines[number - 1].split()[2]: where for number, where in found.items()} == {
        "stablehlo.negate": ("a/model: one.py", 7), "stablehlo.abs": ("b.py", 12)}
    assert sum(where == ("a/model: one.py", 7) for where in found.values()) == 2
    assert strip(text) == mlir.text(module)
    assert {lines[number - 1].split()[0]: path for number, path in read_modules(text).items()} == {"%1": "encoder"}


def test_a_saved_module_still_parses_and_keeps_its_locations_when_copied(tmp_path: Path) -> None:
    module = mlir.parse(NAMED, mlir.create_torch_context())
    saved = mlir.save(module, tmp_path / "x", ".mlir").read_text()
    assert mlir.text(mlir.parse(saved, mlir.create_torch_context())) == mlir.text(module)
    assert mlir.save(mlir.copy(module), tmp_path / "y", ".mlir").read_text() == saved


def test_the_lines_go_with_the_program_to_the_other_build(tmp_path: Path) -> None:
    module = portable.to_hlo(mlir.parse(NAMED, mlir.create_torch_context()))
    assert ("b.py", 12) in read_lines(mlir.save(module, tmp_path / "z", ".mlir").read_text()).values()


def test_a_module_without_locations_gets_no_comment(tmp_path: Path) -> None:
    module = mlir.parse("func.func @main() { return loc(unknown) } loc(unknown)", mlir.create_torch_context())
    text = mlir.save(module, tmp_path / "x", ".mlir").read_text()
    assert read_lines(text) == {}


def test_every_line_knows_the_value_that_it_computes(tmp_path: Path) -> None:
    text = """module {
  func.func @main(%arg0: tensor<?xf32>) -> tensor<?xf32> {
    %0 = stablehlo.negate %arg0 : tensor<?xf32> loc("%mul"("encoder"("model.py":7:0)))
    %1 = stablehlo.abs %0 : tensor<?xf32> loc("%mul"("encoder"("model.py":7:0)))
    %2 = stablehlo.sine %1 : tensor<?xf32> loc(fused["encoder"("model.py":9:0), "%sin"("model.py":9:0)])
    %3 = stablehlo.cosine %2 : tensor<?xf32> loc("%not a value.py":3:0)
    return %3 : tensor<?xf32> loc(unknown)
  } loc(unknown)
} loc(unknown)
"""
    module = portable.to_hlo(mlir.parse(text, mlir.create_torch_context()))
    saved = mlir.save(module, tmp_path / "05-mhlo", ".mhlo.mlir").read_text()
    lines = saved.splitlines()
    assert {lines[number - 1].split()[2].partition(".")[2]: value for number, value in read_values(saved).items()} == {
        "negate": "mul", "abs": "mul", "sine": "sin"}
    assert strip(saved) == mlir.text(module)


def test_what_looks_like_a_location_in_a_string_stays_and_arguments_lose_theirs() -> None:
    text = """module {
  func.func @main(%arg0: tensor<f32> loc("a(b) \\" c.py":1:2), %arg1: tensor<f32> loc(callsite("f"("g"("d.py":3:4)) at unknown)))
      -> tensor<f32> {
    stablehlo.custom_call @shape_assertion(%arg0) {error_message = "see loc(#loc1) and loc(unknown)"} : (tensor<f32>) -> () loc("e.py":5:0)
    %0 = "stablehlo.while"(%arg0) ({
    ^bb0(%arg2: tensor<f32> loc("h.py":8:1)):
      %1 = stablehlo.constant dense<true> : tensor<i1> loc("e.py":6:0)
      stablehlo.return %1 : tensor<i1> loc(unknown)
    }, {
    ^bb0(%arg2: tensor<f32> loc(unknown)):
      stablehlo.return %arg2 : tensor<f32> loc(unknown)
    }) : (tensor<f32>) -> tensor<f32> loc("e.py":7:0)
    return %0 : tensor<f32> loc(unknown)
  } loc(unknown)
} loc(unknown)
"""
    module = mlir.parse(text, mlir.create_torch_context())
    annotated = mlir.print_annotated(module)
    assert strip(annotated) == mlir.text(module)
    assert set(read_lines(annotated).values()) == {("e.py", 5), ("e.py", 6), ("e.py", 7)}
