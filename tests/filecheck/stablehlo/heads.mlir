// A projection is split into heads and merged again. Its weight and bias are reshaped instead, with the contracted dim first, so that a compiler
// reads the weight in place. A weight whose contracted dim comes last stays as it is: the heads are merged.
// SIGNATURE: {"inputs": {"x": ["b", "s", 8], "w": [8, 8], "bias": [8], "o": [8, 8]}, "symbols": {"b": [1, 64], "s": [1, 512]}, "assertions": false}
func.func @main(%x: tensor<?x?x8xf32>, %w: tensor<8x8xf32>, %bias: tensor<8xf32>, %o: tensor<8x8xf32>) -> tensor<?x?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  %b = tensor.dim %x, %c0 : tensor<?x?x8xf32>
  %s = tensor.dim %x, %c1 : tensor<?x?x8xf32>
  %s3 = tensor.from_elements %b, %s, %c8 : tensor<3xindex>
  %s4 = tensor.from_elements %b, %s, %c2, %c4 : tensor<4xindex>
  %p = stablehlo.dot_general %x, %w, contracting_dims = [2] x [1] : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
  %wide = stablehlo.dynamic_broadcast_in_dim %bias, %s3, dims = [2] : (tensor<8xf32>, tensor<3xindex>) -> tensor<?x?x8xf32>
  %sum = stablehlo.add %p, %wide : tensor<?x?x8xf32>
  %split = stablehlo.dynamic_reshape %sum, %s4 : (tensor<?x?x8xf32>, tensor<4xindex>) -> tensor<?x?x2x4xf32>
  %heads = stablehlo.transpose %split, dims = [0, 2, 1, 3] : (tensor<?x?x2x4xf32>) -> tensor<?x2x?x4xf32>
  %t = stablehlo.tanh %heads : tensor<?x2x?x4xf32>
  %back = stablehlo.transpose %t, dims = [0, 2, 1, 3] : (tensor<?x2x?x4xf32>) -> tensor<?x?x2x4xf32>
  %merged = stablehlo.dynamic_reshape %back, %s3 : (tensor<?x?x2x4xf32>, tensor<3xindex>) -> tensor<?x?x8xf32>
  %r = stablehlo.dot_general %merged, %o, contracting_dims = [2] x [1] : (tensor<?x?x8xf32>, tensor<8x8xf32>) -> tensor<?x?x8xf32>
  return %r : tensor<?x?x8xf32>
}
// # CHECK: [[T:%\w+]] = stablehlo.transpose %arg1, dims = [1, 0]
// # CHECK: [[W:%\w+]] = stablehlo.reshape [[T]] : (tensor<8x8xf32>) -> tensor<8x2x4xf32>
// # CHECK: stablehlo.dot_general %arg0, [[W]], contracting_dims = [2] x [0]
// # CHECK-SAME: -> tensor<?x?x2x4xf32>
// # CHECK: stablehlo.reshape %arg2 : (tensor<8xf32>) -> tensor<2x4xf32>
// # CHECK: stablehlo.dynamic_broadcast_in_dim {{%\w+}}, {{%\w+}}, dims = [2, 3]
// # CHECK: stablehlo.tanh
// # CHECK: [[M:%\w+]] = stablehlo.dynamic_reshape
// # CHECK: stablehlo.dot_general [[M]], %arg3, contracting_dims = [2] x [1]
