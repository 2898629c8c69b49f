// Rows merged of dims of size 1, as a shifted window that is the whole picture is: nothing is gained by taking them apart, and it ends.
// SIGNATURE: {"inputs": {"x": ["b", 1, 1, 2, 2, 8], "w": [8, 16]}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%x: tensor<?x1x1x2x2x8xf32>, %w: tensor<8x16xf32>) -> tensor<?x4x16xf32> {
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  %b = tensor.dim %x, %c0 : tensor<?x1x1x2x2x8xf32>
  %in = tensor.from_elements %b, %c4, %c8 : tensor<3xindex>
  %rows = stablehlo.dynamic_reshape %x, %in : (tensor<?x1x1x2x2x8xf32>, tensor<3xindex>) -> tensor<?x4x8xf32>
  %p = stablehlo.dot_general %rows, %w, contracting_dims = [2] x [0] : (tensor<?x4x8xf32>, tensor<8x16xf32>) -> tensor<?x4x16xf32>
  return %p : tensor<?x4x16xf32>
}
// # CHECK: [[ROWS:%\w+]] = stablehlo.dynamic_reshape %arg0
// # CHECK-NEXT: [[P:%\w+]] = stablehlo.dot_general [[ROWS]], %arg1, contracting_dims = [2] x [0]
// # CHECK-NEXT: return [[P]]
