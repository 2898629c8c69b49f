// The length of an arange goes through f64 in torch-mlir; it is the dim itself.
// SIGNATURE: {"inputs": {"x": ["s"]}, "symbols": {"s": [1, 10]}, "assertions": false}
func.func @main(%x: tensor<?xf32>) -> tensor<?xi64> {
  %c0 = arith.constant 0 : index
  %one = stablehlo.constant dense<1> : tensor<i64>
  %zero = stablehlo.constant dense<0> : tensor<i64>
  %dim = tensor.dim %x, %c0 : tensor<?xf32>
  %int = arith.index_cast %dim : index to i64
  %end = tensor.from_elements %int : tensor<1xi64>
  %scalar = stablehlo.reshape %end : (tensor<1xi64>) -> tensor<i64>
  %span = stablehlo.subtract %scalar, %zero : tensor<i64>
  %step = stablehlo.convert %one : (tensor<i64>) -> tensor<f64>
  %float = stablehlo.convert %span : (tensor<i64>) -> tensor<f64>
  %ratio = stablehlo.divide %float, %step : tensor<f64>
  %ceil = stablehlo.ceil %ratio : tensor<f64>
  %length = stablehlo.convert %ceil : (tensor<f64>) -> tensor<i64>
  %shape = stablehlo.reshape %length : (tensor<i64>) -> tensor<1xi64>
  %iota = stablehlo.dynamic_iota %shape, dim = 0 : (tensor<1xi64>) -> tensor<?xi64>
  return %iota : tensor<?xi64>
}
// # CHECK: [[SIZE:%\w+]] = stablehlo.get_dimension_size %arg0, dim = 0
// # CHECK-NEXT: [[SHAPE:%\w+]] = stablehlo.reshape [[SIZE]] : (tensor<i32>) -> tensor<1xi32>
// # CHECK-NEXT: [[IOTA:%\w+]] = stablehlo.dynamic_iota [[SHAPE]], dim = 0
// # CHECK-NEXT: return [[IOTA]]
