"""`python -m lowering.worker FOLDER`: run a recorded job again, and write the results beside the record."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lowering import environments, files, pipeline
from lowering.environments import Environment
from lowering.errors import ShapelineError
from lowering.job import Job
from lowering.plain import from_plain
from lowering.record.folder import JOB, Limits, find_store, is_own, list_code, read_compress_bytes, save
from lowering.trust import TRUST, locate_inside, refuse
from lowering.worker.watch import lower


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lowering.worker", description="Lower a recorded job again.")
    parser.add_argument("folder", type=Path, help="folder of the job, with its job.json")
    parser.add_argument("--into", type=Path, help="output folder (default: FOLDER/repro)")
    parser.add_argument("--until", help="last level to lower to")
    parser.add_argument("--stage-seconds", type=float, default=Limits.stage_seconds)
    parser.add_argument("--memory-bytes", type=int)
    parser.add_argument("--here", action="store_true", help="run in this process without limits, for a debugger")
    parser.add_argument(TRUST, action="store_true", help="run the job although somebody else recorded it; its code is listed first")
    given = parser.parse_args(arguments)
    if not (given.folder / JOB).is_file():
        parser.error(f"{given.folder} has no {JOB}: give the folder of a job, runs/<run-id>/jobs/<job>")
    into = given.into or given.folder / "repro"
    try:
        data = files.read(given.folder / JOB)
        own = is_own(data)
        if not own and not given.trust:
            raise refuse(str(given.folder / JOB), list_code(data))
        locate_inside(given.folder, "repro", str(given.folder))
    except (OSError, ValueError, ShapelineError) as error:
        print(error, file=sys.stderr)
        return 2
    for piece in () if own else list_code(data):
        print(f"{TRUST}: running {piece}", file=sys.stderr, flush=True)
    into.mkdir(parents=True, exist_ok=True)
    store = find_store(data, given.folder)
    data |= {"until": given.until or data["until"], "store": store and os.path.relpath(store, into)}
    if own:
        save(data, into)
    else:
        files.write(into / JOB, data)
    if given.here:
        _enter(data, sys.argv[1:] if arguments is None else arguments)
        result = pipeline.run(Job.from_json(data), into, store=store, compress_bytes=read_compress_bytes(data))
        result.save(into)
    else:
        result = lower(into, Limits(given.stage_seconds, given.memory_bytes))
    print(f"{result.id}: {result.outcome} in {result.stage} after {result.seconds:.1f} s; see {into}")
    for problem in result.problems:
        print(f"  {problem}")
    return 0 if result.outcome == "ok" else 1


def _enter(data: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Replace this process by one in the environment of the job, if it has one. Raises InfraError if it cannot be installed."""
    if not data.get("environment"):
        return
    environment = from_plain(Environment, data["environment"])
    python = environments.build(environment)
    environments.check_precedence(environment)
    if Path(sys.prefix) != python.parents[1]:
        path = os.pathsep.join(environments.find_paths())
        os.execve(python, [str(python), "-P", "-m", "lowering.worker", *arguments], {**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    sys.exit(main())
