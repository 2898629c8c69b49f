"""Run a suite of toy jobs through the real flow, in a folder of its own.

python -m tests.chaos.driver RUNNER STAGE_SECONDS JOB_SECONDS WAY...
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from flows import output
from flows.__main__ import main as shapeline
from flows.command import exits, verbs
from flows.config.document import Cluster, Limits
from flows.config.plan import Plan
from flows.config.run import Run
from flows.execution import lower_run
from lowering.job import Job
from lowering.worker import client
from tests import toys

CAP = 1500 << 20


def main(runner: str, stage_seconds: float, job_seconds: float, ways: list[str]) -> None:
    """Each way is one job: `how` or `how#number`, so that one way can be there many times."""
    client.WARM = ("torch",)  # toys need no compilers
    jobs = tuple(_job(way, job_seconds) for way in ways)
    cluster = Cluster(runner=runner, workers=2, address=os.environ.get("CHAOS_ADDRESS") or None)  # type: ignore[arg-type]
    limits = Limits(stage_seconds=stage_seconds, memory_bytes=CAP, retries=3, retry_seconds=0.2)
    run = Run(Plan("chaos", (), cluster, limits, output.locate(os.environ.get("CHAOS_OUTPUT", "artifacts")), ("suite=chaos",)), jobs)

    def lower(*_: object) -> int:
        lower_run(run)
        return exits.OK

    verbs.run = lower  # errors end as those of the command do
    sys.exit(shapeline(["run"]))


def _job(way: str, seconds: float) -> Job:
    """Its files say whose they are."""
    made = toys.job(way.partition("#")[0], name=way.replace(" ", "-").replace("#", "-"), seconds=seconds)
    return replace(made, stages={**made.stages, "export": toys.Export(text=way), "torch": toys.ToTorch(text=f"the end of {way}")})


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
