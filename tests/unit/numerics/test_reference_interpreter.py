"""What leaves Shapeline as StableHLO: refined by StableHLO's own passes and run by its reference interpreter, without custom calls."""

from __future__ import annotations

import pytest
import torch
from torch_mlir._mlir_libs import _stablehlo

from lowering import types
from lowering.eager import inputs
from lowering.errors import Refused, StageFailed, Unsupported
from lowering.ir import mlir, portable
from lowering.level import Level
from lowering.numerics.running.reference_interpreter import ReferenceInterpreter
from lowering.numerics.running.runner import Eager, order_arguments
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from tests.unit.models import tiny_bert
from tests.unit.models.scaled_model import hlo


def test_the_packaged_program_of_a_model_with_erf_is_refined_and_interpreted_as_it_is() -> None:
    program = tiny_bert.mhlo_level()
    assert mlir.count_ops(program.ir)["mhlo.erf"] == 1
    top = program.at(Level.MODEL)
    assert top is not None and program.signature is not None
    packaged = _stablehlo.deserialize_portable_artifact(mlir.create_torch_context(), portable.serialize(program.ir)[0])
    calls = {op.attributes["call_target_name"].value for op in mlir.walk_operations(packaged) if op.name == "stablehlo.custom_call"}
    assert calls == {"shape_assertion"}
    assert {op.partition(".")[0] for op in mlir.count_ops(packaged)} == {"func", "stablehlo"}
    interpreter = ReferenceInterpreter(packaged)
    interpreter.hold(program.weights)
    eager = Eager(tiny_bert.MODEL, top.ir.module, program.signature)
    for sizes in ({"batch": 1, "seq": 1}, {"batch": 3, "seq": 7}):
        given = inputs.make(tiny_bert.MODEL, sizes)
        for got, want in zip(interpreter.run(order_arguments(program.signature, program.weights, given)), eager(given), strict=True):
            torch.testing.assert_close(got, want)
    with pytest.raises(Refused, match=r"StableHLO's reference interpreter: seq must be at most 32, got 33"):
        interpreter.run(order_arguments(program.signature, program.weights, inputs.make(tiny_bert.MODEL, {"batch": 1, "seq": 33})))


def test_chlo_is_kept_or_expanded_at_every_level() -> None:
    kept, expanded = (tiny_bert.lower(tiny_bert.torch_level(), ToStableHLO(chlo=how)) for how in ("keep", "expand"))
    assert mlir.count_ops(kept.ir)["chlo.erf"] == 1
    assert not any(name.startswith("chlo.") for name in mlir.count_ops(expanded.ir))
    assert "mhlo.erf" not in mlir.count_ops(tiny_bert.lower(expanded, ToMHLO()).ir)
    given = inputs.make(tiny_bert.MODEL, {"batch": 2, "seq": 3})
    assert kept.signature is not None
    both = [ReferenceInterpreter(program.ir).run(order_arguments(kept.signature, kept.weights, given)) for program in (kept, expanded)]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [row.torch for row in types.DTYPES.values() if not row.name.startswith("complex")])
def test_every_dtype_goes_in_and_out(dtype: torch.dtype) -> None:
    element = types.find_row(dtype).hlo
    text = f"""func.func @main(%x: tensor<?x2x{element}>) -> tensor<2x?x{element}> {{
      %0 = stablehlo.transpose %x, dims = [1, 0] : (tensor<?x2x{element}>) -> tensor<2x?x{element}>
      return %0 : tensor<2x?x{element}>
    }}"""
    given = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]).to(dtype)
    (got,) = ReferenceInterpreter(mlir.parse(text, mlir.create_torch_context())).run([given])
    assert got.dtype is dtype and torch.equal(got.float(), given.t().float())


def test_what_would_end_the_process_is_unsupported() -> None:
    calls = "func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> { %0 = stablehlo.custom_call @mine(%x) : (tensor<?xf32>) -> tensor<?xf32>"
    cholesky = "func.func @main(%x: tensor<?x?xf32>) -> tensor<?x?xf32> { %0 = stablehlo.cholesky %x : tensor<?x?xf32>"
    for text, given, cause in ((f"{calls} return %0 : tensor<?xf32> }}", torch.ones(2), "leaves 1 ops with dynamic dims"),
                               (f"{cholesky} return %0 : tensor<?x?xf32> }}", torch.ones(2, 2), "has no code for stablehlo.cholesky")):
        with pytest.raises(Unsupported, match=cause):
            ReferenceInterpreter(mlir.parse(text, mlir.create_torch_context())).run([given])


def test_the_levels_own_text_runs() -> None:
    weight, x, ids = torch.randn(16, 8), torch.randn(3, 16), torch.arange(3)
    logits, count = ReferenceInterpreter(mlir.parse(hlo("stablehlo"), mlir.create_torch_context())).run([weight, x, ids])
    torch.testing.assert_close(logits, torch.relu(x @ weight))
    assert torch.equal(count, 2 * ids)


def test_a_batch_norm_is_computed_in_arithmetic() -> None:
    text = """func.func @main(%x: tensor<?x3x?xf32>, %v: tensor<3xf32>, %w: tensor<3xf32>) -> tensor<?x3x?xf32> {
      %0 = "stablehlo.batch_norm_inference"(%x, %v, %w, %w, %v) {epsilon = 0.1 : f32, feature_index = 1 : i64}
        : (tensor<?x3x?xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<?x3x?xf32>
      return %0 : tensor<?x3x?xf32>
    }"""
    x, v, w = torch.randn(2, 3, 4), torch.rand(3) + 0.5, torch.randn(3)
    (got,) = ReferenceInterpreter(mlir.parse(text, mlir.create_torch_context())).run([x, v, w])
    torch.testing.assert_close(got, torch.nn.functional.batch_norm(x, w, v, v, w, eps=0.1))


def test_an_older_version_is_written_or_refused_by_the_op_that_it_lacks() -> None:
    text = "func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> { %0 = mhlo.tan %x : tensor<?xf32>\n return %0 : tensor<?xf32> }"
    module = mlir.parse(text, mlir.create_hlo_context())
    assert portable.serialize(module, "1.9.0")[1] == "1.9.0"
    with pytest.raises(StageFailed, match=r"StableHLO 0\.9\.0 cannot hold this program: failed to legalize operation 'vhlo\.tan_v2'"):
        portable.serialize(module, "MAX")
    (problem,) = Package(target_version="2.0.0").requires(tiny_bert.mhlo_level())
    assert "use a version from 0.9.0 to" in problem.cause
