"""How many of torch.nn's modules reach MHLO with dynamic dims, and compute there what eager does at other shapes, gradients included.

    python -m benchmarks.module_coverage [--json FILE] [--markdown FILE] [-k NAME] [--workers N] [--samples N] [--seconds N]

Every module of PyTorch's own module database (torch.testing._internal.common_modules), in float32, float16 and bfloat16, in eval mode and
in training, every dim dynamic where torch.export allows it: all but those that a weight or an argument of the module fixes.
"""

from __future__ import annotations

import argparse

from benchmarks import coverage, module_samples, op_table
from benchmarks.op_sweep import Task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    op_table.add_options(parser, op_table.MODULES)
    coverage.add_options(parser)
    options = parser.parse_args()
    names = [name for name in module_samples.database() if any(part in name for part in options.k.split(","))]
    wanted = [Task(name, column, options.samples, "modules") for column in module_samples.columns() for name in names]
    found, facts = coverage.collect(options, wanted, "module_coverage")
    op_table.publish(found, facts, op_table.MODULES, options.markdown)


if __name__ == "__main__":
    main()
