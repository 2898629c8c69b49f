// addmm on merged rows, as GPT-2's Conv1D views its argument: the product keeps (batch, seq), and no view is left.
// SIGNATURE: {"inputs": {"x": ["b", "s", 8], "w": [8, 16], "bias": [16]}, "symbols": {"b": [1, 64], "s": [1, 512]}, "assertions": false}
func.func @main(%x: tensor<?x?x8xf32>, %w: tensor<8x16xf32>, %bias: tensor<16xf32>) -> tensor<?x?x16xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %b = tensor.dim %x, %c0 : tensor<?x?x8xf32>
  %s = tensor.dim %x, %c1 : tensor<?x?x8xf32>
  %n = arith.muli %b, %s : index
  %in = tensor.from_elements %n, %c8 : tensor<2xindex>
  %out = tensor.from_elements %n, %c16 : tensor<2xindex>
  %whole = tensor.from_elements %b, %s, %c16 : tensor<3xindex>
  %rows = stablehlo.dynamic_reshape %x, %in : (tensor<?x?x8xf32>, tensor<2xindex>) -> tensor<?x8xf32>
  %p = stablehlo.dot_general %rows, %w, contracting_dims = [1] x [0] : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
  %wide = stablehlo.dynamic_broadcast_in_dim %bias, %out, dims = [1] : (tensor<16xf32>, tensor<2xindex>) -> tensor<?x16xf32>
  %sum = stablehlo.add %wide, %p : tensor<?x16xf32>
  %r = stablehlo.dynamic_reshape %sum, %whole : (tensor<?x16xf32>, tensor<3xindex>) -> tensor<?x?x16xf32>
  return %r : tensor<?x?x16xf32>
}
// # CHECK-NOT: reshape %arg
// # CHECK: [[P:%\w+]] = stablehlo.dot_general %arg0, %arg1, contracting_dims = [2] x [0]
// # CHECK: [[B:%\w+]] = stablehlo.dynamic_broadcast_in_dim %arg2, {{%\w+}}, dims = [2]
// # CHECK: [[R:%\w+]] = stablehlo.add [[B]], [[P]]
// # CHECK-NEXT: return [[R]]
