"""A step of generation writes a row of each cache, and repeats none of its keys and values."""

from __future__ import annotations

from benchmarks.mhlo_quality import lower
from lowering.ir import mlir


def test_a_step_updates_slices_of_its_caches() -> None:
    program = lower("llama_static", "until=mhlo", "stages.export.archive=false")
    ops = mlir.count_ops(program.ir)
    assert ops["mhlo.dynamic_update_slice"] == 4  # keys and values of two layers
    assert "mhlo.scatter" not in ops
    text = mlir.text(program.ir)
    assert "tensor<?x2x256x16xf32>" in text
    assert "x4x256x16xf32>" not in text  # the four heads of a group share their keys and values
