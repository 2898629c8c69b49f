// Four heads that share a key: the product is over the keys as they are, with the heads of a group as rows. No key is repeated.
// SIGNATURE: {"inputs": {"q": ["b", 8, 1, 16], "k": ["b", 2, "s", 16]}, "symbols": {"b": [1, 64], "s": [1, 512]}, "assertions": false}
func.func @main(%q: tensor<?x8x1x16xf32>, %k: tensor<?x2x?x16xf32>) -> tensor<?x8x1x?xf32> {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %b = tensor.dim %q, %c0 : tensor<?x8x1x16xf32>
  %s = tensor.dim %k, %c2 : tensor<?x2x?x16xf32>
  %groups = tensor.from_elements %b, %c2, %c4, %s, %c16 : tensor<5xindex>
  %heads = tensor.from_elements %b, %c8, %s, %c16 : tensor<4xindex>
  %repeated = stablehlo.dynamic_broadcast_in_dim %k, %groups, dims = [0, 1, 3, 4] : (tensor<?x2x?x16xf32>, tensor<5xindex>) -> tensor<?x2x4x?x16xf32>
  %keys = stablehlo.dynamic_reshape %repeated, %heads : (tensor<?x2x4x?x16xf32>, tensor<4xindex>) -> tensor<?x8x?x16xf32>
  %turned = stablehlo.transpose %keys, dims = [0, 1, 3, 2] : (tensor<?x8x?x16xf32>) -> tensor<?x8x16x?xf32>
  %r = stablehlo.dot_general %q, %turned, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [2] : (tensor<?x8x1x16xf32>, tensor<?x8x16x?xf32>) -> tensor<?x8x1x?xf32>
  return %r : tensor<?x8x1x?xf32>
}
// # CHECK-NOT: broadcast
// # CHECK: stablehlo.dot_general {{%\w+}}, %arg1, batching_dims = [0, 1] x [0, 1], contracting_dims = [4] x [3]
// # CHECK-SAME: (tensor<?x2x4x1x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x4x1x?xf32>
// # CHECK-NOT: broadcast
