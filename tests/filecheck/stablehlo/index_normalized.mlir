// x[:, -4:] compares and selects on sizes; the range decides each comparison, so nothing but a subtraction is left.
// SIGNATURE: {"inputs": {"x": ["b", "s"]}, "symbols": {"b": [1, 64], "s": [4, 512]}, "assertions": false}
func.func @main(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0 : i64
  %minus = arith.constant -4 : i64
  %b = tensor.dim %x, %c0 : tensor<?x?xf32>
  %s = tensor.dim %x, %c1 : tensor<?x?xf32>
  %si = arith.index_cast %s : index to i64
  %bi = arith.index_cast %b : index to i64
  %wrapped = arith.addi %minus, %si : i64
  %negative = arith.cmpi slt, %minus, %zero : i64
  %start = arith.select %negative, %wrapped, %minus : i64
  %low = arith.maxsi %start, %zero : i64
  %clamped = arith.minsi %low, %si : i64
  %one = arith.constant 1 : i64
  %starts = tensor.from_elements %zero, %clamped : tensor<2xi64>
  %limits = tensor.from_elements %bi, %si : tensor<2xi64>
  %strides = tensor.from_elements %one, %one : tensor<2xi64>
  %r = stablehlo.real_dynamic_slice %x, %starts, %limits, %strides : (tensor<?x?xf32>, tensor<2xi64>, tensor<2xi64>, tensor<2xi64>) -> tensor<?x?xf32>
  return %r : tensor<?x?xf32>
}
// # CHECK-NOT: compare
// # CHECK-NOT: select
// # CHECK-NOT: maximum
// # CHECK: stablehlo.real_dynamic_slice
// # CHECK-SAME: -> tensor<?x4xf32>
