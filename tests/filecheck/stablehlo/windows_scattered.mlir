// Rows added at %at, every element by its coordinates, as torch-mlir writes it: whole windows, with one index for each row.
// SIGNATURE: {"inputs": {"cache": ["b", 2, 16, 4], "rows": ["b", 2, "n", 4], "at": ["n"]}, "dtypes": {"at": "int64"}, "symbols": {"b": [1, 64], "n": [1, 16]}, "assertions": false}
func.func @main(%cache: tensor<?x2x16x4xf32>, %rows: tensor<?x2x?x4xf32>, %at: tensor<?xi64>) -> tensor<?x2x16x4xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c4 = arith.constant 4 : index
  %b = tensor.dim %cache, %c0 : tensor<?x2x16x4xf32>
  %n = tensor.dim %at, %c0 : tensor<?xi64>
  %shape = tensor.from_elements %b, %c2, %n, %c4, %c1 : tensor<5xindex>
  %batches = stablehlo.dynamic_iota %shape, dim = 0 : (tensor<5xindex>) -> tensor<?x2x?x4x1xi64>
  %heads = stablehlo.dynamic_iota %shape, dim = 1 : (tensor<5xindex>) -> tensor<?x2x?x4x1xi64>
  %places = stablehlo.dynamic_broadcast_in_dim %at, %shape, dims = [2] : (tensor<?xi64>, tensor<5xindex>) -> tensor<?x2x?x4x1xi64>
  %lanes = stablehlo.dynamic_iota %shape, dim = 3 : (tensor<5xindex>) -> tensor<?x2x?x4x1xi64>
  %index = stablehlo.concatenate %batches, %heads, %places, %lanes, dim = 4 : (tensor<?x2x?x4x1xi64>, tensor<?x2x?x4x1xi64>, tensor<?x2x?x4x1xi64>, tensor<?x2x?x4x1xi64>) -> tensor<?x2x?x4x4xi64>
  %r = "stablehlo.scatter"(%cache, %index, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<inserted_window_dims = [0, 1, 2, 3], scatter_dims_to_operand_dims = [0, 1, 2, 3], index_vector_dim = 4>}> ({
  ^bb0(%old: tensor<f32>, %new: tensor<f32>):
    %sum = stablehlo.add %old, %new : tensor<f32>
    stablehlo.return %sum : tensor<f32>
  }) : (tensor<?x2x16x4xf32>, tensor<?x2x?x4x4xi64>, tensor<?x2x?x4xf32>) -> tensor<?x2x16x4xf32>
  return %r : tensor<?x2x16x4xf32>
}
// # CHECK: func.func @main
// # CHECK-NEXT: "stablehlo.scatter"(%arg0, %arg2, %arg1)
// # CHECK-SAME: update_window_dims = [0, 1, 3], inserted_window_dims = [2], scatter_dims_to_operand_dims = [2], index_vector_dim = 1
