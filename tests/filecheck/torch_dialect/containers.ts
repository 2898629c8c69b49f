# Lists, tuples, optionals and dicts; the returned tuple becomes several results.
graph(%x : Float(*, 4), %n : int):
  %none : NoneType = prim::Constant()
  %zero : int = prim::Constant[value=0]()
  %key : str = prim::Constant[value="k"]()
  %list : Tensor[] = prim::ListConstruct(%x, %x)
  %one : Tensor, %two : Tensor = prim::ListUnpack(%list)
  %some : Tensor?[] = prim::ListConstruct(%none, %x)
  %pair : (Tensor, int) = prim::TupleConstruct(%one, %n)
  %first : Tensor, %second : int = prim::TupleUnpack(%pair)
  %again : Tensor = prim::TupleIndex(%pair, %zero)
  %dict : Dict(str, Tensor) = prim::DictConstruct(%key, %first)
  %out : (Tensor, int) = prim::TupleConstruct(%again, %second)
  return (%out)
# CHECK: @main(%arg0: !torch.vtensor<[?,4],f32>, %arg1: !torch.int) -> (!torch.vtensor, !torch.int)
# CHECK: [[LIST:%\w+]] = torch.prim.ListConstruct %arg0, %arg0 : {{.*}} -> !torch.list<vtensor>
# CHECK: [[PARTS:%\w+]]:2 = torch.prim.ListUnpack [[LIST]]
# CHECK: -> !torch.list<optional<vtensor>>
# CHECK: [[PAIR:%\w+]] = torch.prim.TupleConstruct [[PARTS]]#0, %arg1 :
# CHECK: torch.prim.TupleUnpack [[PAIR]] : !torch.tuple<vtensor, int>
# CHECK: torch.prim.TupleIndex [[PAIR]]
# CHECK: torch.prim.DictConstruct keys({{%\w+}} : !torch.str) values({{%\w+#0}} : !torch.vtensor) {{.*}} -> !torch.dict<str, vtensor>
# CHECK: return {{%\w+}}, {{%\w+#1}} : !torch.vtensor, !torch.int
