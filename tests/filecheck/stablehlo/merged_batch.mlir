// Attention's (batch, heads) are two batch dims of one dot; torch-mlir merges them, multiplies, and splits them again.
// SIGNATURE: {"inputs": {"q": ["b", 4, "s", 8], "k": ["b", 4, 8, "s"]}, "symbols": {"b": [1, 64], "s": [1, 512]}, "assertions": false}
func.func @main(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  %b = tensor.dim %q, %c0 : tensor<?x4x?x8xf32>
  %s = tensor.dim %q, %c2 : tensor<?x4x?x8xf32>
  %bh = arith.muli %b, %c4 : index
  %sq = tensor.from_elements %bh, %s, %c8 : tensor<3xindex>
  %sk = tensor.from_elements %bh, %c8, %s : tensor<3xindex>
  %q3 = stablehlo.dynamic_reshape %q, %sq : (tensor<?x4x?x8xf32>, tensor<3xindex>) -> tensor<?x?x8xf32>
  %k3 = stablehlo.dynamic_reshape %k, %sk : (tensor<?x4x8x?xf32>, tensor<3xindex>) -> tensor<?x8x?xf32>
  %p = stablehlo.dot_general %q3, %k3, batching_dims = [0] x [0], contracting_dims = [2] x [1] : (tensor<?x?x8xf32>, tensor<?x8x?xf32>) -> tensor<?x?x?xf32>
  %s4 = tensor.from_elements %b, %c4, %s, %s : tensor<4xindex>
  %r = stablehlo.dynamic_reshape %p, %s4 : (tensor<?x?x?xf32>, tensor<4xindex>) -> tensor<?x4x?x?xf32>
  return %r : tensor<?x4x?x?xf32>
}
// # CHECK-NOT: reshape
// # CHECK: [[R:%\w+]] = stablehlo.dot_general %arg0, %arg1, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [2]
// # CHECK-NEXT: return [[R]]
