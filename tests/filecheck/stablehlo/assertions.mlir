// Ranges, multiples, dims that must agree and guards are asserted on the sizes as given; what the ranges imply is not said again.
// SIGNATURE: {"inputs": {"x": ["b", "2*s + 1"], "y": ["b"]}, "symbols": {"b": [2, 64, 2], "s": [1, 10]}, "guards": ["s % 3 != 1", "b < 100"]}
func.func @main(%x: tensor<?x?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
  return %y : tensor<?xf32>
}
// # CHECK: @shape_assertion({{.*}}) {error_message = "b must be at least 2, got {0}", has_side_effect = true}
// # CHECK: error_message = "b must be at most 64, got {0}"
// # CHECK: error_message = "b must be a multiple of 2, got {0}"
// # CHECK: error_message = "s must be at least 1, got {0}"
// # CHECK: error_message = "s must be at most 10, got {0}"
// # CHECK: error_message = "dim 1 of x must be 2*s + 1 = {1}, got {0}"
// # CHECK: error_message = "dim 0 of y must be b = {1}, got {0}"
// # CHECK: error_message = "the exported program needs s % 3 != 1"
// # CHECK-NOT: shape_assertion
// # CHECK: return %arg1
