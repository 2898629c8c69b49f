// A slice of a padded tensor is a padding with other edges, where its ends are at constant distances from those of the padded tensor.
// SIGNATURE: {"inputs": {"x": ["n"]}, "symbols": {"n": [1, 64]}, "assertions": false}
func.func @main(%x: tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>, tensor<7xf32>, tensor<?xf32>, tensor<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c7 = arith.constant 7 : index
  %fill = stablehlo.constant dense<0.0> : tensor<f32>
  %n = tensor.dim %x, %c0 : tensor<?xf32>
  %more = arith.addi %n, %c2 : index
  %zeros = tensor.from_elements %c0 : tensor<1xindex>
  %ones = tensor.from_elements %c1 : tensor<1xindex>
  %twos = tensor.from_elements %c2 : tensor<1xindex>
  %sevens = tensor.from_elements %c7 : tensor<1xindex>
  %whole = tensor.from_elements %n : tensor<1xindex>
  %longer = tensor.from_elements %more : tensor<1xindex>
  %padded = stablehlo.pad %x, %fill, low = [8], high = [1], interior = [0] : (tensor<?xf32>, tensor<f32>) -> tensor<?xf32>
  // n of n + 9 elements: 9 fewer at the end
  %moved = stablehlo.real_dynamic_slice %padded, %zeros, %whole, %ones : (tensor<?xf32>, tensor<1xindex>, tensor<1xindex>, tensor<1xindex>) -> tensor<?xf32>
  %later = stablehlo.real_dynamic_slice %padded, %twos, %longer, %ones : (tensor<?xf32>, tensor<1xindex>, tensor<1xindex>, tensor<1xindex>) -> tensor<?xf32>
  // how much is cut off the end depends on n
  %first = stablehlo.real_dynamic_slice %padded, %zeros, %sevens, %ones : (tensor<?xf32>, tensor<1xindex>, tensor<1xindex>, tensor<1xindex>) -> tensor<7xf32>
  // a constant before x, of 3 elements or of up to 16
  %three = stablehlo.broadcast_in_dim %fill, dims = [] : (tensor<f32>) -> tensor<3xf32>
  %joined = stablehlo.concatenate %three, %x, dim = 0 : (tensor<3xf32>, tensor<?xf32>) -> tensor<?xf32>
  %behind = stablehlo.real_dynamic_slice %joined, %zeros, %whole, %ones : (tensor<?xf32>, tensor<1xindex>, tensor<1xindex>, tensor<1xindex>) -> tensor<?xf32>
  %c16 = arith.constant 16 : index
  %few = arith.minsi %c16, %n : index
  %length = tensor.from_elements %few : tensor<1xindex>
  %up = stablehlo.dynamic_broadcast_in_dim %fill, %length, dims = [] : (tensor<f32>, tensor<1xindex>) -> tensor<?xf32>
  %both = stablehlo.concatenate %up, %x, dim = 0 : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
  %moves = stablehlo.real_dynamic_slice %both, %zeros, %whole, %ones : (tensor<?xf32>, tensor<1xindex>, tensor<1xindex>, tensor<1xindex>) -> tensor<?xf32>
  return %moved, %later, %first, %behind, %moves : tensor<?xf32>, tensor<?xf32>, tensor<7xf32>, tensor<?xf32>, tensor<?xf32>
}
// # CHECK: stablehlo.pad %{{.*}} low = [8], high = [1]
// # CHECK: stablehlo.pad %{{.*}} low = [8], high = [-8]
// # CHECK: stablehlo.pad %{{.*}} low = [6], high = [-6]
// # CHECK: stablehlo.real_dynamic_slice
// # CHECK: stablehlo.pad %{{.*}} low = [3], high = [-3]
// # CHECK: stablehlo.pad %{{.*}} low = [16], high = [-16]
// # CHECK-NOT: stablehlo.real_dynamic_slice
