// A size that is read from data stays an op on that data.
// SIGNATURE: {"inputs": {"n": [2], "x": ["b"]}, "dtypes": {"n": "int64"}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%n: tensor<2xi64>, %x: tensor<?xf32>) -> tensor<?xf32> {
  %c1 = arith.constant 1 : index
  %one = arith.constant 1 : i64
  %f = stablehlo.constant dense<1.0> : tensor<f32>
  %e = tensor.extract %n[%c1] : tensor<2xi64>
  %more = arith.addi %e, %one : i64
  %shape = tensor.from_elements %more : tensor<1xi64>
  %r = stablehlo.dynamic_broadcast_in_dim %f, %shape, dims = [] : (tensor<f32>, tensor<1xi64>) -> tensor<?xf32>
  return %r : tensor<?xf32>
}
// # CHECK: [[SLICE:%\w+]] = stablehlo.slice %arg0 [1:2]
// # CHECK: [[E:%\w+]] = stablehlo.reshape [[SLICE]] : (tensor<1xi64>) -> tensor<i64>
// # CHECK: stablehlo.add
// # CHECK: stablehlo.dynamic_broadcast_in_dim
