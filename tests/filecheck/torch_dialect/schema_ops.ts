# Ops are named by their schemas; what the dialect does not register becomes torch.operator. Lines and names of values become locations.
graph(%x : Float(*, 4), %y : Float(*, 4)):
  %one : int = prim::Constant[value=1]()
  %sum : Float(*, 4) = aten::add(%x, %y, %one) # model.py:7:0
  %out : Float(*, 4) = aten::special_bessel_j0(%sum)
  return (%out)
# CHECK: func.func @main(%arg0: !torch.vtensor<[?,4],f32>{{.*}}, %arg1: !torch.vtensor<[?,4],f32>{{.*}}) -> !torch.vtensor<[?,4],f32>
# CHECK: [[ONE:%\w+]] = torch.constant.int 1
# CHECK: [[SUM:%\w+]] = torch.aten.add.Tensor %arg0, %arg1, [[ONE]] : !torch.vtensor<[?,4],f32>, !torch.vtensor<[?,4],f32>, !torch.int -> !torch.vtensor<[?,4],f32> "%sum"([[LINE:#\w+]])
# CHECK: torch.operator "aten.special_bessel_j0"([[SUM]])
# CHECK-SAME: "%out"
# CHECK: [[LINE]] = model.py:7:0
