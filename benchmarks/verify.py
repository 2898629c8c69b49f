"""What verification costs: CPU of the stage `verify`, job by job, and beside it that of another checkout in the same run.

    python -m benchmarks.verify [--suites NAME,...] [-k WORDS] [--against FOLDER] [--planted] [--json FILE]

Each job is lowered in a process of its own, without Prefect, the flow and the store. --against: a folder with another commit
(`git worktree add FOLDER COMMIT`), which may be of before the modules had their present places; each job is run by its code right after it
was run by this one's, and is `absent` where that does not have it. --planted: run `benchmarks.planted` of
both at the end, and print both tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
_JOB = """
import importlib.util, json, sys, tempfile, warnings
from pathlib import Path
import torch
from lowering import pipeline
from lowering.job import Job

places = ("flows.config.plan", "flows.config.expansion"), ("flows.planning", "flows.expansion")
is_new = importlib.util.find_spec("flows.config").submodule_search_locations is not None
planning, expansion = map(importlib.import_module, places[0] if is_new else places[1])
warnings.simplefilter("ignore")
torch.set_num_threads(1)
data = next((job for job in planning.plan([f"suite={sys.argv[1]}"]).jobs if expansion.job_id(job) == sys.argv[2]), None)
if data is None:
    print("RESULT" + json.dumps({"outcome": "absent", "verify": 0.0}))
    sys.exit()
with tempfile.TemporaryDirectory() as folder:
    result = pipeline.run(Job.from_json(data), Path(folder))
stages = {stage.name: stage.cpu_seconds for stage in result.stages}
print("RESULT" + json.dumps({"outcome": result.outcome, "problems": list(map(str, result.problems))[:2],
                             "points": len(result.verify.get("points", ())),
                             "notes": [[remark.code, remark.message] for remark in result.warnings if remark.stage == "verify"],
                             "verify": stages.get("verify", 0.0), "all": sum(stages.values())}))
"""


def list_jobs(suites: str, pattern: str) -> Iterator[tuple[str, str]]:
    """Yield (suite, job id) of the jobs that the words `pattern` select."""
    from flows.config import expansion, selection
    from flows.config.plan import plan

    is_selected = selection.parse(pattern)
    for suite in suites.split(","):
        yield from ((suite, name) for job in plan([f"suite={suite}"]).jobs if is_selected(name := expansion.job_id(job)))


def run(suite: str, name: str, code: Path) -> Mapping[str, Any]:
    """Run a job by the code of a checkout: outcome, points, CPU seconds of verify and of all stages."""
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run([sys.executable, "-c", _JOB, suite, name], cwd=code, env=environment, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
    found: dict[str, Any] = (json.loads(line.removeprefix("RESULT"))
                             if line else {"outcome": "crash", "problems": [done.stderr[-300:]], "verify": 0.0})
    return found


def plant(code: Path) -> str:
    """Return the table of `benchmarks.planted` of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-m", "benchmarks.planted"], cwd=code,
                              env={**os.environ, "PYTHONPATH": str(code), "TMPDIR": folder}, capture_output=True, text=True, check=False)
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("|")) or f"has none: {done.stderr[-200:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", default="quickstart", metavar="NAME,...")
    parser.add_argument("-k", default="", metavar="WORDS", help="only jobs with these words in their ids: `gpt2 and not fx`")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    sides = {"now": HERE} | ({"before": given.against.resolve()} if given.against else {})
    totals, rows = dict.fromkeys(sides, 0.0), []
    if not (jobs := list(list_jobs(given.suites, given.k))):
        parser.error(f"-k {given.k!r} selects no job of {given.suites}")
    for suite, name in jobs:
        row = {"suite": suite, "job": name} | {side: run(suite, name, code) for side, code in sides.items()}
        rows.append(row)
        for side in sides:
            totals[side] += row[side]["verify"]
        seen = ", ".join(f"{side} {row[side]['outcome']} {row[side].get('points', 0)} points {row[side]['verify']:.2f} s" for side in sides)
        print(f"{suite} {name}: {seen}", *row["now"].get("problems", ()), flush=True)
    print(f"verify: {', '.join(f'{side} {seconds:.1f} s of CPU' for side, seconds in totals.items())}"
          + (f", ratio {totals['now'] / totals['before']:.2f}" if totals.get("before") else ""))
    for side in sides if given.planted else ():
        print(f"planted, {side}:\n{plant(sides[side])}")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
