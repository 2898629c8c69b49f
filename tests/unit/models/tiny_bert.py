"""A BERT of one layer whose GELU is CHLO's erf, lowered once a session."""

from __future__ import annotations

from functools import cache

from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.stage import Silent, Stage
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript

KWARGS = {"vocab_size": 32, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
          "max_position_embeddings": 32}  # fmt: skip
MODEL = Model(
    "bert",
    {"_target_": "lowering.sources.huggingface.build", "config": "BertConfig", "architecture": "BertModel", "kwargs": KWARGS},
    {"input_ids": Input("int64", ("batch", "seq"), {"randint": [0, 32]}), "attention_mask": Input("int64", ("batch", "seq"), "padding")},
    {"batch": Symbol(1, 8), "seq": Symbol(1, 32)},
)


def lower(program: Program, *stages: Stage) -> Program:
    for stage in stages:
        program = stage.apply(program, Silent())
        assert not stage.ensures(program)
    return program


@cache
def torch_level() -> Program:
    return lower(Program(Level.MODEL, MODEL), Export(), ToTorchScript(), ToTorchDialect())


@cache
def mhlo_level() -> Program:
    return lower(torch_level(), ToStableHLO(), ToMHLO())
