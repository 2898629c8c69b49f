// A way over a wider type is none; over a narrower one it rounds and stays.
// SIGNATURE: {"inputs": {"x": ["b"], "n": ["b"]}, "dtypes": {"n": "int32"}, "symbols": {"b": [1, 64]}, "assertions": false}
func.func @main(%x: tensor<?xf32>, %n: tensor<?xi32>) -> (tensor<?xf32>, tensor<?xf32>, tensor<?xf64>, tensor<?xf32>) {
  %wide = stablehlo.convert %x : (tensor<?xf32>) -> tensor<?xf64>
  %same = stablehlo.convert %wide : (tensor<?xf64>) -> tensor<?xf32>
  %half = stablehlo.convert %x : (tensor<?xf32>) -> tensor<?xf16>
  %rounded = stablehlo.convert %half : (tensor<?xf16>) -> tensor<?xf32>
  %long = stablehlo.convert %n : (tensor<?xi32>) -> tensor<?xi64>
  %direct = stablehlo.convert %long : (tensor<?xi64>) -> tensor<?xf64>
  %single = stablehlo.convert %n : (tensor<?xi32>) -> tensor<?xf32>
  %back = stablehlo.convert %single : (tensor<?xf32>) -> tensor<?xi32>
  %twice = stablehlo.convert %back : (tensor<?xi32>) -> tensor<?xf32>
  return %same, %rounded, %direct, %twice : tensor<?xf32>, tensor<?xf32>, tensor<?xf64>, tensor<?xf32>
}
// # CHECK: [[HALF:%\w+]] = stablehlo.convert %arg0 : (tensor<?xf32>) -> tensor<?xf16>
// # CHECK-NEXT: [[ROUNDED:%\w+]] = stablehlo.convert [[HALF]]
// # CHECK-NEXT: [[DIRECT:%\w+]] = stablehlo.convert %arg1 : (tensor<?xi32>) -> tensor<?xf64>
// # CHECK-NEXT: [[SINGLE:%\w+]] = stablehlo.convert %arg1 : (tensor<?xi32>) -> tensor<?xf32>
// # CHECK-NEXT: [[BACK:%\w+]] = stablehlo.convert [[SINGLE]] : (tensor<?xf32>) -> tensor<?xi32>
// # CHECK-NEXT: [[TWICE:%\w+]] = stablehlo.convert [[BACK]] : (tensor<?xi32>) -> tensor<?xf32>
// # CHECK-NEXT: return %arg0, [[ROUNDED]], [[DIRECT]], [[TWICE]]
