// A slice that takes everything is nothing.
// SIGNATURE: {"inputs": {"x": ["b", 4]}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %c0 = arith.constant 0 : index
  %b = tensor.dim %x, %c0 : tensor<?x4xf32>
  %bi = arith.index_cast %b : index to i64
  %zero = arith.constant 0 : i64
  %one = arith.constant 1 : i64
  %four = arith.constant 4 : i64
  %starts = tensor.from_elements %zero, %zero : tensor<2xi64>
  %limits = tensor.from_elements %bi, %four : tensor<2xi64>
  %strides = tensor.from_elements %one, %one : tensor<2xi64>
  %r = stablehlo.real_dynamic_slice %x, %starts, %limits, %strides : (tensor<?x4xf32>, tensor<2xi64>, tensor<2xi64>, tensor<2xi64>) -> tensor<?x4xf32>
  return %r : tensor<?x4xf32>
}
// # CHECK: func.func @main
// # CHECK-NEXT: return %arg0
