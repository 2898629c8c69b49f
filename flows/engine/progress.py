"""Progress of a run, read from the files its jobs write: a live table on a terminal, one line per finished job elsewhere."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from flows.report import report
from flows.report.dashboard.report_page import HTML
from flows.runs import joined, record
from flows.runs.record import Record
from lowering import files
from lowering.record.folder import EVENTS
from lowering.record.result import START, JobResult
from lowering.store import mirror

COLOURS = {"ok": "green", "not_run": "dim", "infra": "magenta", "unsupported": "yellow"}
LOOK = 0.2  # minimum seconds between two reads of the jobs' files
SHARE = 30  # reading takes at most 1/SHARE of a core's time, for any number of jobs


@dataclass
class _Row:
    """The last known state of a job: waiting (began is None), running, or ended (it has a result)."""

    events: files.Tail
    began: float | None = None
    stage: str = START
    result: JobResult | None = None


@dataclass
class Progress:
    """A context manager that shows a run on `stream`. It only reads files, so it shows jobs on any machine."""

    run: Record
    stream: TextIO
    rows: dict[str, _Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began, self.silent = time.monotonic(), False
        self.rows = {job: _Row(files.Tail(self.run.job_folder(job) / EVENTS)) for job in self.run.ids}
        self.console = Console(file=self.stream, highlight=False)
        self.live = Live(console=self.console, get_renderable=self.table, refresh_per_second=4) if self.console.is_terminal else None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> Self:
        self.line(f"{self.run.data['suite']}: {report.pluralize(len(self.rows), 'job')}, {self.run.workers} at a time, "
                      f"in {_shorten_folder(self.run)}")
        if self.live:
            self.live.start()
        self.thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.ended.set()
        self.thread.join()
        if self.live:
            self.live.refresh()
            self.live.stop()

    def watch(self) -> None:
        pause = LOOK
        while not self.ended.wait(pause):
            began = time.thread_time()
            self.look()
            pause = max(LOOK, SHARE * (time.thread_time() - began))
        self.look()

    def look(self) -> None:
        """Update the rows, and print a line for each job that has ended since."""
        for job, row in self.rows.items():
            if row.result is not None:
                continue
            try:
                for event in row.events.lines():
                    row.began = row.began or event["time"]
                    if event["event"] == "stage":
                        row.stage = event["stage"]
            except ValueError:  # in the middle of a line: another attempt restarted the file and wrote more than was read
                row.events = files.Tail(row.events.path)
            row.result = self.run.result(job)
            if row.result is not None and not self.live:
                count = sum(one.result is not None for one in self.rows.values())
                result = row.result
                end = f"{result.outcome} {result.stage} {result.seconds:.1f} s"
                self.line(f"{count}/{len(self.rows)} {job} {end} {report.describe_cause(result)}".rstrip())

    def line(self, text: str) -> None:
        """Print a line. A stream that is closed or full does not end the run: its record is on disk."""
        if self.silent:
            return
        try:
            self.console.print(text, markup=False, soft_wrap=True)
            self.stream.flush()
        except (OSError, ValueError):
            self.silent = True

    def table(self) -> Table:
        """Return a table of the jobs that fit on the screen, preferring running and failed jobs."""
        done = sum(row.result is not None for row in self.rows.values())
        title = f"{done}/{len(self.rows)} jobs, {time.monotonic() - self.began:.0f} s"
        shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in ("job", "outcome", "stage", "seconds", "peak MiB", ""):
            shown.add_column(name, justify="right" if name in ("seconds", "peak MiB") else "left", no_wrap=True, overflow="ellipsis")
        room = max(4, self.console.height - 5)
        jobs = list(self.rows)
        if len(jobs) > room:
            kept = set(sorted(jobs, key=lambda job: _rank_row(self.rows[job]))[:room])
            jobs = [job for job in jobs if job in kept]
        for job in jobs:
            shown.add_row(job, *_make_cells(self.rows[job]))
        if len(jobs) < len(self.rows):
            shown.add_row(f"… {len(self.rows) - len(jobs)} more")
        return shown

    def conclude(self, results: list[JobResult], lost: int, seconds: float, link: str | None = None, written: bool = True) -> None:
        """Print the last lines: totals, the command that reruns the unexpected jobs, the path of the report, and its page in Prefect.

        written: whether the report could be written.
        """
        self.line(f"{report.summarize(results)}, in {seconds:.0f} s")
        if lost:
            unrecorded = report.pluralize(lost, "task run")
            self.line(f"Prefect's server has not recorded the end of {unrecorded}; the record in the run's folder is complete")
        programs = joined.load_all(self.run)
        for one in report.list_failed(programs):
            self.line(f"{one.id}: its entries were not joined: {one.outcome}: {'; '.join(map(str, one.problems))}")
        if well := [one for one in programs if one.outcome == "ok"]:
            self.line(f"{report.pluralize(len(well), 'program')} of several entries: {', '.join(one.id for one in well)}")
        if failed := report.find_unexpected(results):
            self.line(f"again: {record.make_rerun_command(self.run, [result.id for result in failed])}")
        if url := mirror.find_url(self.run.folder):
            self.line(f"all of it: {url}")
        folder = _shorten_folder(self.run)
        self.line(f"report: {folder}/{HTML}" if written else f"no report could be written; the record is in {folder}")
        if link:
            self.line(f"in Prefect: {link}")


def _make_cells(row: _Row) -> tuple[str, ...]:
    if row.result is not None:
        result, colour = row.result, COLOURS.get(row.result.outcome, "red")
        peak = f"{result.peak_rss_bytes >> 20}" if result.peak_rss_bytes else ""
        return f"[{colour}]{result.outcome}[/]", result.stage, f"{result.seconds:.1f}", peak, escape(report.describe_cause(result, 60))
    if row.began is None:
        return "[dim]waits[/]", "", "", "", ""
    return "[cyan]runs[/]", row.stage, f"{max(0.0, time.time() - row.began):.0f}", "", ""


def _rank_row(row: _Row) -> int:
    if row.result is None:
        return 0 if row.began is not None else 2
    return 1 if not row.result.as_expected else 3


def _shorten_folder(run: Record) -> str:
    """Return the run's folder, relative to the working directory if inside."""
    try:
        return str(run.folder.relative_to(Path.cwd()))
    except ValueError:
        return str(run.folder)
