// x^2 and x^3 are products, as eager computes them; x^0.5 stays (sqrt differs from it at -0 and at minus infinity).
// SIGNATURE: {"inputs": {"x": ["b"]}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%x: tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>, tensor<?xf32>) {
  %two = stablehlo.constant dense<2.0> : tensor<f32>
  %three = stablehlo.constant dense<3.0> : tensor<f32>
  %half = stablehlo.constant dense<0.5> : tensor<f32>
  %s = shape.shape_of %x : tensor<?xf32> -> tensor<1xindex>
  %b2 = stablehlo.dynamic_broadcast_in_dim %two, %s, dims = [] : (tensor<f32>, tensor<1xindex>) -> tensor<?xf32>
  %b3 = stablehlo.dynamic_broadcast_in_dim %three, %s, dims = [] : (tensor<f32>, tensor<1xindex>) -> tensor<?xf32>
  %bh = stablehlo.dynamic_broadcast_in_dim %half, %s, dims = [] : (tensor<f32>, tensor<1xindex>) -> tensor<?xf32>
  %p2 = stablehlo.power %x, %b2 : tensor<?xf32>
  %p3 = stablehlo.power %x, %b3 : tensor<?xf32>
  %ph = stablehlo.power %x, %bh : tensor<?xf32>
  return %p2, %p3, %ph : tensor<?xf32>, tensor<?xf32>, tensor<?xf32>
}
// # CHECK: [[P2:%\w+]] = stablehlo.multiply %arg0, %arg0
// # CHECK-NEXT: [[P3:%\w+]] = stablehlo.multiply [[P2]], %arg0
// # CHECK-NEXT: [[PH:%\w+]] = stablehlo.power %arg0
// # CHECK-NEXT: return [[P2]], [[P3]], [[PH]]
