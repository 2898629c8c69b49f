"""Every op of OpInfo at the sizes 0, 1, 2, 3 and 5 and on special values: what MHLO computes against eager, in place too.

    python -m benchmarks.op_values [--dtypes float32,int64] [--json FILE] [--resume] [-k NAME] [--workers N] [--seconds N]

An op is lowered once, from the smallest sizes that it takes, and compiled once a shape, without optimization. Values: zeros of both signs,
NaN, infinities, one of them among ordinary numbers, the ends of the dtype, equal elements, and denormals, which eager flushes as XLA does.
Zeros are equal whatever their sign.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import coverage
from benchmarks.op_sweep import tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", default="float32,int64", help="names separated by commas")
    coverage.add_options(parser)
    options = parser.parse_args()
    found, _ = coverage.collect(options, tasks(options.k, options.dtypes.split(","), 1, "values"), Path(__file__).stem)
    for trial in found:
        for problem in trial.problems if trial.outcome in ("mismatch", "crash", "timeout", "error") else ():
            print(f"{trial.op} {trial.dtype}: {problem}")


if __name__ == "__main__":
    main()
