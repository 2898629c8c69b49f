"""Buckets: the cost of six static programs beside that of their dynamic one, and their numbers: python -m benchmarks.buckets [MODEL ...]

Each model (default: bert and llama) is lowered and packaged, alternately without buckets and with six, twice each, without verification.
The table has CPU seconds, the smaller of two, with the comparison of every bucket with eager that `package` makes, and without it. Then the
packaged program is run as `shapeline exec` does at random sizes, and compared with eager.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flows.config.plan import plan
from lowering.eager import inputs
from lowering.eager.module import run_eager
from lowering.ir import mlir, portable
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Model
from lowering.numerics.delivery.artifact import Artifact
from lowering.stage import Silent
from lowering.stages.package import Package

SIZES = {"batch": (1, 8), "seq": (32, 128, 256)}
RUNS = 20


@dataclass(frozen=True)
class Lowered:
    """A packaged program. seconds: CPU time by stage."""

    program: Program
    package: Package
    seconds: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["bert", "llama"])
    options = parser.parse_args()
    print("| model | exports | programs | dynamic | with buckets | ratio | compared too | ratio | at random sizes "
          "|\n|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for name in options.models:
        print(measure(name), flush=True)


def measure(name: str) -> str:
    """Return the row of a model."""
    (data,) = plan([f"model={name}", "~stages.verify"]).jobs
    job = Job.from_json(data)
    lower(job, {}, False)  # loads the compilers
    found: dict[str, list[Lowered]] = {"dynamic": [], "static": [], "compared": []}
    for _ in range(2):
        found["dynamic"].append(lower(job, {}, False))
        found["static"].append(lower(job, SIZES, False))
        found["compared"].append(lower(job, SIZES, True))
    cost = {kind: min(sum(each.seconds.values()) for each in runs) for kind, runs in found.items()}
    with tempfile.TemporaryDirectory() as folder:
        last = found["static"][-1]
        last.package.save(last.program, Path(folder) / "07-package")
        programs = sorted(Path(folder).glob("buckets/*.stablehlo"))
        dynamic = [file.name for file in programs if re.search(r"tensor<[^>]*\?", mlir.text(portable.deserialize(file.read_bytes())))]
        assert not dynamic, dynamic
        ended = run_at_random(last.program, Artifact.load(Path(folder)))
    return (
        f"| {name} | 1 | {len(programs)} static | {cost['dynamic']:.2f} | {cost['static']:.2f} | {cost['static'] / cost['dynamic']:.2f} "
            f"| {cost['compared']:.2f} | {cost['compared'] / cost['dynamic']:.2f} | {ended} |")


def lower(job: Job, buckets: dict[str, tuple[int, ...]], compare: bool) -> Lowered:
    """Lower and package a job with these buckets."""
    program = Program(Level.MODEL, replace(job.model, buckets=buckets))
    seconds: dict[str, float] = {}
    package = Package(compare=compare)
    for name, stage in {**job.stages, "package": package}.items():
        start = time.process_time()
        program = stage.apply(program, Silent())
        seconds[name] = time.process_time() - start
    return Lowered(program, package, seconds)


def run_at_random(program: Program, artifact: Artifact) -> str:
    """Run the artifact at random sizes, and say how many agree with eager, how many a bucket served, and the largest difference."""
    top: Any = program.at(Level.MODEL)
    model: Model = top.ir.model
    draw, agreed, served, worst = random.Random(0), 0, 0, 0.0
    for seed in range(RUNS):
        sizes = {symbol: draw.randrange(1, max(each) // model.symbols[symbol].multiple_of + 1) * model.symbols[symbol].multiple_of
                 for symbol, each in SIZES.items()}  # fmt: skip
        done = artifact.execute(sizes, seed=seed)
        want = run_eager(top.ir.module, model, inputs.make(model, sizes, seed)).leaves
        worst = max([worst, *(float((value - want[name]).abs().max()) for name, value in done.results.items())])
        agreed += all(torch.allclose(value, want[name], atol=1e-5, rtol=1e-4) for name, value in done.results.items())
        served += done.bucket is not None
    return f"{agreed} of {RUNS} agree ({worst:.1e}), {served} by a bucket"


if __name__ == "__main__":
    main()
