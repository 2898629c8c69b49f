// Places from the second on are not all there are: the lookup stays, and so does a comparison that differs from place to place.
// SIGNATURE: {"inputs": {"x": ["b"]}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%x: tensor<?xf32>) -> (tensor<?xf32>, tensor<?xi1>) {
  %c0 = arith.constant 0 : index
  %one = stablehlo.constant dense<1> : tensor<i64>
  %b = tensor.dim %x, %c0 : tensor<?xf32>
  %sb = tensor.from_elements %b : tensor<1xindex>
  %rows = stablehlo.dynamic_iota %sb, dim = 0 : (tensor<1xindex>) -> tensor<?xi64>
  %ones = stablehlo.dynamic_broadcast_in_dim %one, %sb, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %at = stablehlo.add %rows, %ones : tensor<?xi64>
  %taken = "stablehlo.gather"(%x, %at) <{dimension_numbers = #stablehlo.gather<collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1>}> : (tensor<?xf32>, tensor<?xi64>) -> tensor<?xf32>
  %first = stablehlo.compare LT, %rows, %ones, SIGNED : (tensor<?xi64>, tensor<?xi64>) -> tensor<?xi1>
  return %taken, %first : tensor<?xf32>, tensor<?xi1>
}
// # CHECK: [[TAKEN:%\w+]] = "stablehlo.gather"(%arg0
// # CHECK: [[FIRST:%\w+]] = stablehlo.compare LT
// # CHECK: return [[TAKEN]], [[FIRST]]
