// cache[batch, :, at] for every batch: the batches are counted, so that a window covers them and one index is left for each place.
// SIGNATURE: {"inputs": {"cache": ["b", 2, 16, 4], "at": ["n"]}, "dtypes": {"at": "int64"}, "symbols": {"b": [1, 64], "n": [1, 16]}, "assertions": false}
func.func @main(%cache: tensor<?x2x16x4xf32>, %at: tensor<?xi64>) -> tensor<?x?x2x4xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %b = tensor.dim %cache, %c0 : tensor<?x2x16x4xf32>
  %n = tensor.dim %at, %c0 : tensor<?xi64>
  %shape = tensor.from_elements %b, %n, %c1 : tensor<3xindex>
  %batches = stablehlo.dynamic_iota %shape, dim = 0 : (tensor<3xindex>) -> tensor<?x?x1xi64>
  %places = stablehlo.dynamic_broadcast_in_dim %at, %shape, dims = [1] : (tensor<?xi64>, tensor<3xindex>) -> tensor<?x?x1xi64>
  %index = stablehlo.concatenate %batches, %places, dim = 2 : (tensor<?x?x1xi64>, tensor<?x?x1xi64>) -> tensor<?x?x2xi64>
  %r = "stablehlo.gather"(%cache, %index) <{dimension_numbers = #stablehlo.gather<offset_dims = [2, 3], collapsed_slice_dims = [0, 2], start_index_map = [0, 2], index_vector_dim = 2>, slice_sizes = array<i64: 1, 2, 1, 4>}> : (tensor<?x2x16x4xf32>, tensor<?x?x2xi64>) -> tensor<?x?x2x4xf32>
  return %r : tensor<?x?x2x4xf32>
}
// # CHECK: "stablehlo.dynamic_gather"(%arg0, %arg1,
// # CHECK-SAME: offset_dims = [0, 2, 3], collapsed_slice_dims = [2], start_index_map = [2], index_vector_dim = 1
// # CHECK-NEXT: return
