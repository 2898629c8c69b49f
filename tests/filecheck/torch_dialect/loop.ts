# prim::Loop: carried values have the result's type throughout; the block's own types are restored inside.
graph(%x : Float(3, 4), %n : int):
  %true : bool = prim::Constant[value=1]()
  %out : Float(*, 4) = prim::Loop(%n, %true, %x)
    block0(%i : int, %carried : Float(*, 4)):
      %next : Float(3, 4) = aten::add(%carried, %x, %i)
      -> (%true, %next)
  return (%out)
# CHECK: [[START:%\w+]] = torch.tensor_static_info_cast %arg0 : !torch.vtensor<[3,4],f32> to !torch.vtensor<[?,4],f32>
# CHECK: [[OUT:%\w+]] = torch.prim.Loop %arg1, {{%\w+}}, init([[START]]) {
# CHECK: ^bb0([[I:%\w+]]: !torch.int, [[CARRIED:%\w+]]: !torch.vtensor<[?,4],f32>):
# CHECK: [[NEXT:%\w+]] = torch.aten.add.Tensor [[CARRIED]], %arg0, [[I]]
# CHECK: [[CAST:%\w+]] = torch.tensor_static_info_cast [[NEXT]]
# CHECK: torch.prim.Loop.condition {{%\w+}}, iter([[CAST]] : !torch.vtensor<[?,4],f32>)
# CHECK: return [[OUT]]
