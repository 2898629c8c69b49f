// What else needs a product keeps it: it is not computed twice to save a reshape.
// SIGNATURE: {"inputs": {"x": ["b", 8], "w": [8, 8]}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>) -> (tensor<?x8xf32>, tensor<?x2x4xf32>) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %c4 = arith.constant 4 : index
  %b = tensor.dim %x, %c0 : tensor<?x8xf32>
  %s = tensor.from_elements %b, %c2, %c4 : tensor<3xindex>
  %p = stablehlo.dot_general %x, %w, contracting_dims = [1] x [1] : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %r = stablehlo.dynamic_reshape %p, %s : (tensor<?x8xf32>, tensor<3xindex>) -> tensor<?x2x4xf32>
  return %p, %r : tensor<?x8xf32>, tensor<?x2x4xf32>
}
// # CHECK: [[P:%\w+]] = stablehlo.dot_general %arg0, %arg1
// # CHECK-NOT: dot_general
// # CHECK: [[R:%\w+]] = stablehlo.dynamic_reshape [[P]]
// # CHECK: return [[P]], [[R]]
