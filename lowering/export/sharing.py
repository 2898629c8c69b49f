"""Conditions under which an export can serve narrower ranges of the same model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch.fx.experimental.symbolic_shapes import ShapeEnv

from lowering.fx.exported import Exported
from lowering.model import Model
from lowering.symbols.attempts import Captured
from lowering.symbols.conditions.questions import Questions
from lowering.symbols.log.narrowing import Sharing


def describe_sharing(
    captured: Captured, result: Exported, questions: Questions, model: Model, shortened: Collection[Any], has_draft: bool
) -> Sharing:
    """Describe the properties that an export of narrower ranges must have in common with this one.

    shortened: expressions that were evaluated at all declared sizes. has_draft: whether the record lists the problems of a draft export.
    """
    obstacle = next(_list_obstacles(captured, result, model, shortened, has_draft), "")
    env = _find_env(result)
    if obstacle or env is None:
        return Sharing(obstacle or "no size of the program is dynamic")
    branches = tuple((branch.condition.expr, dict(branch.fails_at)) for branch in captured.branches)
    return Sharing("", questions.list_open(env), branches)


def _list_obstacles(captured: Captured, result: Exported, model: Model, shortened: Collection[Any], has_draft: bool) -> Iterator[str]:
    """List the properties of an export that depend on the declared ranges, other than by questions on sizes."""
    if captured.attempt != "declared":
        yield f"exported as {captured.attempt}, which judges conditions over the declared ranges"
    if captured.deferred or captured.guards or captured.refused or result.assumed or result.deferred:
        yield "the program takes a part of the declared ranges"
    if any(entry.kind == "unbacked" for entry in captured.record.symbols):
        yield "data decide sizes"
    if any(dim.asked == "null" for dim in captured.record.requested):
        yield "torch decides the ranges of flexible dims"
    if result.extra is not None:
        yield "sizes that data decide are padded to their capacity"
    if shortened:
        yield "sizes computed from sizes were replaced by shorter expressions that are equal in the declared ranges"
    if model.mode == "training":
        yield "gradients are traced over the declared ranges"
    if has_draft:
        yield "the record has a draft export"


def _find_env(result: Exported) -> ShapeEnv | None:
    for node in result.program.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            return mode.shape_env  # type: ignore[no-any-return]
    return None
