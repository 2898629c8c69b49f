"""Dims followed down the levels: where each stands, where one is lost, and who checks a guard."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lowering.fx.exported import Exported, read_signature
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Model, Symbol
from lowering.symbols import levels
from lowering.symbols.levels import follow, parse_dims, parse_text_arguments
from lowering.symbols.schema import Relation
from tests.unit.models import symbol_models as models
from tests.unit.models.symbol_models import Captured, export, model

MHLO = """
func.func private @inner(%arg0: tensor<3xf32>) -> tensor<3xf32> {{
  return %arg0 : tensor<3xf32>
}}
func.func public @main(%arg0: tensor<{n}x7xf32>, %arg1: tensor<?x7xf32>) -> tensor<?x7xf32> {{
  {body}
  %0 = mhlo.add %arg1, %arg1 : tensor<?x7xf32>
  return %0 : tensor<?x7xf32>
}}
"""


def module(text: str) -> Any:
    return mlir.parse(text, mlir.create_hlo_context())


def exported() -> tuple[Captured, Model, Program]:
    declared = model(models.Shared, {"batch": Symbol(2, 64)}, x=["batch", 7], y=["batch", 7])
    captured = export(models.Shared, declared)
    assert captured.program is not None
    return captured, declared, Program(Level.EXPORTED, captured.program, read_signature(Exported(captured.program), declared))


def test_a_dim_is_found_at_every_level_it_passes() -> None:
    captured, _, top = exported()
    graph = torch._C.parse_ir("graph(%x : Float(*, 7), %y : Float(*, 7)):\n  return (%x)\n")
    low = top.replace_ir(Level.TORCHSCRIPT, graph).replace_ir(Level.MHLO, module(MHLO.format(n="?", body="")))
    first, second = follow(captured.record, low).requested
    free = next(entry.name for entry in captured.record.symbols if entry.became is None)
    assert [(place.level, place.value, place.size) for place in first.levels] == [
        ("exported", "x", free), ("torchscript", "%x", "?"), ("mhlo", "%arg0", "?")]
    assert [place.value for place in second.levels] == ["y", "%y", "%arg1"]
    assert (first.lost_at, first.kept) == (None, True)


def test_a_dim_that_is_static_further_down_is_lost_there_and_a_warning() -> None:
    captured, _, top = exported()
    record = follow(captured.record, top.replace_ir(Level.MHLO, module(MHLO.format(n="5", body=""))))
    first, second = record.requested
    assert (first.verdict, first.value, first.lost_at, first.kept, second.lost_at) == ("specialized", 5, "mhlo", False, None)
    assert (first.line, first.why) == (captured.record.requested[0].line, "dynamic after export, static at level mhlo")
    (warned,) = [warned for warned in record.warnings if warned.code == "lost_at_level"]
    assert (warned.place, warned.value) == ("x[0]", 5)
    assert record.lost == (first,)
    assert follow(record, top.replace_ir(Level.MHLO, module(MHLO.format(n="5", body="")))) == record


@pytest.mark.parametrize(("guards", "verdict", "value"), [
    (("batch // 8 == 3", "batch % 8 == 4"), "specialized", 28), (("batch // 8 == 3",), "dynamic", None),
    (("batch * other == 28",), "dynamic", None),
])
def test_a_dim_that_assertions_pin_to_one_size_is_lost_at_their_level(guards: tuple[str, ...], verdict: str, value: int | None) -> None:
    captured, _, top = exported()
    lines = [f'mhlo.custom_call @shape_assertion(%c) {{error_message = "the exported program needs {guard}", has_side_effect = true}} : '
             '(tensor<i1>) -> ()'
             for guard in guards]  # fmt: skip
    body = "\n".join(["%c = mhlo.constant dense<true> : tensor<i1>", *lines])
    record = follow(captured.record, top.replace_ir(Level.MHLO, module(MHLO.format(n="?", body=body))))
    assert [(dim.verdict, dim.value, dim.lost_at) for dim in record.requested] == [(verdict, value, "mhlo" if value else None)] * 2
    assert [warned.value for warned in record.warnings if warned.code == "lost_at_level"] == ([value] * 2 if value else [])


def test_a_guard_is_carried_when_a_shape_assertion_says_it_and_reported_when_none_does() -> None:
    declared = model(models.Pairs, x=[None])
    captured = export(models.Pairs, declared, example={"x": torch.ones(6)})
    assert captured.program is not None
    top = Program(Level.EXPORTED, captured.program, read_signature(Exported(captured.program), declared))
    body = """%c = mhlo.constant dense<true> : tensor<i1>
  mhlo.custom_call @shape_assertion(%c) {error_message = "needs (x_0 % 2) == 0", has_side_effect = true} : (tensor<i1>) -> ()"""
    text = "func.func @main(%arg0: tensor<?xf32>) -> tensor<?xf32> {{\n {} \n return %arg0 : tensor<?xf32>\n}}"
    carried = follow(captured.record, top.replace_ir(Level.MHLO, module(text.format(body))))
    dropped = follow(captured.record, top.replace_ir(Level.MHLO, module(text.format(""))))
    of = {relation.text: relation for relation in carried.relations}
    assert of["x_0 % 2 == 0"].checked_by == ("exported", "mhlo")
    assert "x_0 % 2 == 0" not in [warned.place for warned in carried.warnings if warned.code == "guard_not_carried"]
    assert "x_0 % 2 == 0" in [warned.place for warned in dropped.warnings if warned.code == "guard_not_carried"]


@pytest.mark.parametrize(("message", "is_said"), [
    ("width + 44 != 3*height", True), ("44 + width != 3*height", True), ("Ne(3*height, 44 + width)", True),
    ("width + 45 != 3*height", False), ("width + 44 == 3*height", False), ("width", False)])
def test_a_guard_is_found_in_an_assertion_whatever_the_order_of_its_terms(message: str, is_said: bool) -> None:
    relation = Relation("G1", "guard", "Ne(s0 + 44, 3*s1)", "width + 44 != 3*height", None)
    assert levels._mentions(f"{levels.NEEDS}{message}", relation) == is_said


def test_an_assertion_on_data_that_no_level_checks_is_a_warning_with_its_line() -> None:
    declared = model(models.Counting, n=[])
    captured = export(models.Counting, declared)
    assert captured.program is not None
    top = Program(Level.EXPORTED, captured.program, read_signature(Exported(captured.program), declared))
    text = "func.func @main(%arg0: tensor<i64>) -> tensor<i64> {\n return %arg0 : tensor<i64>\n}"
    record = follow(captured.record, top.replace_ir(Level.MHLO, module(text)))
    unchecked = {warned.place: warned for warned in record.warnings if warned.code == "guard_not_carried"}
    assert unchecked["u0 < 20"].message == "u0 < 20 is asserted on data, and no program at level mhlo checks it"
    assert unchecked["u0 < 20"].line is not None and unchecked["u0 < 20"].line.line == models.line("below")


@pytest.mark.parametrize(("kind", "dims"), [
    ("tensor<?x16xf32>", ["?", "16"]), ("tensor<f32>", []), ("tensor<4xi64>", ["4"]), ("tensor<?x?xcomplex<f32>>", ["?", "?"]),
    ("tensor<?x16xf32, #mhlo.type_extensions<bounds = [64, ?]>>", ["?", "16"]), ("!torch.vtensor<[?,16],f32>", ["?", "16"]),
    ("!torch.vtensor<[],si64>", []), ("!torch.int", []), ("Tensor[s77, 7]", ["s77", "7"]), ("Tensor[]", []),
])
def test_dims_are_read_from_the_types_of_every_level(kind: str, dims: list[str]) -> None:
    assert parse_dims(kind) == dims


def test_arguments_are_read_from_saved_text() -> None:
    bounded, plain = "tensor<?x16xf32, #mhlo.type_extensions<bounds = [64, ?]>>", "!torch.vtensor<[?,4],f32>"
    text = (f"module @m {{ func.func private @inner(%arg0: i1)\n"
            f"func.func @main(%arg0: {bounded} {{a.name = \"x, y\"}}, %arg1: {plain}) -> i1 {{")
    assert parse_text_arguments(text) == [("%arg0", bounded), ("%arg1", plain)]
