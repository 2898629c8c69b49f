"""How many of PyTorch's ops reach MHLO with dynamic dims, and compute there what eager does at other shapes.

    python -m benchmarks.op_coverage [--quick] [--json FILE] [--markdown FILE] [-k NAME] [--workers N] [--samples N] [--seconds N]
        [--dtypes NAMES]

Every op of PyTorch's own OpInfo database, with samples of each dtype (float32 and int64 by default), every dim of every tensor
dynamic where torch.export allows it, goes through the stages of pipeline.yaml; the MHLO program is compiled by XLA for shapes that were not
traced, and compared with eager.
"""

from __future__ import annotations

import argparse

from benchmarks import coverage, op_table
from benchmarks.op_sweep import tasks

DTYPES = "float32,int64"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every tenth op")
    parser.add_argument("--dtypes", default=DTYPES, help="names separated by commas")
    op_table.add_options(parser, op_table.OPS)
    coverage.add_options(parser)
    options = parser.parse_args()
    found, facts = coverage.collect(options, tasks(options.k, options.dtypes.split(","), options.samples, step=10 if options.quick else 1),
                                    "op_coverage")
    op_table.publish(found, facts, op_table.OPS, options.markdown)


if __name__ == "__main__":
    main()
