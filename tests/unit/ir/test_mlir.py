"""Every diagnostic of MLIR is in the error that a stage raises, not on stderr alone."""

from __future__ import annotations

import pytest
from torch_mlir import ir

from lowering.errors import StageFailed
from lowering.ir import mlir


@pytest.mark.parametrize("make", [mlir.create_torch_context, mlir.create_hlo_context])
def test_an_invalid_module_is_reported_with_its_cause(make: object, capfd: pytest.CaptureFixture[str]) -> None:
    module = mlir.parse("func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> { return %x : tensor<2xf32> }", make())  # type: ignore[operator]
    function = module.body.operations[0]
    block = function.regions[0].blocks[0]
    block.arguments[0].set_type(type(block.arguments[0].type).parse("tensor<3xf32>", module.context))
    with pytest.raises(StageFailed) as caught:
        mlir.verify(module, "here")
    said = " ".join(map(str, caught.value.problems))
    assert "here: " in said
    assert "tensor<3xf32>" in said or "tensor<2xf32>" in said
    assert "error" not in capfd.readouterr().err


def test_what_cannot_be_parsed_is_told_with_the_cause() -> None:
    context = mlir.create_torch_context()
    with pytest.raises(StageFailed, match="out of range"), mlir.collect_diagnostics(context, "here"):
        ir.Attribute.parse("dense<1099511627776> : tensor<i32>", context)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), mlir.collect_diagnostics(mlir.create_torch_context(), "here"):
        raise KeyError("x")
