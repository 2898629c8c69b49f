"""Detectors: torchvision's functions that look at the number of boxes, and sizes that are assumed to be neither 0 nor 1."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from lowering.errors import LoadError, Refused
from lowering.fx.tracing import assumptions
from lowering.level import Level, Program
from lowering.model import Input, Library, Model, Symbol
from lowering.numerics.running.runner import Eager, make_runner
from lowering.numerics.running.xla import Xla
from lowering.sources import detectors
from lowering.stage import Silent
from lowering.stages.export import Export

BOXES = Input("float32", ("batch", 4), {"uniform": [0, 9]})


def _batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    if boxes.numel() == 0:
        return torch.empty((0,), dtype=torch.int64)
    return torch.ops.torchvision.nms(boxes + (idxs.to(boxes) * (boxes.max() + 1))[:, None], scores, iou_threshold)


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `torchvision.ops`, with a `batched_nms` that reads the number of boxes as torchvision's own does."""
    importlib.import_module("lowering.sources.detection")
    modules = {name: types.ModuleType(name) for name in ("torchvision.ops", "torchvision.ops.boxes", "torchvision.ops.poolers")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    modules["torchvision.ops"].batched_nms = modules["torchvision.ops.boxes"].batched_nms = _batched_nms  # type: ignore[attr-defined]
    yield modules["torchvision.ops"]
    assert modules["torchvision.ops"].batched_nms is _batched_nms and not hasattr(modules["torchvision.ops.poolers"], "len")


class Head(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes = torch.cat([x[:, :2], x[:, :2] + x[:, 2:]], 1)[x[:, 0] > 4]
        kept = sys.modules["torchvision.ops"].batched_nms(boxes, boxes[:, 3], boxes[:, 2].to(torch.int64) % 2, 0.2)
        return boxes[kept], kept


def exported(module: type[torch.nn.Module]) -> Program:
    model = Model("head", {"_target_": f"{__name__}.{module.__name__}"}, {"x": BOXES}, {"batch": Symbol(2, 16)},
                  libraries=(Library(module="lowering.sources.detection"),))
    return Export(archive=False, data_sizes="capacity").apply(Program(Level.MODEL, model), Silent())


def test_batched_nms_of_any_number_of_boxes(functions: Any) -> None:
    program = exported(Head)
    run, eager = make_runner(program, Xla()), Eager(program.model, program.at(Level.MODEL).ir.module, program.signature)
    generator = torch.Generator().manual_seed(0)
    for first in (0.0, 1.0, 2.0):  # no box, some, all
        x = torch.rand(12, 4, generator=generator) * torch.tensor([4 + 5 * (first > 1), 9, 9, 9])
        x[:, 0] += 2 * first
        for got, want in zip(run({"x": x}), eager({"x": x}), strict=True):
            torch.testing.assert_close(got, want)


class Branch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = x[x[:, 0] > 4]
        return chosen.sum(0) if chosen.shape[0] > 0 else chosen.new_ones(4)


def test_a_branch_on_emptiness_is_captured_for_elements_and_refuses_none() -> None:
    run = make_runner(exported(Branch), Xla())
    x = torch.full((3, 4), 5.0)
    assert run({"x": x})[0].tolist() == [15.0] * 4
    with pytest.raises(Refused, match="u0"):
        run({"x": torch.zeros(3, 4)})


def test_sizes_of_custom_ops_may_be_0_and_1() -> None:
    with torch.library._scoped_library("planted_sizes", "FRAGMENT") as library:
        library.define("positive(Tensor x) -> Tensor")
        torch.library.register_fake(
            "planted_sizes::positive", lambda x: x.new_empty([torch.library.get_ctx().create_unbacked_symint()]), lib=library)
        env = ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
        with FakeTensorMode(shape_env=env) as mode, assumptions.count_from_zero():
            made = torch.ops.planted_sizes.positive(mode.from_tensor(torch.ones(3)))
        assert env.var_to_range[made.shape[0].node.expr].lower == 0


def test_a_detector_without_torchvision_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models.detection", None)
    with pytest.raises(LoadError, match=r"needs torchvision.*shapeline\[detection\]"):
        detectors.build("ssdlite320_mobilenet_v3_large")
