"""Measure what the engine adds to the jobs that it runs: CPU and wall time per job, reruns from the store, and the gain of a second worker.

    python -m benchmarks.engine [--parts cost,hits,workers] [--quick] [--json FILE]

The jobs compile nothing, so all of their cost is the engine's. `cost` compares three ways to run them: the bare stages in one process, the
stages in a child process per job (fork server, events, manifest), and the whole flow (Prefect, report, store). `hits` reruns jobs whose
results are all in the store. `workers` compares two workers with two bare processes that compute the same, which shows what the machine
itself allows. The four ways alternate.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine_jobs import jobs
from lowering import files, pipeline
from lowering.record.folder import prepare
from lowering.worker import watch

WORKERS = 2


@dataclass(frozen=True)
class Row:
    """Cost of one way to run `jobs` jobs.

    seconds: wall time; cpu_seconds: CPU of the process and its children, start-up included; server_cpu_seconds: the share of Prefect's
    server.
    """

    what: str
    jobs: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float = 0.0


def run_bare(count: int, seconds: float, folder: Path) -> None:
    """Run the stages of all jobs in this process, one job after the other."""
    for job in jobs(count, seconds):
        into = folder / job.id
        into.mkdir(parents=True)
        pipeline.run(job, into).save(into)


def run_into_store(count: int, seconds: float, folder: Path) -> None:
    """Run the stages in this process and leave the results in the store that a flow with this output folder reads."""
    for job in jobs(count, seconds):
        into = folder / "runs" / "first" / "jobs" / job.id
        into.mkdir(parents=True)
        assert pipeline.run(job, into, store=folder / "store").outcome == "ok"


def run_children(count: int, seconds: float, folder: Path) -> None:
    """Run each job in a child of the fork server, two at a time."""
    prepared = [folder / "runs" / "bare" / "jobs" / job.id for job in jobs(count, seconds)]
    for into, job in zip(prepared, jobs(count, seconds), strict=True):
        prepare(job, into)
    with ThreadPoolExecutor(WORKERS) as pool:
        assert all(result.outcome == "ok" for result in pool.map(watch.lower, prepared))


def run_flow(count: int, seconds: float, folder: Path, workers: int = WORKERS) -> None:
    """Run the whole engine. The last line of the output gives the CPU seconds of Prefect's server."""
    from flows.config.document import Cluster
    from flows.config.plan import Plan
    from flows.config.run import Run
    from flows.engine import revival
    from flows.execution import lower_run

    lower_run(Run(Plan("engine", (), Cluster(workers=workers), output=folder, overrides=("suite=engine",)), jobs(count, seconds)))
    server = revival.find_embedded()
    if server is None or server.server_process is None:
        raise RuntimeError("the run had no embedded server: unset PREFECT_API_URL")
    ticks = Path(f"/proc/{server.server_process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    print(json.dumps({"server_cpu_seconds": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")}))


def run_flow_with_one_worker(count: int, seconds: float, folder: Path) -> None:
    run_flow(count, seconds, folder, workers=1)


def run_two_bare(count: int, seconds: float, folder: Path) -> None:
    """Run two bare processes with half of the jobs each."""
    halves = [multiprocessing.get_context("spawn").Process(target=run_bare, args=(count // 2, seconds, folder / str(half)))
              for half in range(2)]
    for half in halves:
        half.start()
    for half in halves:
        half.join()


WAYS: dict[str, Callable[[int, float, Path], None]] = {
    "bare": run_bare, "stored": run_into_store, "children": run_children, "flow": run_flow, "one_worker": run_flow_with_one_worker,
    "side_by_side": run_two_bare,
}


def run_way(what: str, way: str, count: int, seconds: float, folder: Path) -> Row:
    """Run one way in a fresh process and return its row."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.engine", "--one", way, str(count), str(seconds), str(folder)]
    environment = {**os.environ, "PREFECT_HOME": str(folder.parent / "prefect")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{what} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = json.loads(done.stdout.splitlines()[-1]) if way in ("flow", "one_worker") else {}
    return Row(what, count, round(time.perf_counter() - began, 2), round(cpu, 2), **said)


def compute_cost_per_job(small: Row, large: Row, figure: str = "cpu_seconds") -> float:
    """Return the CPU seconds of one additional job. The cost of starting cancels out."""
    return float(getattr(large, figure) - getattr(small, figure)) / (large.jobs - small.jobs)


Take = Callable[[str, str, int, float, str], Row]


def measure_cost(take: Take, quick: bool) -> dict[str, Any]:
    """Compare the CPU that the three ways need per job."""
    few, some, many = (5, 25, 25) if quick else (20, 500, 1000)
    pairs = {way: (take(f"{way}, few", way, few, 0.0, ""), take(f"{way}, many", way, count, 0.0, ""))
             for way, count in (("bare", many), ("children", some), ("flow", many))}
    each = {way: compute_cost_per_job(*pair) for way, pair in pairs.items()}
    return {
        "cpu_per_job_s": round(each["flow"] - each["bare"], 4), "of_it_child_s": round(each["children"] - each["bare"], 4),
        "of_it_prefect_and_report_s": round(each["flow"] - each["children"], 4),
        "of_it_prefects_server_s": round(compute_cost_per_job(*pairs["flow"], "server_cpu_seconds"), 4),
        "jobs_in_one_run": many, "that_run_s": pairs["flow"][1].seconds,
    }  # fmt: skip


def measure_hits(take: Take, quick: bool) -> dict[str, Any]:
    """Compare a run whose jobs are all in the store with an empty run."""
    count = 25 if quick else 500
    take("put into the store", "stored", count, 0.0, "hits")
    one = take("one hit", "flow", 1, 0.0, "hits")
    all_of_them = take("all hits", "flow", count, 0.0, "hits")
    return {"all_hit_jobs": count, "all_hit_s": all_of_them.seconds, "all_hit_cpu_s": all_of_them.cpu_seconds,
            "cpu_per_hit_s": round(compute_cost_per_job(one, all_of_them), 4)}


def measure_workers(take: Take, quick: bool) -> dict[str, Any]:
    """Compare two workers with one, and two bare processes with one. Medians of several rounds, because the machine may be shared."""
    equal, seconds, rounds = (4, 1.0, 1) if quick else (8, 3.0, 3)
    workers, processes = [], []
    for turn in range(rounds):
        start = take("start", "flow", 1, 0.0, f"start{turn}").seconds
        alone = take("equal jobs, one bare process", "bare", equal, seconds, f"alone{turn}")
        one = take("equal jobs, one worker", "one_worker", equal, seconds, f"one{turn}")
        two = take("equal jobs, two workers", "flow", equal, seconds, f"two{turn}")
        both = take("equal jobs, two bare processes", "side_by_side", equal, seconds, f"both{turn}")
        workers.append((one.seconds - start) / (two.seconds - start))
        processes.append(alone.seconds / both.seconds)
    return {"two_workers": round(median(workers), 2), "two_bare_processes": round(median(processes), 2), "rounds": rounds}


PARTS = {"cost": measure_cost, "hits": measure_hits, "workers": measure_workers}


def measure(parts: Sequence[str], quick: bool) -> tuple[list[Row], dict[str, Any]]:
    rows: list[Row] = []
    figures: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 1)}
    with tempfile.TemporaryDirectory(prefix="shapeline-engine-") as place:
        def take(what: str, way: str, count: int, seconds: float, into: str) -> Row:
            rows.append(run_way(what, way, count, seconds, Path(place) / (into or what.replace(" ", "-"))))
            print(f"{what:38} {count:5} jobs {rows[-1].seconds:8.1f} s {rows[-1].cpu_seconds:8.1f} s CPU", flush=True)
            return rows[-1]

        take("the first start, which makes a database", "flow", 1, 0.0, "")
        for part in parts:
            figures |= PARTS[part](take, quick)
    return rows, {**figures, "load_after": round(os.getloadavg()[0], 1)}


def parse_parts(text: str) -> list[str]:
    """Split a comma-separated list of part names. argparse reports an unknown name."""
    named = text.split(",")
    if unknown := [name for name in named if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part '{unknown[0]}'; {', '.join(PARTS)}")
    return named


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description="What the engine adds to the jobs it runs.")
    parser.add_argument("--parts", type=parse_parts, default=list(PARTS), metavar="NAMES",
                        help=f"what to measure, of {','.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tens of jobs instead of a thousand")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--one", nargs=4, metavar=("WAY", "JOBS", "SECONDS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        way, count, seconds, folder = options.one
        WAYS[way](int(count), float(seconds), Path(folder))
        return 0
    rows, figures = measure(options.parts, options.quick)
    if options.json:
        files.write(options.json, {"rows": [asdict(row) for row in rows], "figures": figures})
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
