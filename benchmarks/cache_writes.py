"""Check that a write into a cache costs what it writes: an index for each row, not for each element.

    python -m benchmarks.cache_writes RUN

RUN is the folder of a run, such as that of `make run SUITE=generation`. For each job with states, the table has the number of updates of
slices and of scatters into tensors of a state's shape in its MHLO, and the most indices that a scatter has for a row. Exit status 1: a
scatter has more indices than rows.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from flows.runs import record
from lowering import files
from lowering.ir import mlir, text_files
from lowering.level import Level
from lowering.markdown import table
from lowering.plain import from_plain
from lowering.record.folder import SIGNATURE
from lowering.signature import Signature


@dataclass(frozen=True)
class Writes:
    """Writes into tensors of a state's shape. slices, scatters: their numbers; ratio: the most indices that a scatter has for a row."""

    slices: int
    scatters: int
    ratio: Fraction


def count(module: Any, signature: Signature) -> Writes:
    """Count the writes of an MHLO module of jaxlib's build into tensors with the dtype and shape of one of its states."""
    main = mlir.find_main(module.body.operations)
    states = [main.arguments[position].type for position in signature.states]
    into = [operation for operation in mlir.walk_operations(module)
            if operation.name in ("mhlo.scatter", "mhlo.dynamic_update_slice")
            and any(_fits(operation.operands[0].type, state) for state in states)]
    scatters = [operation for operation in into if operation.name == "mhlo.scatter"]
    return Writes(len(into) - len(scatters), len(scatters), max((_count_indices(scatter) for scatter in scatters), default=Fraction(0)))


def _fits(type_: Any, state: Any) -> bool:
    """Return whether two tensor types agree, except where a dim is dynamic."""
    same = type_.rank == state.rank and str(type_.element_type) == str(state.element_type)
    return same and all(type_.is_dynamic_dim(dim) or state.is_dynamic_dim(dim) or type_.get_dim_size(dim) == state.get_dim_size(dim)
                        for dim in range(type_.rank))


def _count_indices(scatter: Any) -> Fraction:
    """Return the number of indices for each row that a scatter writes: the rows of a window end with the last dim of the operand."""
    from jaxlib.mlir.dialects import mhlo

    operand, _, updates = (value.type for value in scatter.operands)
    numbers = mhlo.ScatterDimensionNumbers(scatter.attributes["scatter_dimension_numbers"])
    window = sorted(numbers.update_window_dims)
    placed = {*numbers.inserted_window_dims, *numbers.input_batching_dims}
    dims = dict(zip((dim for dim in range(operand.rank) if dim not in placed), window, strict=True))  # of the operand -> of the update
    last = operand.rank - 1
    if last not in dims:  # a window has one element of a row
        return Fraction(1 if operand.is_dynamic_dim(last) else operand.get_dim_size(last))
    rows = math.prod(updates.get_dim_size(place) for dim, place in dims.items() if dim != last and not updates.is_dynamic_dim(place))
    return Fraction(1, max(1, rows))


def check_run(folder: Path) -> Iterator[tuple[str, Writes]]:
    """Yield the writes of each job of a run that has states and reached MHLO."""
    run = record.load(folder)
    for job in run.ids:
        path = next((path for path in run.job_folder(job).glob(f"*{Level.MHLO.suffix}*") if ".mlir" in path.suffixes), None)
        if path is None or not (run.job_folder(job) / SIGNATURE).is_file():
            continue
        signature = from_plain(Signature, files.read(run.job_folder(job) / SIGNATURE)["signature"])
        if signature.states:
            yield job, count(mlir.parse(text_files.read_text(path), mlir.create_hlo_context()), signature)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Exit 1 if a scatter has more indices than it writes rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_writes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="the folder of a run")
    found = list(check_run(parser.parse_args(arguments).run))
    print("\n".join(table([{"job": job, "update slices": writes.slices, "scatters": writes.scatters, "indices for a row": str(writes.ratio)}
                           for job, writes in found])))
    return 1 if any(writes.ratio > 1 for _, writes in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
