# Every kind of constant; lists of numbers are constructed.
graph(%x : Tensor):
  %i : int = prim::Constant[value=3]()
  %f : float = prim::Constant[value=0.5]()
  %b : bool = prim::Constant[value=1]()
  %s : str = prim::Constant[value="floor"]()
  %d : Device = prim::Constant[value="cpu"]()
  %n : NoneType = prim::Constant()
  %l : int[] = prim::Constant[value=[1, 2]]()
  %out : Tensor = aten::div(%x, %i, %s)
  return (%out)
# CHECK: @main(%arg0: !torch.vtensor) -> !torch.vtensor
# CHECK: torch.constant.int 3
# CHECK: torch.constant.float 5.000000e-01
# CHECK: torch.constant.bool true
# CHECK: [[FLOOR:%\w+]] = torch.constant.str "floor"
# CHECK: torch.constant.device "cpu"
# CHECK: torch.constant.none
# CHECK: torch.prim.ListConstruct {{.*}} : (!torch.int, !torch.int) -> !torch.list<int>
# CHECK: torch.aten.div.Scalar_mode %arg0, {{%\w+}}, [[FLOOR]]
