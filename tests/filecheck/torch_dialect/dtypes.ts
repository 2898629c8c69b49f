# Every dtype of tensors, and a shape of unknown rank.
graph(%a : Half(2), %b : BFloat16(2), %c : Double(2), %d : Char(2), %e : Byte(2), %f : Short(2), %g : Int(2), %h : Long(2), %i : Bool(2), %j : ComplexFloat(2), %k : Float(*, *)):
  return (%k)
# CHECK: %arg0: !torch.vtensor<[2],f16>, %arg1: !torch.vtensor<[2],bf16>, %arg2: !torch.vtensor<[2],f64>, %arg3: !torch.vtensor<[2],si8>,
# CHECK-SAME: %arg4: !torch.vtensor<[2],ui8>, %arg5: !torch.vtensor<[2],si16>, %arg6: !torch.vtensor<[2],si32>, %arg7: !torch.vtensor<[2],si64>,
# CHECK-SAME: %arg8: !torch.vtensor<[2],i1>, %arg9: !torch.vtensor<[2],complex<f32>>, %arg10: !torch.vtensor<[?,?],f32>) -> !torch.vtensor<[?,?],f32>
