// Windows keep the order of the tensor's dims: where the result has the heads before the batches, one of them keeps its indices.
// SIGNATURE: {"inputs": {"x": [3, 2, 16], "at": ["n"]}, "dtypes": {"at": "int64"}, "symbols": {"n": [1, 16]}, "assertions": false}
func.func @main(%x: tensor<3x2x16xf32>, %at: tensor<?xi64>) -> tensor<2x3x?xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c3 = arith.constant 3 : index
  %n = tensor.dim %at, %c0 : tensor<?xi64>
  %shape = tensor.from_elements %c2, %c3, %n, %c1 : tensor<4xindex>
  %first = stablehlo.dynamic_iota %shape, dim = 1 : (tensor<4xindex>) -> tensor<2x3x?x1xi64>
  %second = stablehlo.dynamic_iota %shape, dim = 0 : (tensor<4xindex>) -> tensor<2x3x?x1xi64>
  %places = stablehlo.dynamic_broadcast_in_dim %at, %shape, dims = [2] : (tensor<?xi64>, tensor<4xindex>) -> tensor<2x3x?x1xi64>
  %index = stablehlo.concatenate %first, %second, %places, dim = 3 : (tensor<2x3x?x1xi64>, tensor<2x3x?x1xi64>, tensor<2x3x?x1xi64>) -> tensor<2x3x?x3xi64>
  %r = "stablehlo.gather"(%x, %index) <{dimension_numbers = #stablehlo.gather<collapsed_slice_dims = [0, 1, 2], start_index_map = [0, 1, 2], index_vector_dim = 3>, slice_sizes = array<i64: 1, 1, 1>}> : (tensor<3x2x16xf32>, tensor<2x3x?x3xi64>) -> tensor<2x3x?xf32>
  return %r : tensor<2x3x?xf32>
}
// # CHECK: "stablehlo.gather"
// # CHECK-SAME: offset_dims = [1], collapsed_slice_dims = [1, 2], start_index_map = [1, 2], index_vector_dim = 2
// # CHECK-SAME: slice_sizes = array<i64: 3, 1, 1>
