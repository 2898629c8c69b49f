# prim::If: what a branch knows of its result beyond the type of the node is cast away where it is yielded; None becomes an optional.
graph(%x : Float(3, 4), %y : Float(*, 4), %c : bool):
  %out : Float(*, 4), %may : int? = prim::If(%c)
    block0():
      %a : Float(3, 4) = aten::relu(%x)
      %none : NoneType = prim::Constant()
      -> (%a, %none)
    block1():
      %one : int = prim::Constant[value=1]()
      -> (%y, %one)
  return (%out)
# CHECK: [[OUT:%\w+]]:2 = torch.prim.If %arg2 -> (!torch.vtensor<[?,4],f32>, !torch.optional<int>) {
# CHECK: [[A:%\w+]] = torch.aten.relu %arg0
# CHECK: [[CAST:%\w+]] = torch.tensor_static_info_cast [[A]] : !torch.vtensor<[3,4],f32> to !torch.vtensor<[?,4],f32>
# CHECK: [[NONE:%\w+]] = torch.derefine {{%\w+}} : !torch.none to !torch.optional<int>
# CHECK: torch.prim.If.yield [[CAST]], [[NONE]]
# CHECK: } else {
# CHECK: [[ONE:%\w+]] = torch.derefine {{%\w+}} : !torch.int to !torch.optional<int>
# CHECK: torch.prim.If.yield %arg1, [[ONE]]
# CHECK: return [[OUT]]#0
