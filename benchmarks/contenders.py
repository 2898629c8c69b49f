"""Run one contender of `benchmarks.lowering` in its own process: `python -m benchmarks.contenders NAME JOB FOLDER` prints a Taken as JSON.

Each contender goes from the model's declaration (a job.json) to its own last level. Before the measurement it imports the packages of the
model and lowers an MLP completely, so that imports and tables built once per process are not measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lowering import pipeline
from lowering.eager import inputs
from lowering.eager.module import instantiate
from lowering.fx import dynamic_shapes
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.recipe import TARGET
from lowering.record.measure import read_peak_bytes, reset_peak

WARM_UP = Model("warm_up", {"_target_": "lowering.sources.mlp.MLP", "width_in": 16, "width_hidden": 32, "width_out": 8},
                {"features": Input("float32", ("batch", 16))}, {"batch": Symbol(1, 64)})


@dataclass(frozen=True)
class Taken:
    """Cost of one lowering. seconds (wall) and cpu_seconds: from declaration to last level, without writing files (`save_seconds`).

    capture_seconds: CPU inside torch.export.export, which all contenders call; peak_bytes: highest resident size of the process;
    weight_bytes: of the module's parameters and buffers; stages: seconds without writing files, and peak, by stage, if the contender has
    stages.
    """

    seconds: float
    cpu_seconds: float
    capture_seconds: float
    peak_bytes: int
    weight_bytes: int
    save_seconds: float = 0.0
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Clock:
    """Count the CPU seconds spent inside torch.export.export, from any caller."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def on_export(self) -> Iterator[None]:
        export = torch.export.export

        def export_timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return export(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - began

        torch.export.export = export_timed
        try:
            yield
        finally:
            torch.export.export = export


def shapeline(job: Job, folder: Path) -> Taken:
    """Run our own stages (of either route) as a run does. Every level is written to `folder`."""
    clock = Clock()
    with clock.on_export():
        result = pipeline.run(job, folder)
    if result.outcome != "ok":
        raise RuntimeError(f"{result.outcome} in {result.stage}: " + "; ".join(map(str, result.problems)))
    saved = sum(stage.phases["save"] for stage in result.stages)
    share = [stage.cpu_seconds * (1 - stage.phases["save"] / stage.seconds) for stage in result.stages]
    stages = {stage.name: {"seconds": stage.seconds - stage.phases["save"], "cpu_seconds": cpu, "save_seconds": stage.phases["save"],
                           "peak_bytes": stage.peak_rss_bytes or 0} for stage, cpu in zip(result.stages, share, strict=True)}
    peak = max(stage.peak_rss_bytes or 0 for stage in result.stages)
    return Taken(result.seconds - saved, sum(share), clock.seconds, peak, weight_bytes(job.model), saved, stages)


def torch_mlir(model: Model) -> Any:
    """Run torch_mlir.fx.export_and_import to StableHLO, with its own decompositions and weights in the IR."""
    from torch_mlir import fx

    module, arguments = _build(model)
    return fx.export_and_import(module, output_type="stablehlo", dynamic_shapes=dynamic_shapes.build_dynamic_shapes(model), **arguments)


def onnx(model: Model) -> Any:
    """Run torch.onnx.export(dynamo=True) to an ONNX program in memory."""
    module, arguments = _build(model)
    return torch.onnx.export(module, (), kwargs=arguments, dynamic_shapes=dynamic_shapes.build_dynamic_shapes(model), dynamo=True,
                             verbose=False)


def torchax(model: Model) -> Any:
    """Run torchax.export.exported_program_to_stablehlo on an exported program."""
    from torchax.export import exported_program_to_stablehlo  # type: ignore[import-not-found]

    module, arguments = _build(model)
    program = torch.export.export(module, (), arguments, dynamic_shapes=dynamic_shapes.build_dynamic_shapes(model), strict=False)
    return exported_program_to_stablehlo(program)[1].mlir_module()


def _build(model: Model) -> tuple[torch.nn.Module, dict[str, Any]]:
    return instantiate(model), {**inputs.make(model, model.examples()), **model.constants}


# What each needs beyond the project's own environment: put into a folder of its own by benchmarks.lowering, without its dependencies.
OTHERS: dict[str, tuple[Callable[[Model], Any], tuple[str, ...]]] = {
    "torch_mlir.fx": (torch_mlir, ()),
    "torch.onnx": (onnx, ("onnx", "onnxscript", "onnx-ir", "protobuf")),
    "torchax": (torchax, ("torchax",)),
}


def measure(lower: Callable[[Model], Any], model: Model) -> Taken:
    clock, source = Clock(), reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    with clock.on_export():
        lowered = lower(model)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = read_peak_bytes(source)
    del lowered
    return Taken(wall, cpu, clock.seconds, peak, weight_bytes(model))


def weight_bytes(model: Model) -> int:
    """Return the bytes of all parameters and buffers, each tensor once. Those of a model without weights are only shapes."""
    with FakeTensorMode(allow_non_fake_inputs=True) if model.weights == "none" else nullcontext():
        module = instantiate(model)
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contender")
    parser.add_argument("job", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    job = Job.from_json(json.loads(options.job.read_text()))
    try:
        if job.model.factory[TARGET].startswith("lowering.sources.huggingface"):
            importlib.import_module("transformers.modeling_utils")
        for number, one in enumerate((Job(WARM_UP, job.stages), job)):
            folder = options.folder / str(number)
            folder.mkdir(parents=True)
            taken = measure(OTHERS[options.contender][0], one.model) if options.contender in OTHERS else shapeline(one, folder)
    except Exception as error:  # a contender raises whatever it likes, and that is its row
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    print(json.dumps(asdict(taken)), flush=True)


if __name__ == "__main__":
    main()
