// A mask that is looked up at (b, s) for every b and s, as vmap writes it: the places run through it in order, so that it is the mask itself.
// SIGNATURE: {"inputs": {"mask": ["b", "s"]}, "dtypes": {"mask": "bool"}, "symbols": {"b": [1, 64], "s": [1, 512]}, "assertions": false}
func.func @main(%mask: tensor<?x?xi1>) -> tensor<?x?xi1> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = stablehlo.constant dense<0> : tensor<i64>
  %b = tensor.dim %mask, %c0 : tensor<?x?xi1>
  %s = tensor.dim %mask, %c1 : tensor<?x?xi1>
  %n = arith.muli %b, %s : index
  %sb = tensor.from_elements %b : tensor<1xindex>
  %ss = tensor.from_elements %s : tensor<1xindex>
  %sn = tensor.from_elements %n : tensor<1xindex>
  %sbs = tensor.from_elements %b, %s : tensor<2xindex>
  %width = arith.index_cast %s : index to i64
  %widths = tensor.from_elements %width : tensor<1xi64>
  %scalar = stablehlo.reshape %widths : (tensor<1xi64>) -> tensor<i64>
  %rows = stablehlo.dynamic_iota %sb, dim = 0 : (tensor<1xindex>) -> tensor<?xi64>
  %columns = stablehlo.dynamic_iota %ss, dim = 0 : (tensor<1xindex>) -> tensor<?xi64>
  %zeros = stablehlo.dynamic_broadcast_in_dim %zero, %sb, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %negative = stablehlo.compare LT, %rows, %zeros, SIGNED : (tensor<?xi64>, tensor<?xi64>) -> tensor<?xi1>
  %high = stablehlo.dynamic_broadcast_in_dim %scalar, %sb, dims = [] : (tensor<i64>, tensor<1xindex>) -> tensor<?xi64>
  %wrapped = stablehlo.add %rows, %high : tensor<?xi64>
  %row = stablehlo.select %negative, %wrapped, %rows : tensor<?xi1>, tensor<?xi64>
  %start = stablehlo.multiply %row, %high : tensor<?xi64>
  %starts = stablehlo.dynamic_broadcast_in_dim %start, %sbs, dims = [0] : (tensor<?xi64>, tensor<2xindex>) -> tensor<?x?xi64>
  %steps = stablehlo.dynamic_broadcast_in_dim %columns, %sbs, dims = [1] : (tensor<?xi64>, tensor<2xindex>) -> tensor<?x?xi64>
  %at = stablehlo.add %starts, %steps : tensor<?x?xi64>
  %flat = stablehlo.dynamic_reshape %at, %sn : (tensor<?x?xi64>, tensor<1xindex>) -> tensor<?xi64>
  %line = stablehlo.dynamic_reshape %mask, %sn : (tensor<?x?xi1>, tensor<1xindex>) -> tensor<?xi1>
  %taken = "stablehlo.gather"(%line, %flat) <{dimension_numbers = #stablehlo.gather<collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1>}> : (tensor<?xi1>, tensor<?xi64>) -> tensor<?xi1>
  %r = stablehlo.dynamic_reshape %taken, %sbs : (tensor<?xi1>, tensor<2xindex>) -> tensor<?x?xi1>
  return %r : tensor<?x?xi1>
}
// # CHECK: func.func @main
// # CHECK-NEXT: return %arg0
