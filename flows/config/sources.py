"""Sources that start a job below the model: the stages above their level give way to one that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.config.declarations import load_stage
from flows.config.definitions import Undeclared
from lowering.fitting import Keys
from lowering.level import Level
from lowering.recipe import TARGET

MLIR = "lowering.sources.mlir.load"
READ = "read"  # the stage that reads a source
READERS = {Level.TORCH: "ReadTorch", Level.STABLEHLO: "ReadStableHLO", Level.MHLO: "ReadMHLO"}

Stages = Mapping[str, Mapping[str, Any]]
Refusal = tuple[Keys, str, str]  # keys, cause, fix


def enter(stages: Stages, factory: Mapping[str, Any], until: str | None) -> tuple[dict[str, Mapping[str, Any]], list[Refusal]]:
    """Return the stages of a model, from the level of its source down, and what is wrong with the source."""
    if factory.get(TARGET) != MLIR:
        return dict(stages), []
    words = {level.word: level for level in READERS}
    if factory.get("level") not in words:
        given = f"is {factory['level']!r}" if "level" in factory else "is missing"
        return dict(stages), [(("factory", "level"), given, f"name the level of the file: {', '.join(words)}")]
    level = words[factory["level"]]
    ranks = {each.word: each.rank for each in Level}
    if until is not None and ranks.get(until, level.rank) < level.rank:
        fix = f"until: {level.word}, or a level below"
        return dict(stages), [(("factory", "level"), f"is {level.word}, which is below until: {until}", fix)]
    below = {name: spec for name, spec in stages.items() if (rank := _find_rank(spec)) is None or rank >= level.rank}
    return {READ: {TARGET: f"lowering.stages.read.{READERS[level]}"}, **below}, []


def _find_rank(spec: Mapping[str, Any]) -> int | None:
    """Return the rank of the level that a stage takes; None for one that is not declared, which is reported elsewhere."""
    try:
        return load_stage(spec.get(TARGET, "")).source.rank
    except Undeclared:
        return None
