"""Stock StableHLO on packaged programs: python -m benchmarks.consumers [suite=NAME ...] [--sample N] [--limit PRODUCTS] [--points N]

Every job's packaged program is read by torch_mlir's build, made static by StableHLO's own passes, and run by its reference interpreter (and by
IREE, where it is installed) at the cheapest points; the results are compared with eager. A row says which custom calls the program holds besides
shape assertions (there should be none but the model's own), and what each consumer did.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

from torch_mlir._mlir_libs import _stablehlo

from flows.config.plan import plan
from lowering.errors import ShapelineError
from lowering.ir import mlir, portable
from lowering.job import Job
from lowering.level import Level, Program
from lowering.numerics import consumers
from lowering.numerics.ancestry import makings
from lowering.numerics.bench import Bench
from lowering.numerics.consumers import Pair
from lowering.numerics.points import Point
from lowering.stage import Silent

PAIRS = tuple(Pair(Level.STABLEHLO, consumer) for consumer in ("interpreter", "iree"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", default=["suite=quickstart"])
    parser.add_argument("--sample", type=int, help="only so many jobs, spread evenly over the suite")
    parser.add_argument("--limit", type=int, default=1 << 25, help="products that the interpreter computes at most")
    parser.add_argument("--points", type=int, default=2)
    options = parser.parse_args()
    jobs = plan([*options.overrides, "~stages.verify", "~stages.package"]).jobs
    if options.sample and options.sample < len(jobs):
        jobs = [jobs[index * len(jobs) // options.sample] for index in range(options.sample)]
    print("| job | custom calls | interpreter | IREE | CPU s |\n|---|---|---|---|---|")
    for data in jobs:
        start = time.process_time()
        job = Job.from_json(data)
        try:
            calls, cells = measure(job, options.points, options.limit)
        except ShapelineError as error:
            calls, cells = [], [f"not lowered: {error.problems[0]}"[:120], ""]
        print(f"| {job.id} | {', '.join(calls) or 'none'} | {' | '.join(cells)} | {time.process_time() - start:.1f} |", flush=True)


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
    bench = Bench(top.ir, program.signature, ("cpu",), makings(exported.ir, program.signature))
    chosen = choose_points(bench, points)
    return sorted(calls - {"shape_assertion"}), [describe(form, pair, bench, chosen, limit) for pair in PAIRS]


def choose_points(bench: Bench, count: int) -> Sequence[Point]:
    """Choose the smallest sizes, and the smallest that are all 3 or more."""
    space = bench.space
    low = space.box(0.0)
    more = {name: next((size for step in range(1, 9) if (size := low[name] + step * symbol.multiple_of) >= 3 and symbol.admits(size)),
                       low[name]) for name, symbol in space.symbols.items()}  # fmt: skip
    found = [Point("lower", low), Point("small", more)]
    return [point for point in found if space.admits(point.sizes)][:count] or [Point("traced", dict(space.example))]


def describe(form: Program, pair: Pair, bench: Bench, points: Sequence[Point], limit: int) -> str:
    cell = consumers.compare(form, pair, bench, points, limit).cell
    message = " ".join(cell.message.split())[:160]
    return f"{cell.outcome} ({cell.points})" + (f": {message}" if message else "")


if __name__ == "__main__":
    main()
