# Everything without a form is named at once, in nested blocks too.
graph(%x : Float(2), %c : bool, %q : QInt8(2)):
  %out : Float(2) = prim::If(%c)
    block0():
      %a : Float(2) = aten::no_such_op(%x) # model.py:3:0
      -> (%a)
    block1():
      %f : Future(Tensor) = prim::fork(%x) # model.py:5:0
      %b : Float(2) = aten::wait(%f)
      -> (%b)
  return (%out)
# REFUSED: %q (argument): lowering.types.DTYPES has no row for torch.qint8
# REFUSED: aten::no_such_op at model.py:3: has no schema
# REFUSED: prim::fork at model.py:5: starts a task
# REFUSED: %f (prim::fork at model.py:5): the torch dialect has no type
# REFUSED: aten::wait: waits for a task
