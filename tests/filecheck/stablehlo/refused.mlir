// What has no StableHLO form is refused, every op of it.
// SIGNATURE: {"inputs": {"x": ["b"]}, "symbols": {"b": [1, 64]}, "assertions": false}
// REFUSED: math.ctlz
// REFUSED: tensor.generate
func.func @main(%x: tensor<?xf32>) -> tensor<?xi64> {
  %c0 = arith.constant 0 : index
  %d = tensor.dim %x, %c0 : tensor<?xf32>
  %i = arith.index_cast %d : index to i64
  %z = math.ctlz %i : i64
  %e = tensor.generate %d {
  ^bb0(%k: index):
    tensor.yield %z : i64
  } : tensor<?xi64>
  return %e : tensor<?xi64>
}
