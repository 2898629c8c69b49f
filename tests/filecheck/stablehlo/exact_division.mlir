// seq is a multiple of 8, so a view as (seq/8, 8) divides exactly; the size is read once.
// SIGNATURE: {"inputs": {"x": ["seq"]}, "symbols": {"seq": [8, 512, 8]}, "assertions": false}
func.func @main(%x: tensor<?xf32>) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %dim = tensor.dim %x, %c0 : tensor<?xf32>
  %rows = arith.divui %dim, %c8 : index
  %shape = tensor.from_elements %rows, %c8 : tensor<2xindex>
  %r = stablehlo.dynamic_reshape %x, %shape : (tensor<?xf32>, tensor<2xindex>) -> tensor<?x8xf32>
  %again = arith.muli %rows, %c8 : index
  %flat = tensor.from_elements %again : tensor<1xindex>
  %back = stablehlo.dynamic_reshape %r, %flat : (tensor<?x8xf32>, tensor<1xindex>) -> tensor<?xf32>
  %sum = stablehlo.add %back, %x : tensor<?xf32>
  %rr = stablehlo.dynamic_reshape %sum, %shape : (tensor<?xf32>, tensor<2xindex>) -> tensor<?x8xf32>
  return %rr : tensor<?x8xf32>
}
// # CHECK: [[SIZE:%\w+]] = stablehlo.get_dimension_size %arg0
// # CHECK: [[ROWS:%\w+]] = stablehlo.divide [[SIZE]], {{%\w+}} : tensor<i32>
// # CHECK: [[SUM:%\w+]] = stablehlo.add %arg0, %arg0
// # CHECK-NEXT: stablehlo.dynamic_reshape [[SUM]]
// # CHECK-NOT: get_dimension_size
