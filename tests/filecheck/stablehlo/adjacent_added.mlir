// What is added at adjacent indices is no update of a slice, and neither is what is written at every other index.
// SIGNATURE: {"inputs": {"x": [16, 4], "rows": ["n", 4]}, "symbols": {"n": [1, 8]}, "assertions": false}
func.func @main(%x: tensor<16x4xf32>, %rows: tensor<?x4xf32>) -> (tensor<16x4xf32>, tensor<16x4xf32>) {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %rows, %c0 : tensor<?x4xf32>
  %shape = tensor.from_elements %n : tensor<1xindex>
  %steps = stablehlo.dynamic_iota %shape, dim = 0 : (tensor<1xindex>) -> tensor<?xi64>
  %two = stablehlo.constant dense<2> : tensor<i64>
  %twos = stablehlo.dynamic_broadcast_in_dim %two, %shape, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %others = stablehlo.multiply %steps, %twos : tensor<?xi64>
  %a = "stablehlo.scatter"(%x, %steps, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}> ({
  ^bb0(%old: tensor<f32>, %new: tensor<f32>):
    %sum = stablehlo.add %old, %new : tensor<f32>
    stablehlo.return %sum : tensor<f32>
  }) : (tensor<16x4xf32>, tensor<?xi64>, tensor<?x4xf32>) -> tensor<16x4xf32>
  %b = "stablehlo.scatter"(%x, %others, %rows) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}> ({
  ^bb0(%old: tensor<f32>, %new: tensor<f32>):
    stablehlo.return %new : tensor<f32>
  }) : (tensor<16x4xf32>, tensor<?xi64>, tensor<?x4xf32>) -> tensor<16x4xf32>
  return %a, %b : tensor<16x4xf32>, tensor<16x4xf32>
}
// # CHECK: "stablehlo.scatter"
// # CHECK: stablehlo.add
// # CHECK: "stablehlo.scatter"
// # CHECK-NOT: dynamic_update_slice
