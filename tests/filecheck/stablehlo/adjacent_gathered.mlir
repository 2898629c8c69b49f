// Positions counted from 2 on lie inside the table, by the range of s: a slice. From s on they may not: a gather.
// SIGNATURE: {"inputs": {"x": ["b", "s"], "table": [512, 4]}, "symbols": {"b": [1, 64], "s": [1, 500]}, "assertions": false}
func.func @main(%x: tensor<?x?xf32>, %table: tensor<512x4xf32>) -> (tensor<1x?x4xf32>, tensor<?x4xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %two = stablehlo.constant dense<2> : tensor<i64>
  %s = tensor.dim %x, %c1 : tensor<?x?xf32>
  %size = arith.index_cast %s : index to i64
  %scalar = tensor.from_elements %size : tensor<i64>
  %shape = tensor.from_elements %s : tensor<1xindex>
  %row = tensor.from_elements %c1, %s : tensor<2xindex>
  %steps = stablehlo.dynamic_iota %shape, dim = 0 : (tensor<1xindex>) -> tensor<?xi64>
  %twos = stablehlo.dynamic_broadcast_in_dim %two, %shape, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %sizes = stablehlo.dynamic_broadcast_in_dim %scalar, %shape, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %near = stablehlo.add %steps, %twos : tensor<?xi64>
  %far = stablehlo.add %steps, %sizes : tensor<?xi64>
  %at = stablehlo.dynamic_reshape %near, %row : (tensor<?xi64>, tensor<2xindex>) -> tensor<1x?xi64>
  %a = "stablehlo.gather"(%table, %at) <{dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 2>, slice_sizes = array<i64: 1, 4>}> : (tensor<512x4xf32>, tensor<1x?xi64>) -> tensor<1x?x4xf32>
  %b = "stablehlo.gather"(%table, %far) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 4>}> : (tensor<512x4xf32>, tensor<?xi64>) -> tensor<?x4xf32>
  return %a, %b : tensor<1x?x4xf32>, tensor<?x4xf32>
}
// # CHECK: stablehlo.real_dynamic_slice %arg1,
// # CHECK-SAME: -> tensor<?x4xf32>
// # CHECK: "stablehlo.gather"(%arg1,
