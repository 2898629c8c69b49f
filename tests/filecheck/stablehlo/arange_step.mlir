// A step that does not divide the length: ceil of the quotient, in integers.
// SIGNATURE: {"inputs": {"x": ["s"]}, "symbols": {"s": [1, 10]}, "assertions": false}
func.func @main(%x: tensor<?xf32>) -> tensor<?xi64> {
  %c0 = arith.constant 0 : index
  %three = stablehlo.constant dense<3.0> : tensor<f64>
  %dim = tensor.dim %x, %c0 : tensor<?xf32>
  %int = arith.index_cast %dim : index to i64
  %end = tensor.from_elements %int : tensor<1xi64>
  %scalar = stablehlo.reshape %end : (tensor<1xi64>) -> tensor<i64>
  %float = stablehlo.convert %scalar : (tensor<i64>) -> tensor<f64>
  %ratio = stablehlo.divide %float, %three : tensor<f64>
  %ceil = stablehlo.ceil %ratio : tensor<f64>
  %length = stablehlo.convert %ceil : (tensor<f64>) -> tensor<i64>
  %shape = stablehlo.reshape %length : (tensor<i64>) -> tensor<1xi64>
  %iota = stablehlo.dynamic_iota %shape, dim = 0 : (tensor<1xi64>) -> tensor<?xi64>
  return %iota : tensor<?xi64>
}
// # CHECK-NOT: f64
// # CHECK: [[TWO:%\w+]] = stablehlo.constant dense<2> : tensor<i32>
// # CHECK: [[SUM:%\w+]] = stablehlo.add {{.*}}[[TWO]]
// # CHECK: stablehlo.divide [[SUM]]
// # CHECK: stablehlo.dynamic_iota
