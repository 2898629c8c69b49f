// A broadcast to the shape that a tensor has already is nothing; a broadcast of a scalar stays, its shape computed once.
// SIGNATURE: {"inputs": {"x": ["b", "s"], "y": ["b", "s"]}, "symbols": {"b": [1, 64], "s": [1, 512]}, "assertions": false}
func.func @main(%x: tensor<?x?xf32>, %y: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %two = stablehlo.constant dense<2.0> : tensor<f32>
  %sx = shape.shape_of %x : tensor<?x?xf32> -> tensor<2xindex>
  %sy = shape.shape_of %y : tensor<?x?xf32> -> tensor<2xindex>
  %s = shape.broadcast %sx, %sy : tensor<2xindex>, tensor<2xindex> -> tensor<2xindex>
  %bx = stablehlo.dynamic_broadcast_in_dim %x, %s, dims = [0, 1] : (tensor<?x?xf32>, tensor<2xindex>) -> tensor<?x?xf32>
  %by = stablehlo.dynamic_broadcast_in_dim %y, %s, dims = [0, 1] : (tensor<?x?xf32>, tensor<2xindex>) -> tensor<?x?xf32>
  %sum = stablehlo.add %bx, %by : tensor<?x?xf32>
  %ss = shape.shape_of %sum : tensor<?x?xf32> -> tensor<2xindex>
  %b2 = stablehlo.dynamic_broadcast_in_dim %two, %ss, dims = [] : (tensor<f32>, tensor<2xindex>) -> tensor<?x?xf32>
  %r = stablehlo.multiply %sum, %b2 : tensor<?x?xf32>
  return %r : tensor<?x?xf32>
}
// # CHECK: [[SHAPE:%\w+]] = stablehlo.concatenate
// # CHECK: [[SUM:%\w+]] = stablehlo.add %arg0, %arg1
// # CHECK: [[TWO:%\w+]] = stablehlo.dynamic_broadcast_in_dim {{%\w+}}, [[SHAPE]], dims = []
// # CHECK: [[R:%\w+]] = stablehlo.multiply [[SUM]], [[TWO]]
// # CHECK-NOT: dynamic_broadcast
// # CHECK: return [[R]]
