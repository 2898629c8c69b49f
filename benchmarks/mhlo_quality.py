"""How good the MHLO is: its size against what torch-mlir leaves, and how fast XLA runs it against what else runs the model.

    python -m benchmarks.mhlo_quality [--quick] [--models bert,vit] [--json FILE]

Sizes: ops, dynamic_broadcast_in_dim and dynamic_reshape in Shapeline's MHLO and in what torch-mlir's own importer and pipeline leave for
the same dynamic dims (weights as arguments in both). Seconds: the median of alternating runs at one shape point on this CPU, of Shapeline's
dynamic MHLO compiled by XLA for the point, of torch-mlir's StableHLO exported at the static point and compiled by the same XLA, of
torch.compile, and of eager. A contender that fails is a cell that says so. torchax 0.0.13 does not import beside torch 2.13 (it reads an overload that torch has removed), and jax.export
takes no torch module.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from flows.planning import plan
from lowering import files, inputs, mlir, pipeline, xla
from lowering.errors import Unsupported
from lowering.execution import arguments
from lowering.job import Job
from lowering.legalize import entry
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.stage import Silent

QUICK = ("mlp", "bert")
MODELS = ("mlp", "bert", "llama", "gpt2", "vit", "resnet", "whisper", "t5")
COUNTED = ("dynamic_broadcast_in_dim", "dynamic_reshape")
POINT = {"batch": 4, "seq": 128, "source": 128, "target": 64}
ROUNDS = 15

Run = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """ops and counted: of Shapeline's MHLO; baseline_*: of torch-mlir's StableHLO (None: it failed); seconds: medians by contender."""

    model: str
    sizes: Mapping[str, int]
    ops: int
    counted: int
    baseline_ops: int | None
    baseline_counted: int | None
    seconds: Mapping[str, float]
    failures: Mapping[str, str] = field(default_factory=dict)


def lowered(name: str, *overrides: str, sizes: Mapping[str, int] | None = None) -> Program:
    """The last program of a model of configs/model; with `sizes`, lowered for that one point."""
    (data,) = plan([f"model={name}", *overrides]).jobs
    job = Job.from_json(data)
    model = job.model if sizes is None else at_point(job.model, sizes)
    program = Program(Level.MODEL, model)
    for stage in pipeline.wanted(job).values():
        if problems := stage.requires(program):
            raise Unsupported(problems)
        program = stage.apply(program, Silent())
    return program


def at_point(model: Model, sizes: Mapping[str, int]) -> Model:
    """The model with every dim an int."""
    shapes = inputs.shapes(model, sizes)
    return replace(model, symbols={}, inputs={name: replace(declared, shape=shapes[name]) for name, declared in model.inputs.items()})


def baseline(name: str, sizes: Mapping[str, int] | None = None) -> Program:
    """What torch-mlir's own importer and its own pipeline make of the model, weights as arguments."""
    program = lowered(name, "route=fx", "until=torch", sizes=sizes)
    module = mlir.copy(program.ir)
    mlir.run(module, "builtin.module(torch-backend-to-stablehlo-backend-pipeline)", "torch-mlir")
    return program.lowered(Level.STABLEHLO, module)


def histogram(module: Any) -> tuple[int, int]:
    """All ops, and those of COUNTED."""
    counts = mlir.histogram(module)
    return sum(counts.values()), sum(count for name, count in counts.items() if name.partition(".")[2] in COUNTED)


def measure(name: str) -> Row:
    program = lowered(name, "until=mhlo")
    built = program.at(Level.MODEL)
    assert built is not None and isinstance(built.ir, Built) and program.signature is not None
    model, module = built.ir.model, built.ir.module
    sizes = {symbol: POINT.get(symbol, example) for symbol, example in model.examples().items()}
    given = inputs.make(model, sizes)
    failures: dict[str, str] = {}
    runs: dict[str, Run] = {}

    def offer(contender: str, prepare: Callable[[], Run]) -> None:
        try:
            run = prepare()
            run()
            runs[contender] = run
        except Exception as error:  # noqa: BLE001 - whatever a contender raises is its cell
            failures[contender] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:160]

    values = arguments(program.signature, program.weights, given)
    device = xla.Xla("cpu")
    device.hold(program.weights)
    offer("shapeline", lambda: _compiled(device, mlir.text(program.ir, elide=None), values))
    offer("torch_mlir static", lambda: _static(device, name, sizes, given))
    offer("torch.compile", lambda: _called(torch.compile(module, dynamic=True), model, given))
    offer("eager", lambda: _called(module, model, given))
    counts: tuple[int | None, int | None] = (None, None)
    try:
        counts = histogram(baseline(name).ir)
    except Exception as error:  # noqa: BLE001
        failures["torch_mlir dynamic"] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:160]
    return Row(name, sizes, *histogram(program.ir), *counts, timed(runs), failures)


def _compiled(device: xla.Xla, text: str, values: list[torch.Tensor]) -> Run:
    executable = device.compile(xla.refine(text, [(value.dtype, tuple(value.shape)) for value in values]))
    return lambda: device.execute(executable, values)


def _static(device: xla.Xla, name: str, sizes: Mapping[str, int], given: Mapping[str, torch.Tensor]) -> Run:
    program = baseline(name, sizes)
    assert program.signature is not None
    if problems := entry.legalize(program.ir, program.signature, with_assertions=False):  # scalar constants of other dialects are left even here
        raise Unsupported(problems)
    device.hold(program.weights)
    return _compiled(device, mlir.text(mlir.to_hlo(program.ir), elide=None), arguments(program.signature, program.weights, given))


def _called(module: Any, model: Model, given: Mapping[str, torch.Tensor]) -> Run:
    def run() -> Any:
        with torch.no_grad():
            return module(**given, **model.constants)

    return run


def timed(runs: Mapping[str, Run]) -> dict[str, float]:
    """Median seconds; the contenders alternate, so that a noisy moment falls on all."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def ratio_mean(rows: list[Row], contender: str) -> float | None:
    """Geometric mean of Shapeline's seconds over the contender's."""
    ratios = [row.seconds["shapeline"] / row.seconds[contender] for row in rows if {"shapeline", contender} <= set(row.seconds)]
    return round(math.exp(statistics.fmean(map(math.log, ratios))), 3) if ratios else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--models", help="comma-separated, of configs/model")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    names = options.models.split(",") if options.models else QUICK if options.quick else MODELS
    contenders = ("shapeline", "torch_mlir static", "torch.compile", "eager")
    print(f"{'model':<10}{'ops':>6}{'fx ops':>8}{'dyn':>6}{'fx dyn':>8}{'fewer':>7}" + "".join(f"{name + ' ms':>22}" for name in contenders))
    rows = []
    for name in names:
        row = measure(name)
        rows.append(row)
        fewer = f"{1 - row.counted / row.baseline_counted:.0%}" if row.baseline_counted else "-"
        cells = "".join(f"{row.seconds[contender] * 1e3:>22.2f}" if contender in row.seconds else f"{'failed':>22}" for contender in contenders)
        print(f"{row.model:<10}{row.ops:>6}{row.baseline_ops or '-':>8}{row.counted:>6}{row.baseline_counted or '-':>8}{fewer:>7}{cells}", flush=True)
        for contender, failure in row.failures.items():
            print(f"{'':<10}{contender}: {failure}")
    found = {"benchmark": "mhlo_quality", "models": len(rows), "ratio": {name: ratio_mean(rows, name) for name in contenders[1:]}}
    if options.json:
        files.write(options.json, {**found, "rows": [asdict(row) for row in rows]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
