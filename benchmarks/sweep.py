"""Measure what a sweep over ranges and options costs, as CPU seconds of the run and of its stages.

    python -m benchmarks.sweep [--against FOLDER] [--select WORDS] [--json FILE]

Runs `suite=ranges` without a store of earlier results, one job at a time. --against names another checkout, such as a worktree of an older
commit, which runs before this one. CPU is that of the run's process and its children.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.start import ROOT, Checkout, has_key
from lowering.record.result import JobResult


@dataclass(frozen=True)
class Row:
    """A run of the sweep: CPU seconds in all and by stage, and how many exports were made, narrowed, or taken unchanged."""

    checkout: str
    jobs: int
    ok: int
    cpu_seconds: float
    stages: dict[str, float]
    exports: dict[str, int]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description="Measure a sweep over ranges and options.")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout, measured before this one")
    parser.add_argument("--select", default="", metavar="WORDS", help="only jobs with these words in their ids: `bert and not core`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        named = [("before", options.against), ("now", ROOT)] if options.against else [("now", ROOT)]
        rows = [measure(Checkout(name, root.resolve(), Path(folder) / name, ()), options.select) for name, root in named]
    for row in rows:
        print(f"{row.checkout}: {row.ok} of {row.jobs} jobs ok, {row.cpu_seconds:.0f} s of CPU; exports {row.exports}")
        print("  " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in row.stages.items()))
    if len(rows) == 2:
        print(f"ratio {rows[1].cpu_seconds / rows[0].cpu_seconds:.2f}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def measure(checkout: Checkout, select: str) -> Row:
    """Run the sweep once."""
    output = checkout.home / "artifacts"
    words = ["run", "suite=ranges", "cluster.workers=1", f"output={output}", *(["-k", select] if select else [])]
    _, cpu_seconds = checkout.run(*words, *(["server=embedded"] if has_key(checkout.root, "server") else []))
    checkout.leave()
    results = [JobResult.load(folder) for folder in sorted((output / "runs" / "latest" / "jobs").iterdir())]
    found = [result for result in results if result is not None]
    stages, exports = Counter[str](), Counter[str]()
    for stage in (stage for result in found for stage in result.stages):
        stages[stage.name] += stage.cpu_seconds or 0.0
        if stage.name == "export":
            exports["narrowed" if stage.why.startswith("narrowed") else stage.cache] += 1
    return Row(checkout.name, len(results), sum(result.outcome == "ok" for result in found), cpu_seconds, dict(stages), dict(exports))


if __name__ == "__main__":
    main()
