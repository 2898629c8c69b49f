"""Modules of several entries as one: names that clash, functions that are equal, comments, attributes."""

from __future__ import annotations

from typing import Any

import pytest

from lowering.errors import StageFailed
from lowering.ir import joining, mlir
from lowering.ir.annotations import HEAD, read_lines, read_values

ENTRY = """module {
  func.func @main(%x: tensor<?x4xf32>) -> tensor<?xf32> {
    %0 = call @outer(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %1 = call @same(%0) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %2 = mhlo.constant dense<0.0> : tensor<f32>
    %3 = mhlo.reduce(%1 init: %2) across dimensions = [1] : (tensor<?x4xf32>, tensor<f32>) -> tensor<?xf32>
     reducer(%a: tensor<f32>, %b: tensor<f32>)  {
      %4 = mhlo.add %a, %b : tensor<f32>
      %5 = mhlo.multiply %4, %b : tensor<f32>
      mhlo.return %5 : tensor<f32>
    }
    return %3 : tensor<?xf32>
  }
  func.func private @outer(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
    %0 = call @inner(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    return %0 : tensor<?x4xf32>
  }
  func.func private @inner(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
    %0 = mhlo.OP %x, %x : tensor<?x4xf32>
    return %0 : tensor<?x4xf32>
  }
  func.func private @same(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
    return %x : tensor<?x4xf32>
  }
}
"""
COMMENTS = f"{HEAD}\n// lines of model.py: 3=10 4=11 11=12\n// values: 11=product\n"


@pytest.fixture(scope="module")
def context() -> Any:
    return mlir.create_hlo_context()


def parse(op: str, context: Any) -> Any:
    return mlir.parse(ENTRY.replace("OP", op), context)


def list_names(module: Any) -> list[str]:
    return [function.attributes["sym_name"].value for function in mlir.walk_functions(module)]


def test_functions_of_one_name_are_kept_apart_and_equal_ones_kept_once(context: Any) -> None:
    joined = joining.join({"prefill": parse("add", context), "decode": parse("multiply", context)})
    # @outer has the same text in both, and calls another @inner
    assert list_names(joined) == ["prefill", "outer", "inner", "same", "decode", "decode_outer", "decode_inner"]
    for entry, op in (("prefill", "add"), ("decode", "multiply")):
        extracted = joining.extract(joined, entry)
        assert len(list_names(extracted)) == 4 and mlir.find_entry(extracted).attributes["sym_name"].value == "main"
        found = str(next(function for function in mlir.walk_functions(extracted) if "inner" in function.attributes["sym_name"].value))
        assert f"mhlo.{op} " in found


def test_an_entry_may_have_the_name_of_a_function(context: Any) -> None:
    joined = joining.join({"inner": parse("add", context), "main": parse("multiply", context)})
    assert {"inner", "inner_inner", "main"} < set(list_names(joined))
    assert "mhlo.add" in str(joining.extract(joined, "inner")) and "mhlo.multiply" not in str(joining.extract(joined, "inner")).partition(
        "mhlo.reduce")[0]
    assert len(list_names(joining.extract(joined, "main"))) == 4
    with pytest.raises(StageFailed, match=r"entry 'decode': is not a function of the program \(its entries: inner, main\)"):
        joining.extract(joined, "decode")


def test_joined_texts_name_the_code_lines_of_both(context: Any) -> None:
    texts = {entry: ENTRY.replace("OP", op) + COMMENTS for entry, op in (("prefill", "add"), ("decode", "multiply"))}
    text = joining.join_texts(texts, context)
    lines = text.splitlines()
    found = {number: (lines[number - 1].strip(), line) for number, (_, line) in read_lines(text).items()}
    assert [line for _, line in found.values()] == [10, 11, 12] * 2
    assert [code for code, line in found.values() if line == 12] == ["}", "}"] and list(read_values(text).values()) == ["product"] * 2
    mlir.parse(text, context)


def test_modules_of_different_attributes_are_refused(context: Any) -> None:
    torch_module = mlir.parse('module attributes {torch.debug_module_name = "Net"} { func.func @main() { return } }',
                              mlir.create_torch_context())
    assert "debug_module_name" in str(joining.join({"prefill": torch_module, "decode": torch_module}))
    one, other = (mlir.parse(ENTRY.replace("OP", "add").replace("module {",
                                                                f"module attributes {{mhlo.num_partitions = {count} : i32}} {{"),
                             context) for count in (1, 2))
    assert "num_partitions = 1" in str(joining.join({"prefill": one, "decode": one}))
    with pytest.raises(StageFailed, match=r"has mhlo.num_partitions = 2 : i32, where another has 1 : i32"):
        joining.join({"prefill": one, "decode": other})
