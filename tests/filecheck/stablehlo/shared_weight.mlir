// torch-mlir broadcasts a Linear's weight over the batch and transposes it; both are read in place.
// SIGNATURE: {"inputs": {"x": ["b", "s", 16], "w": [32, 16]}, "symbols": {"b": [1, 64], "s": [1, 512]}, "assertions": false}
func.func @main(%x: tensor<?x?x16xf32>, %w: tensor<32x16xf32>) -> tensor<?x?x32xf32> {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %b = tensor.dim %x, %c0 : tensor<?x?x16xf32>
  %t = stablehlo.transpose %w, dims = [1, 0] : (tensor<32x16xf32>) -> tensor<16x32xf32>
  %shape = tensor.from_elements %b, %c16, %c32 : tensor<3xindex>
  %wide = stablehlo.dynamic_broadcast_in_dim %t, %shape, dims = [1, 2] : (tensor<16x32xf32>, tensor<3xindex>) -> tensor<?x16x32xf32>
  %r = stablehlo.dot_general %x, %wide, batching_dims = [0] x [0], contracting_dims = [2] x [1] : (tensor<?x?x16xf32>, tensor<?x16x32xf32>) -> tensor<?x?x32xf32>
  return %r : tensor<?x?x32xf32>
}
// # CHECK: func.func @main
// # CHECK-NEXT: [[R:%\w+]] = stablehlo.dot_general %arg0, %arg1, contracting_dims = [2] x [1]
// # CHECK-NEXT: return [[R]]
