"""Measure the quality of the MHLO: its size against torch-mlir's, and the speed of XLA's program against other ways to run the model.

    python -m benchmarks.mhlo_quality [--quick] [--models bert,vit] [--compile] [--json FILE]

Sizes count all ops, and dynamic_broadcast_in_dim and dynamic_reshape among them, in Shapeline's MHLO and in two baselines. `fx` is the
result of torch-mlir's own importer, decompositions and pipeline for the same dynamic dims. `own` is the result of torch-mlir's published
StableHLO pipeline on Shapeline's torch level, which exists for every model. Weights are arguments in all three.

Seconds are measured at each of POINTS, for five contenders: Shapeline's dynamic MHLO, which XLA refines to the point like any dynamic
module; the StableHLO of torch-mlir and of torchax, exported at the point and compiled by the same XLA with the same options; torch.compile
at the point (--compile: takes a minute per model); and eager. All run on one thread. Figures are medians of CPU seconds over rounds in
which every contender runs once. The order in a round is random, because the contender after eager finds the caches full of eager's data. A
contender that fails is a line with its reason. For torchax see `torchax_export`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import torchax_export
from flows.config.plan import plan
from lowering import files, pipeline
from lowering.eager import inputs
from lowering.errors import Unsupported
from lowering.ir import mlir, portable
from lowering.job import Job
from lowering.legalize import driver
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.numerics.running import shape_refinement, xla
from lowering.numerics.running.runner import order_arguments
from lowering.sizes import evaluation
from lowering.stage import Silent

QUICK = ("mlp", "bert")
MODELS = ("mlp", "bert", "llama", "gpt2", "vit", "resnet", "whisper", "t5")
COUNTED = ("dynamic_broadcast_in_dim", "dynamic_reshape")
POINTS = ({"batch": 1, "seq": 32, "source": 32, "target": 16}, {"batch": 4, "seq": 128, "source": 128, "target": 64})
ROUNDS = 21
CONTENDERS = ("torch_mlir static", "torchax", "torch.compile", "eager")

Run = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """Sizes as (all ops, ops of COUNTED) for Shapeline and for each baseline that lowers; seconds by point: medians by contender."""

    model: str
    counts: Mapping[str, tuple[int, int]]
    seconds: Mapping[str, Mapping[str, float]]
    failures: Mapping[str, str] = field(default_factory=dict)


def lower(name: str, *overrides: str, at: Mapping[str, int] | None = None) -> Program:
    """Return the last program of a model of configs/model. With `at`, every dim has that size."""
    (data,) = plan([f"model={name}", *overrides]).jobs
    job = Job.from_json(data)
    model = job.model if at is None else fix_dims(job.model, at)
    program = Program(Level.MODEL, model)
    for stage in pipeline.select_stages(job).values():
        if problems := stage.requires(program):
            raise Unsupported(problems)
        program = stage.apply(program, Silent())
    return program


def fix_dims(model: Model, at: Mapping[str, int]) -> Model:
    """Return the model with every dim replaced by an int."""
    shapes = inputs.compute_shapes(model, at)
    return replace(model, symbols={}, inputs={name: replace(declared, shape=shapes[name]) for name, declared in model.inputs.items()})


def lower_with_torch_mlir(name: str, at: Mapping[str, int] | None = None) -> Program:
    """Lower the model with torch-mlir's own importer and pipeline, weights as arguments."""
    return run_published_pipeline(lower(name, "route=fx", "until=torch", "stages.torch.backend_legal_ops=[]", at=at))


def run_published_pipeline(program: Program) -> Program:
    """Run torch-mlir's published pipeline on a program at the torch level."""
    module = mlir.copy(program.ir)
    mlir.run(module, "builtin.module(torch-backend-to-stablehlo-backend-pipeline)", "torch-mlir")
    return program.replace_ir(Level.STABLEHLO, module)


def count_ops(module: Any) -> tuple[int, int]:
    """Count all ops, and those of COUNTED."""
    counts = mlir.count_ops(module)
    return sum(counts.values()), sum(count for name, count in counts.items() if name.partition(".")[2] in COUNTED)


def measure(name: str, with_compile: bool) -> Row:
    program = lower(name, "until=mhlo")
    built = program.at(Level.MODEL)
    assert built is not None and isinstance(built.ir, Built)
    failures: dict[str, str] = {}
    counts = {"shapeline": count_ops(program.ir)}
    for baseline_name, make in (("fx", lambda: lower_with_torch_mlir(name)),
                                ("own", lambda: run_published_pipeline(lower(name, "until=torch", "stages.torch.backend_legal_ops=[]")))):
        try:
            counts[baseline_name] = count_ops(make().ir)
        except Exception as error:  # noqa: BLE001 - whatever a contender raises is its cell
            failures[baseline_name] = _cause(error)
    seconds = {evaluation.text(at): measure_seconds(_runs(name, program, built.ir, at, with_compile, failures))
               for at in points(built.ir.model)}
    return Row(name, counts, seconds, failures)


def points(model: Model) -> list[dict[str, int]]:
    """Return POINTS in the model's own symbols."""
    found = [{symbol: point.get(symbol, example) for symbol, example in model.examples().items()} for point in POINTS]
    return [point for place, point in enumerate(found) if point not in found[:place]]


def _runs(name: str, program: Program, built: Built, at: Mapping[str, int], with_compile: bool, failures: dict[str, str]) -> dict[str, Run]:
    """Prepare each contender for the point. The reason of a failure goes to `failures`."""
    assert program.signature is not None
    model, module, given = built.model, built.module, inputs.make(built.model, at)
    runs: dict[str, Run] = {}

    def offer(contender: str, prepare: Callable[[], Run]) -> None:
        try:
            run = prepare()
            run()
            runs[contender] = run
        except Exception as error:  # noqa: BLE001
            failures[contender] = _cause(error)

    values = order_arguments(program.signature, program.weights, given)
    device = xla.Xla("cpu")
    device.hold(program.weights)
    offer("shapeline", lambda: _compile(device, mlir.text(program.ir, elide=None), values))
    offer("torch_mlir static", lambda: _static(device, name, at, given))
    offer("torchax", lambda: _torchax(device, module, model, given))
    if with_compile:
        torch._dynamo.reset()
        offer("torch.compile", lambda: _make_call(torch.compile(module, dynamic=False), model, given))
    offer("eager", lambda: _make_call(module, model, given))
    return runs


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:160]


def _torchax(device: xla.Xla, module: torch.nn.Module, model: Model, given: Mapping[str, torch.Tensor]) -> Run:
    text, values, weights = torchax_export.export(module, model, given)
    device.hold({str(place): value for place, value in enumerate(values[:weights])})
    return _compile(device, text, values)


def _compile(device: xla.Xla, text: str, values: list[torch.Tensor]) -> Run:
    executable = device.compile(shape_refinement.refine(text, [(value.dtype, tuple(value.shape)) for value in values]))
    return lambda: device.execute(executable, values)


def _static(device: xla.Xla, name: str, at: Mapping[str, int], given: Mapping[str, torch.Tensor]) -> Run:
    program = lower_with_torch_mlir(name, at)
    assert program.signature is not None
    # Scalar constants of other dialects are left even here.
    if problems := driver.legalize(program.ir, program.signature, with_assertions=False):
        raise Unsupported(problems)
    device.hold(program.weights)
    return _compile(device, mlir.text(portable.to_hlo(program.ir), elide=None), order_arguments(program.signature, program.weights, given))


def _make_call(module: Any, model: Model, given: Mapping[str, torch.Tensor]) -> Run:
    def run() -> Any:
        with torch.no_grad():
            return module(**given, **model.constants)

    return run


def measure_seconds(runs: Mapping[str, Run]) -> dict[str, float]:
    """Return medians of CPU seconds. In every round each contender runs once, in random order."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for _ in range(ROUNDS):
        for name in order.sample(list(runs), len(runs)):
            began = time.process_time()
            runs[name]()
            taken[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def compute_ratios(rows: list[Row], contender: str) -> list[float]:
    """Return Shapeline's seconds divided by the contender's, at every point of every model that both ran."""
    both = [seconds for row in rows for seconds in row.seconds.values() if {"shapeline", contender} <= set(seconds)]
    return [seconds["shapeline"] / seconds[contender] for seconds in both]


def summarize(ratios: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float | None]]:
    """Return the geometric mean and the worst of the ratios to each contender; None where there are none."""
    return {"ratio": {name: round(math.exp(statistics.fmean(map(math.log, of))), 3) if of else None for name, of in ratios.items()},
            "worst": {name: round(max(found), 3) if found else None for name, found in ratios.items()}}


def compute_reduction(row: Row, against: str) -> float | None:
    """Return the share of the ops of COUNTED in a baseline that Shapeline's program does not have."""
    return 1 - row.counts["shapeline"][1] / row.counts[against][1] if against in row.counts else None


def show(row: Row) -> None:
    cells = [f"{name} {ops} ops, {counted} dynamic" for name, (ops, counted) in row.counts.items()]
    shares = [f"{share:.1%} fewer than {name}" for name in ("fx", "own") if (share := compute_reduction(row, name)) is not None]
    print(f"{row.model}: {'; '.join([*cells, *shares])}")
    for point, seconds in row.seconds.items():
        print(f"  {point:<30}"
              + "".join(f"{name} {value * 1e3:.2f} ms ({seconds['shapeline'] / value:.2f})  " for name, value in seconds.items()))
    for contender, failure in row.failures.items():
        print(f"  {contender}: {failure}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--models", help="comma-separated, of configs/model")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    # before JAX starts: XLA reads it once
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    torch.set_num_threads(1)
    rows = []
    for name in options.models.split(",") if options.models else QUICK if options.quick else MODELS:
        rows.append(measure(name, options.compile))
        show(rows[-1])
        sys.stdout.flush()
    found = {"benchmark": "mhlo_quality", "models": len(rows),
             "fewer": {against: min((share for row in rows if (share := compute_reduction(row, against)) is not None), default=None)
                       for against in ("fx", "own")},
             **summarize({name: compute_ratios(rows, name) for name in CONTENDERS})}
    if options.json:
        files.write(options.json, {**found, "rows": [asdict(row) for row in rows]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
