// A mean with keepdim: the dim of size one is not made only to be broadcast away.
// SIGNATURE: {"inputs": {"x": ["b", 8]}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %eight = stablehlo.constant dense<8.0> : tensor<f32>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %b = tensor.dim %x, %c0 : tensor<?x8xf32>
  %sum = stablehlo.reduce(%x init: %zero) applies stablehlo.add across dimensions = [1] : (tensor<?x8xf32>, tensor<f32>) -> tensor<?xf32>
  %s1 = tensor.from_elements %b, %c1 : tensor<2xindex>
  %kept = stablehlo.dynamic_reshape %sum, %s1 : (tensor<?xf32>, tensor<2xindex>) -> tensor<?x1xf32>
  %n = stablehlo.dynamic_broadcast_in_dim %eight, %s1, dims = [] : (tensor<f32>, tensor<2xindex>) -> tensor<?x1xf32>
  %mean = stablehlo.divide %kept, %n : tensor<?x1xf32>
  %sx = shape.shape_of %x : tensor<?x8xf32> -> tensor<2xindex>
  %wide = stablehlo.dynamic_broadcast_in_dim %mean, %sx, dims = [0, 1] : (tensor<?x1xf32>, tensor<2xindex>) -> tensor<?x8xf32>
  %r = stablehlo.subtract %x, %wide : tensor<?x8xf32>
  return %r : tensor<?x8xf32>
}
// # CHECK: [[SUM:%\w+]] = stablehlo.reduce
// # CHECK-NOT: dynamic_reshape
// # CHECK: [[MEAN:%\w+]] = stablehlo.divide [[SUM]], {{%\w+}} : tensor<?xf32>
// # CHECK: [[WIDE:%\w+]] = stablehlo.dynamic_broadcast_in_dim [[MEAN]], {{%\w+}}, dims = [0]
// # CHECK: stablehlo.subtract %arg0, [[WIDE]]
