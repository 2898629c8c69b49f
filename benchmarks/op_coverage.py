"""How many of PyTorch's ops reach MHLO with dynamic dims, and compute there what eager does at other shapes.

    python -m benchmarks.op_coverage [--quick] [--json FILE] [--markdown FILE] [-k NAME] [--workers N] [--samples N] [--seconds N]

Every op of PyTorch's own OpInfo database, with float32 and int64 samples, every dim of every tensor dynamic where torch.export allows it,
goes through the stages of pipeline.yaml; the MHLO program is compiled by XLA for shapes that were not traced, and compared with eager.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from benchmarks import coverage, op_table
from benchmarks.op_sweep import tasks

DTYPES = ("float32", "int64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every tenth op")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there (docs/op_coverage.md is one)")
    parser.add_argument("--samples", type=int, default=1, help="samples of each op and dtype; the worst one counts")
    coverage.add_options(parser)
    options = parser.parse_args()
    found, facts = coverage.collect(options, tasks(options.k, DTYPES, options.samples, step=10 if options.quick else 1), "op_coverage")
    print(op_table.stages(found))
    if options.markdown:
        options.markdown.write_text(op_table.page(found, facts, op_table.OPS), encoding="utf-8")
    print(json.dumps({"benchmark": "op_coverage", **op_table.totals(found), "outcomes": Counter(trial.outcome for trial in found)}))


if __name__ == "__main__":
    main()
