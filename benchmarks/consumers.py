"""Stock StableHLO on packaged programs: python -m benchmarks.consumers [suite=NAME ...] [--sample N] [--limit PRODUCTS] [--points N]

Every job's packaged program is read by torch_mlir's build, made static by StableHLO's own passes, and run by its reference interpreter (and
by IREE, where it is installed) at the cheapest points; the results are compared with eager. A row says which custom calls the program holds
besides shape assertions (there should be none but the model's own), and at which sizes each consumer agrees.

The interpreter computes one product after the other. Points with more products than the limit are left out, and a sample takes the next job
of the suite in place of one that has too few points below it, or that does not lower; the rows say so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch_mlir._mlir_libs import _stablehlo

from flows.config.plan import plan
from lowering.errors import ShapelineError
from lowering.ir import mlir, portable
from lowering.job import Job
from lowering.level import Level, Program
from lowering.numerics import consumers
from lowering.numerics.bench import Bench
from lowering.numerics.consumers import Pair
from lowering.numerics.coverage.space import Point
from lowering.numerics.judging.ancestry import trace_results
from lowering.stage import Silent

BEYOND, REFUSED = "beyond the limit", "not lowered"
PAIRS = tuple(Pair(Level.STABLEHLO, consumer) for consumer in ("interpreter", "iree"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", default=["suite=quickstart"])
    parser.add_argument("--sample", type=int, help="only so many jobs, spread evenly over the suite")
    parser.add_argument("--limit", type=int, default=1 << 25, help="products that the interpreter computes at most")
    parser.add_argument("--points", type=int, default=2)
    options = parser.parse_args()
    jobs = plan([*options.overrides, "~stages.verify", "~stages.package"]).jobs
    print("| job | custom calls | interpreter | IREE | CPU s |\n|---|---|---|---|---|")
    for group in split(jobs, options.sample or len(jobs)):
        for data in group:
            start = time.process_time()
            job = Job.from_json(data)
            try:
                calls, cells = measure(job, options.points, options.limit)
            except ShapelineError as error:
                calls, cells = [], [f"{REFUSED}: {error.problems[0]}"[:120], ""]
            print(f"| {job.id} | {', '.join(calls) or 'none'} | {' | '.join(cells)} | {time.process_time() - start:.1f} |", flush=True)
            if options.sample and BEYOND not in cells[0] and not cells[0].startswith(REFUSED):
                break


def split(jobs: Sequence[Mapping[str, Any]], count: int) -> list[Sequence[Mapping[str, Any]]]:
    """Split jobs evenly into `count` groups, or into one for each job if there are fewer."""
    count = min(count, len(jobs))
    bounds = [index * len(jobs) // count for index in range(count + 1)]
    return [jobs[start:end] for start, end in pairwise(bounds)]


def measure(job: Job, points: int, limit: int) -> tuple[list[str], list[str]]:
    """Lower a job; return the custom calls of its packaged program, and what each pair gave."""
    program = Program(Level.MODEL, job.model)
    for stage in job.stages.values():
        program = stage.apply(program, Silent())
    top, exported = program.at(Level.MODEL), program.at(Level.EXPORTED)
    assert top is not None and exported is not None and program.signature is not None
    packaged = _stablehlo.deserialize_portable_artifact(mlir.create_torch_context(), portable.serialize(program.ir)[0])
    calls = {op.attributes["call_target_name"].value for op in mlir.walk_operations(packaged) if op.name == "stablehlo.custom_call"}
    form = replace(program, level=Level.STABLEHLO, ir=packaged)
    bench = Bench(top.ir, program.signature, ("cpu",), trace_results(exported.ir, program.signature))
    return sorted(calls - {"shape_assertion"}), [describe(form, pair, bench, points, limit) for pair in PAIRS]


def list_points(bench: Bench) -> list[Point]:
    """List cheap points: the smallest sizes; all dims 3 or more, or else 2 or more; the smallest sizes but for one symbol."""
    space = bench.space
    low = space.box(0.0)

    def rise(name: str, least: int) -> int:
        symbol = space.symbols[name]
        return next((size for step in range(1, 9) if (size := low[name] + step * symbol.multiple_of) >= least and symbol.admits(size)),
                    low[name])

    found = [low, *({name: rise(name, least) for name in low} for least in (3, 2)), *({**low, name: rise(name, 2)} for name in low)]
    admitted = [sizes for index, sizes in enumerate(found) if space.admits(sizes) and sizes not in found[:index]]
    return [Point("cheap", sizes) for sizes in admitted] or [Point("traced", dict(space.example))]


def describe(form: Program, pair: Pair, bench: Bench, wanted: int, limit: int) -> str:
    """Run a pair at the first `wanted` of the points that it takes; return how it ended."""
    agreed: list[str] = []
    message = ""
    for point in list_points(bench):
        cell = consumers.compare(form, pair, bench, [point], limit).cell
        if cell.outcome == "differs" or (cell.outcome != "agrees" and "limit of" not in cell.message):
            return f"{cell.outcome}: {' '.join(cell.message.split())[:160]}"
        agreed += [", ".join(f"{name}={size}" for name, size in point.sizes.items())] if cell.outcome == "agrees" else []
        message = message or cell.message
        if len(agreed) == wanted or not agreed:  # the first point is the cheapest
            break
    ran = [f"agrees at {'; '.join(agreed)}"] if agreed else []
    return "; ".join([*ran, *([f"{BEYOND}: {' '.join(message.split())[:160]}"] if message and len(agreed) < wanted else [])])


if __name__ == "__main__":
    main()
