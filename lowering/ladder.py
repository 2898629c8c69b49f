"""The ladder of a job: each stage takes the level that the stage before it gives."""

from __future__ import annotations

from collections.abc import Mapping

from lowering.errors import Problem
from lowering.level import Level
from lowering.stage import Rung


def check(stages: Mapping[str, Rung], entry: Level = Level.MODEL) -> list[Problem]:
    """List the problems of the ladder: each stage must take the level that the stage before it gives."""
    if not stages:
        return [Problem("stages", "is empty", "list at least one stage in pipeline.yaml")]
    found, given, giver = [], entry, "the job's entry"
    for name, stage in stages.items():
        if stage.source is not given:
            others = [other for other, candidate in stages.items()
                      if candidate.target is stage.source and candidate.source is not stage.source]
            found.append(Problem(f"stages.{name}", f"takes {stage.source.word}, but {giver} gives {given.word}",
                                 f"move it after {others[0]}" if others else f"put a stage that gives {stage.source.word} before it"))
        elif stage.target.rank < stage.source.rank:
            found.append(Problem(f"stages.{name}", f"goes up from {stage.source.word} to {stage.target.word}",
                                 "each stage must lower to a level further down"))
        given, giver = stage.target, name
    return found
