"""Measure the report of a large run: the cost of writing it, its size, and the time a browser needs to paint, draw and filter it.

    python -m benchmarks.report [--jobs 2000] [--quick] [--json FILE]

The run is generated (benchmarks.nights): families of sweeps that contain every outcome. A headless Chromium opens the page from disk.
Without a browser its figures are missing, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.nights import ALL_STAGES as STAGES
from benchmarks.nights import InventedJob, begin, leave
from flows.history import publish
from flows.report.dashboard import views
from lowering import files
from lowering.record.result import OUTCOMES, JobResult

ROUNDS = 3
WORDS = ("fam3", "batch", "error", "no lowering", "zzz", "")
FILTER = """async (word) => {
  const box = document.getElementById('search');
  box.value = word;
  const began = performance.now();
  box.dispatchEvent(new Event('input', { bubbles: true }));
  document.body.getBoundingClientRect();  // layout is part of it
  return performance.now() - began;
}"""
PAINT = """() => new Promise((resolve) => new PerformanceObserver((list) => resolve(list.getEntries()[0].startTime))
  .observe({ type: 'paint', buffered: true }))"""


def jobs(count: int) -> list[InventedJob]:
    """Build families of 100 jobs over sizes and kinds. Every seventh job fails, in all possible ways."""
    found = []
    for number in range(count):
        job = InventedJob(f"fam{number // 100}", f"batch{number % 100}-{'lazy' if number % 2 else 'core'}", seconds=1 + number % 37,
                           batch=8 + number % 100,
                    peak=(400 + 7 * (number % 90)) << 20, layers=30, kwargs={"kind": number % 2}, stages=STAGES,
                           stage=STAGES[-1])  # fmt: skip
        if number % 7 == 0:
            outcome = OUTCOMES[1 + number // 7 % (len(OUTCOMES) - 2)]
            stage = "start" if outcome == "infra" else STAGES[number // 7 % len(STAGES)]
            job = replace(job, outcome=outcome, stage=stage, problem=f"no lowering of aten.op_{number % 40} in layer{number % 12}")
        found.append(job)
    return found


def measure_writing(output: Path, count: int) -> tuple[Path, dict[str, float]]:
    """Write the report of a run of `count` jobs and return its cost."""
    invented = jobs(count)
    run = begin(output, invented, "zoo")
    for job in invented:
        leave(job, run.job_folder(f"{job.model}--{job.variant}"))
    began = time.perf_counter()
    for job in run.ids:  # in a real run, by the tasks, while the others still lower
        folder = run.job_folder(job)
        result = JobResult.load(folder)
        assert result is not None
        views.write(folder, result)
    packed = time.perf_counter() - began
    began, worked = time.perf_counter(), time.process_time()
    publish.write(run, 3600.0)
    return run.folder, {"views_s": packed, "report_s": time.perf_counter() - began, "report_cpu_s": time.process_time() - worked,
                        "html_bytes": files.measure_size(run.folder / "report.html"), "view_bytes": _median_view(run.folder)}  # fmt: skip


def measure_browser(page_file: Path) -> dict[str, float]:
    """Return the medians of a browser's times in ms, or an empty mapping without a browser."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if chromium is None:
        return {}
    rounds: list[dict[str, float]] = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(ROUNDS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(60_000)
            rounds.append(_round(page, page_file))
            page.close()
        browser.close()
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def _round(page: Any, page_file: Path) -> dict[str, float]:
    began = time.perf_counter()
    page.goto(f"file://{page_file}")
    page.wait_for_selector("#matrix tbody tr")
    drawn = 1000 * (time.perf_counter() - began)
    paint = page.evaluate(PAINT)
    latencies = [page.evaluate(FILTER, word) for word in WORDS]
    everything = page.evaluate(
        "() => { const began = performance.now(); moreRows(Infinity); document.body.getBoundingClientRect(); return performance.now() - "
        "began; }"
    )
    nodes = page.evaluate("document.querySelectorAll('*').length")
    began = time.perf_counter()
    page.evaluate("location.hash = '#/job/' + encodeURIComponent(PAYLOAD.jobs.at(-1).id)")
    page.wait_for_selector(".pane .line")
    return {"first_paint_ms": paint, "drawn_ms": drawn, "filter_ms": statistics.median(latencies), "filter_worst_ms": max(latencies),
            "all_rows_ms": everything, "nodes": nodes, "job_ms": 1000 * (time.perf_counter() - began)}  # fmt: skip


def _median_view(folder: Path) -> float:
    return statistics.median(files.measure_size(path) for path in folder.glob(f"jobs/*/{views.VIEW}"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="What the report of a large run costs.")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="200 jobs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    count = 200 if options.quick else options.jobs
    with tempfile.TemporaryDirectory() as scratch:
        folder, figures = measure_writing(Path(scratch), count)
        found = {**figures, **measure_browser(folder / "report.html")}
    rows = [
        ("views packed, in the tasks", f"{found['views_s']:.1f} s, {1000 * found['views_s'] / count:.1f} ms a job"),
        ("report, comparison, history, index", f"{found['report_s']:.1f} s, {found['report_cpu_s']:.1f} s of CPU"),
        ("report.html", f"{found['html_bytes'] / (1 << 20):.2f} MiB"),
        ("view of a job (median)", f"{found['view_bytes'] / 1024:.0f} KiB"),
    ]
    rows += [
        ("first paint", f"{found['first_paint_ms']:.0f} ms"),
        ("opened from disk until the matrix stands", f"{found['drawn_ms']:.0f} ms"),
        ("filter, median and worst", f"{found['filter_ms']:.1f} ms, {found['filter_worst_ms']:.1f} ms"),
        ("all rows at once (printing)", f"{found['all_rows_ms']:.0f} ms, {found['nodes']:,.0f} elements"),
        ("a job's page with two levels", f"{found['job_ms']:.0f} ms"),
    ] if "drawn_ms" in found else [("browser", "none found: its figures are left out")]  # fmt: skip
    print(f"Report of {count:,} jobs x {len(STAGES)} stages on {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    for name, value in rows:
        print(f"  {name:<42} {value}")
    if options.json:
        files.write(options.json, {"jobs": count, **found})
    print(json.dumps({"jobs": count, **{name: round(value, 2) for name, value in found.items()}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
