"""Composites from an exported model to MHLO: bodies that read their operands alone, and compute what the plain program computes."""

from __future__ import annotations

from collections import Counter
from functools import cache

import torch

from lowering.composites import table
from lowering.ir import mlir, portable
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.running import static_modules, xla
from lowering.numerics.running.runner import list_names
from lowering.stages.export import Export
from lowering.stages.fx_import import FromFX
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from lowering.torchscript import deployable
from tests.toys import Heard
from tests.unit.models import tiny_bert

NAMES = {key: f"pytorch.{key}" for key in table.FORMS}
MODEL = Model("block", {"_target_": "tests.unit.models.fused_forms.Block"}, {"x": Input("float32", ("batch", "length", 16))},
              {"batch": Symbol(1, 4), "length": Symbol(1, 12)})  # fmt: skip
GROUPS = Model("groups", {"_target_": "tests.unit.models.fused_forms.Groups"}, {"x": Input("float32", ("batch", "length", 8))},
               {"batch": Symbol(1, 4), "length": Symbol(2, 12)})  # fmt: skip
COUNTS = {"pytorch.attention": 1, "pytorch.rms_norm": 2, "pytorch.rope": 2, "pytorch.silu": 1}


@cache
def lowered(is_kept: bool) -> Program:
    return tiny_bert.lower(Program(Level.MODEL, MODEL), Export(composites=NAMES if is_kept else {}), ToTorchScript(), ToTorchDialect(),
                           ToStableHLO(), ToMHLO())


def composites(module: object) -> dict[str, int]:
    return dict(Counter(op.attributes["name"].value for op in mlir.walk_operations(module) if op.name.endswith(".composite")))


def test_each_level_has_its_composites_and_every_consumer_runs_the_bodies() -> None:
    program, note = lowered(True), Heard()
    stablehlo = program.at(Level.STABLEHLO)
    assert stablehlo is not None and composites(stablehlo.ir) == composites(program.ir) == COUNTS
    assert "shapeline_composite" not in mlir.text(stablehlo.ir)
    functions = list(mlir.walk_functions(program.ir))
    assert len(functions) == 1 + 5, "equal bodies are one function: rms_norm's; the two rope's have other heads"
    Verify(platforms=("cpu",), levels=("torchscript", "stablehlo:interpreter", "mhlo"), points=3).apply(program, note)
    assert {cell["outcome"] for cell in note.reports["verify"]["consumers"]} == {"agrees"}


def test_composites_change_no_number() -> None:
    program, plain = lowered(True), lowered(False)
    assert program.signature is not None
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))
    given = [program.weights[argument.name] if argument.kind != "input" else x for argument in program.signature.arguments]
    results = [xla.Xla().run(mlir.to_bytecode(each.ir), given)[0] for each in (program, plain)]
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


def test_static_and_portable_forms_keep_them() -> None:
    program = lowered(True)
    assert program.signature is not None
    artifact, _ = portable.serialize(program.ir, names=list_names(program.signature))
    assert composites(portable.deserialize(artifact)) == COUNTS
    static = static_modules.make(program, {"batch": 3, "length": 5})
    assert composites(static.stablehlo) == composites(static.mhlo) == composites(portable.deserialize(static.artifact)) == COUNTS
    assert "?" not in mlir.text(static.mhlo)


def test_a_grouped_product_is_one_op_of_chlo_and_mhlo() -> None:
    program, note = Program(Level.MODEL, GROUPS), Heard()
    for stage in (Export(composites={"grouped_mm": "chlo.ragged_dot"}), ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        program = stage.apply(program, note)
        assert not stage.ensures(program)
    unformed = [message for code, message in zip(note.codes, note.messages, strict=True) if code == "composite_not_formed"]
    assert ["chlo.ragged_dot takes rows" in message for message in unformed] == [True], "that of columns stays plain"
    stablehlo = program.at(Level.STABLEHLO)
    assert stablehlo is not None and program.signature is not None
    artifact, _ = portable.serialize(program.ir, names=list_names(program.signature))
    static = static_modules.make(program, {"batch": 3, "length": 5})
    counts = [sum(op.name.endswith("ragged_dot") for op in mlir.walk_operations(module)) for module in
              (stablehlo.ir, program.ir, static.stablehlo, static.mhlo, portable.deserialize(artifact),
               portable.deserialize(static.artifact))]
    assert counts == [1, 1, 1, 1, 0, 0], "portable artifacts hold the arithmetic"
    Verify(platforms=("cpu",), levels=("stablehlo:interpreter", "mhlo"), points=3).apply(program, note)
    assert {cell["outcome"] for cell in note.reports["verify"]["consumers"]} == {"agrees"}


def test_the_deployable_module_has_no_mark() -> None:
    script = lowered(True).at(Level.TORCHSCRIPT)
    assert script is not None and "shapeline_composite" in str(script.ir)
    assert "shapeline_composite" not in str(deployable.build_module(script).graph)


def test_training_refuses_composites() -> None:
    model = Model("mlp", MODEL.factory, MODEL.inputs, MODEL.symbols, mode="training")
    problems = Export(composites=NAMES).requires(Program(Level.MODEL, model))
    assert [problem.place for problem in problems] == ["stages.export.composites"]


def test_the_importer_of_torch_mlir_refuses_composites() -> None:
    exported = lowered(True).at(Level.EXPORTED)
    assert exported is not None
    assert [problem.place for problem in FromFX().requires(exported)] == ["stages.export.composites"]
