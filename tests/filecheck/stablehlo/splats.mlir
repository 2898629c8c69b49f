// Arithmetic on splats is done once on the scalar; a broadcast of a broadcast is one; reduced dims are kept only in name.
// SIGNATURE: {"inputs": {"x": ["b", "s"], "m": ["b"]}, "symbols": {"b": [1, 64], "s": [1, 512]}, "assertions": false}
func.func @main(%x: tensor<?x?xf32>, %m: tensor<?xf32>) -> (tensor<?x?xf32>, tensor<?x?xf32>) {
  %two = stablehlo.constant dense<2.0> : tensor<f32>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %b = tensor.dim %x, %c0 : tensor<?x?xf32>
  %sx = shape.shape_of %x : tensor<?x?xf32> -> tensor<2xindex>
  %sk = tensor.from_elements %b, %c1 : tensor<2xindex>
  %b2 = stablehlo.dynamic_broadcast_in_dim %two, %sx, dims = [] : (tensor<f32>, tensor<2xindex>) -> tensor<?x?xf32>
  %root = stablehlo.rsqrt %b2 : tensor<?x?xf32>
  %r = stablehlo.multiply %x, %root : tensor<?x?xf32>
  %kept = stablehlo.dynamic_broadcast_in_dim %m, %sk, dims = [0] : (tensor<?xf32>, tensor<2xindex>) -> tensor<?x1xf32>
  %e = stablehlo.exponential %kept : tensor<?x1xf32>
  %wide = stablehlo.dynamic_broadcast_in_dim %e, %sx, dims = [0, 1] : (tensor<?x1xf32>, tensor<2xindex>) -> tensor<?x?xf32>
  return %r, %wide : tensor<?x?xf32>, tensor<?x?xf32>
}
// # CHECK: [[ROOT:%\w+]] = stablehlo.rsqrt {{%\w+}} : tensor<f32>
// # CHECK-NEXT: [[SPLAT:%\w+]] = stablehlo.dynamic_broadcast_in_dim [[ROOT]]
// # CHECK-NEXT: [[R:%\w+]] = stablehlo.multiply %arg0, [[SPLAT]]
// # CHECK-NEXT: [[E:%\w+]] = stablehlo.exponential %arg1 : tensor<?xf32>
// # CHECK-NEXT: [[WIDE:%\w+]] = stablehlo.dynamic_broadcast_in_dim [[E]], {{%\w+}}, dims = [0]
// # CHECK-NEXT: return [[R]], [[WIDE]]
