// Integers: x*1 + 0 is x. Floats: x*1 is x, but x + 0 turns -0 into 0 and stays.
// SIGNATURE: {"inputs": {"n": ["b"], "x": ["b"]}, "dtypes": {"n": "int64"}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%n: tensor<?xi64>, %x: tensor<?xf32>) -> (tensor<?xi64>, tensor<?xf32>) {
  %i1 = stablehlo.constant dense<1> : tensor<i64>
  %i0 = stablehlo.constant dense<0> : tensor<i64>
  %f1 = stablehlo.constant dense<1.0> : tensor<f32>
  %f0 = stablehlo.constant dense<0.0> : tensor<f32>
  %s = shape.shape_of %n : tensor<?xi64> -> tensor<1xindex>
  %b1 = stablehlo.dynamic_broadcast_in_dim %i1, %s, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %b0 = stablehlo.dynamic_broadcast_in_dim %i0, %s, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %g1 = stablehlo.dynamic_broadcast_in_dim %f1, %s, dims = [] : (tensor<f32>, tensor<1xindex>) -> tensor<?xf32>
  %g0 = stablehlo.dynamic_broadcast_in_dim %f0, %s, dims = [] : (tensor<f32>, tensor<1xindex>) -> tensor<?xf32>
  %n1 = stablehlo.multiply %n, %b1 : tensor<?xi64>
  %n2 = stablehlo.add %b0, %n1 : tensor<?xi64>
  %x1 = stablehlo.multiply %x, %g1 : tensor<?xf32>
  %x2 = stablehlo.add %x1, %g0 : tensor<?xf32>
  return %n2, %x2 : tensor<?xi64>, tensor<?xf32>
}
// # CHECK-NOT: multiply
// # CHECK: [[SUM:%\w+]] = stablehlo.add %arg1, {{%\w+}} : tensor<?xf32>
// # CHECK: return %arg0, [[SUM]]
