"""Composites of MHLO as ByteIR's custom calls."""

from __future__ import annotations

from lowering.ir import byteir, mlir

NORM = """
func.func @main(%x: tensor<?x3x8xf32>, %w: tensor<8xf32>, %b: tensor<8xf32>) -> tensor<?x3x8xf32> {
  %0 = mhlo.composite "byteir.layer_norm" %x, %w, %b {
    composite_attributes = {eps = 1.0e-5 : f64, normalized_shape = dense<8> : tensor<1xi64>}, decomposition = @norm} :
    (tensor<?x3x8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<?x3x8xf32>
  %1 = mhlo.composite "byteir.gelu" %0 {composite_attributes = {approximate = "none"}, decomposition = @gelu} :
    (tensor<?x3x8xf32>) -> tensor<?x3x8xf32>
  %2 = mhlo.composite "byteir.softmax" %1 {composite_attributes = {dim = 2 : i64}, decomposition = @gelu} :
    (tensor<?x3x8xf32>) -> tensor<?x3x8xf32>
  %3 = mhlo.composite "byteir.layer_norm" %2 {composite_attributes = {eps = 1.0e-5 : f64, normalized_shape = dense<8> : tensor<1xi64>},
    decomposition = @gelu} : (tensor<?x3x8xf32>) -> tensor<?x3x8xf32>
  return %3 : tensor<?x3x8xf32>
}
func.func private @norm(%x: tensor<?x3x8xf32>, %w: tensor<8xf32>, %b: tensor<8xf32>) -> tensor<?x3x8xf32> { return %x : tensor<?x3x8xf32> }
func.func private @gelu(%x: tensor<?x3x8xf32>) -> tensor<?x3x8xf32> { %0 = mhlo.tanh %x : tensor<?x3x8xf32> return %0 : tensor<?x3x8xf32> }
"""


def test_composites_become_custom_calls_in_the_form_that_byteir_reads() -> None:
    module = mlir.parse(NORM, mlir.create_hlo_context())
    byteir.convert(module)
    mlir.verify(module, "test")
    calls = [op for op in mlir.walk_operations(module) if op.name == "mhlo.custom_call"]
    assert [(call.attributes["call_target_name"].value, str(call.attributes["byteir_attrs"])) for call in calls] == [
        ("byteir.layer_norm", "{axis = [2], epsilon = 1.000000e-05 : f64}"), ("byteir.gelu", '{approximate = "erf"}'),
        ("byteir.softmax", "{axis = 2 : i64}")]  # fmt: skip
    assert mlir.count_ops(module).get("mhlo.tanh") == 1, "a norm without weights has no such call: its decomposition is there"
    assert mlir.count_ops(module)["func.func"] == 1
