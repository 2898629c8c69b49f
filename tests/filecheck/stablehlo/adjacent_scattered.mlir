// Rows written from a position that is data on: an update of the slice at that position, of as many rows as there are.
// SIGNATURE: {"inputs": {"cache": ["b", 2, 16, 4], "rows": ["b", 2, "n", 4], "start": []}, "dtypes": {"start": "int64"}, "symbols": {"b": [1, 64], "n": [1, 16]}, "assertions": false}
func.func @main(%cache: tensor<?x2x16x4xf32>, %rows: tensor<?x2x?x4xf32>, %start: tensor<i64>) -> tensor<?x2x16x4xf32> {
  %c2 = arith.constant 2 : index
  %n = tensor.dim %rows, %c2 : tensor<?x2x?x4xf32>
  %shape = tensor.from_elements %n : tensor<1xindex>
  %steps = stablehlo.dynamic_iota %shape, dim = 0 : (tensor<1xindex>) -> tensor<?xi64>
  %starts = stablehlo.dynamic_broadcast_in_dim %start, %shape, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %at = stablehlo.add %steps, %starts : tensor<?xi64>
  %r = "stablehlo.scatter"(%cache, %at, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [0, 1, 3], inserted_window_dims = [2], scatter_dims_to_operand_dims = [2], index_vector_dim = 1>}> ({
  ^bb0(%old: tensor<f32>, %new: tensor<f32>):
    stablehlo.return %new : tensor<f32>
  }) : (tensor<?x2x16x4xf32>, tensor<?xi64>, tensor<?x2x?x4xf32>) -> tensor<?x2x16x4xf32>
  return %r : tensor<?x2x16x4xf32>
}
// # CHECK: [[ZERO:%\w+]] = stablehlo.constant dense<0> : tensor<i64>
// # CHECK-NEXT: stablehlo.dynamic_update_slice %arg0, %arg1, [[ZERO]], [[ZERO]], %arg2, [[ZERO]]
// # CHECK-NEXT: return
