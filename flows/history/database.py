"""An embedded database of the runs of a folder. It is an index of their report.json files, and is rebuilt if lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.output import REPORT
from flows.report.exports import count_dims
from flows.runs import shapes
from lowering.errors import ConfigError
from lowering.record.result import UNJUDGED

DATABASE = "history.db"
VERSION = 3
TABLES = """
create table runs (run text primary key, stamp integer, suite text, started text, seconds real, jobs integer, unexpected integer,
                   stage_seconds real, cached integer,
                   peak integer, ir_bytes integer, commit_id text, outcomes text);
create table jobs (run text, job text, model text, outcome text, good integer, stage text, seconds real, peak integer, ir_bytes integer,
                   signature text, cached integer, costs text, cost_seconds real, cost_peak integer, level text, dims_kept integer,
                   dims integer, error real, digest text, primary key (run, job));
create index by_signature on jobs (signature) where signature != '';
"""


@dataclass(frozen=True)
class Past:
    """The result of a job in an earlier run."""

    run: str
    outcome: str
    as_expected: bool
    seconds: float
    peak: int | None
    cached: bool


@contextmanager
def open_database(runs: Path) -> Iterator[sqlite3.Connection]:
    """Open the database of the folder `runs`, updated to the runs in it. Raises OSError, and sqlite3.Error if the disk refuses."""
    try:
        connection = _connect(runs)
    except sqlite3.DatabaseError:
        (runs / DATABASE).unlink(missing_ok=True)
        connection = _connect(runs)
    with closing(connection):
        yield connection


def read_trend(connection: sqlite3.Connection, suite: str | None = None, limit: int = 60, until: str = "9999") -> list[dict[str, Any]]:
    """Return runs, newest first, of all suites or of `suite`. until: leave out runs that started later than this time.

    stage_seconds, peak: what the stages cost when they last ran; cached: the number of jobs with stages taken from the store.
    """
    found = connection.execute(
        "select run, suite, started, seconds, jobs, unexpected, stage_seconds, cached, peak, ir_bytes, commit_id, outcomes from runs "
        "where (? is null or suite = ?) and started <= ? order by started desc, run desc limit ?",
        (suite, suite, until, limit),
    )
    names = ("run", "suite", "started", "seconds", "jobs", "unexpected", "stage_seconds", "cached", "peak", "ir_bytes", "commit",
             "outcomes")  # fmt: skip
    return [{**dict(zip(names, row, strict=True)), "outcomes": json.loads(row[-1])} for row in found]


def find_first_seen(connection: sqlite3.Connection, suite: str) -> dict[str, dict[str, str]]:
    """Return the first run of the suite that had each failure, by the failure's signature."""
    found = connection.execute(
        "select jobs.signature, runs.run, min(runs.started) from jobs join runs using (run) "
        "where runs.suite = ? and jobs.signature != '' group by jobs.signature",
        (suite,),
    )
    return {signature: {"run": run, "started": started} for signature, run, started in found}


def find_previous(connection: sqlite3.Connection, run: str) -> str | None:
    """Return the run of the same suite before this one; None if it is the first."""
    found = connection.execute(
        "select other.run from runs as other, runs as this where this.run = ? and other.suite = this.suite "
        "and (other.started, other.run) < (this.started, this.run) order by other.started desc, other.run desc limit 1",
        (run,),
    )
    row = found.fetchone()
    return str(row[0]) if row else None


def read_earlier(connection: sqlite3.Connection, run: str, count: int) -> dict[str, list[Past]]:
    """Return the results of each job in the last `count` runs of the suite before this one, oldest first."""
    found = connection.execute(
        """
        select jobs.job, jobs.run, jobs.outcome, jobs.good, jobs.seconds, jobs.peak, jobs.cached from jobs join
          (select other.run, other.started from runs as other, runs as this where this.run = ? and other.suite = this.suite
           and (other.started, other.run) < (this.started, this.run) order by other.started desc, other.run desc limit ?)
          as past using (run)
        order by past.started, past.run""",
        (run, count),
    )
    jobs: dict[str, list[Past]] = {}
    for job, other, outcome, as_expected, seconds, peak, cached in found:
        jobs.setdefault(job, []).append(Past(other, outcome, bool(as_expected), seconds, peak, bool(cached)))
    return jobs


def _connect(runs: Path) -> sqlite3.Connection:
    if (runs / DATABASE).is_symlink():  # SQLite would write to what it points to
        (runs / DATABASE).unlink()
    connection = sqlite3.connect(runs / DATABASE, timeout=60)
    try:
        with connection:
            connection.execute("begin immediate")
            if connection.execute("pragma user_version").fetchone()[0] != VERSION:
                for (name,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
                    connection.execute(f"drop table {name}")
                for statement in TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {VERSION}")
            _synchronize(connection, runs)
    except BaseException:
        connection.close()
        raise
    return connection


def _synchronize(connection: sqlite3.Connection, runs: Path) -> None:
    """Read new and rewritten reports, and forget the runs whose folders are gone."""
    known = dict(connection.execute("select run, stamp from runs").fetchall())
    there = {path.parent.name: path for path in runs.glob(f"*/{REPORT}") if not path.parent.is_symlink()}
    for run in known.keys() - there.keys():
        _forget(connection, run)
    for run, path in sorted(there.items()):  # by time, as what a stage cost is known from earlier runs
        stamp = path.lstat().st_mtime_ns
        if known.get(run) == stamp:
            continue
        _forget(connection, run)
        try:
            data = shapes.read_report(path)
            costs = _read_costs(connection, data["suite"], data["started"])
            rows = [_make_row(run, job, costs.get(job["id"], {})) for job in data["jobs"]]
        except ConfigError:
            continue  # damaged, or not a report of this version: skip it
        _remember(connection, run, stamp, data, rows)


def _read_costs(connection: sqlite3.Connection, suite: str, started: str) -> dict[str, dict[str, list[Any]]]:
    """Return what each stage of each job cost when it last ran in the suite before `started`: by job and stage, [seconds, peak bytes]."""
    found = connection.execute(
        "select jobs.job, jobs.costs, max(runs.started) from jobs join runs using (run) "
        "where runs.suite = ? and runs.started < ? and jobs.costs != '{}' group by jobs.job",
        (suite, started),
    )
    return {job: json.loads(costs) for job, costs, _ in found}


def _remember(connection: sqlite3.Connection, run: str, stamp: int, data: Mapping[str, Any], rows: list[tuple[Any, ...]]) -> None:
    wrong = sum(not _is_as_expected(job) and job["outcome"] not in UNJUDGED for job in data["jobs"])
    commit = ((data.get("environment") or {}).get("git") or {}).get("commit")
    connection.execute(
        f"insert into runs values ({_mark(13)})",
        (
            run,
            stamp,
            data["suite"],
            data["started"],
            data["seconds"],
            len(rows),
            wrong,
            sum(row[12] or 0 for row in rows),
            sum(row[10] for row in rows),
            max((row[13] for row in rows if row[13]), default=None),
            sum(row[8] for row in rows),
            commit,
            json.dumps(data["outcomes"]),
        ),
    )
    connection.executemany(f"insert into jobs values ({_mark(19)})", rows)


def _mark(count: int) -> str:
    return ", ".join("?" * count)


def _make_row(run: str, job: Mapping[str, Any], earlier: Mapping[str, list[Any]]) -> tuple[Any, ...]:
    """Return the row of a job. earlier: what its stages cost before, which counts for those that were taken from the store."""
    levels = job.get("levels", ())
    cached = any(stage["cache"] == "hit" for stage in job["stages"])
    costs = {stage["name"]: [stage["seconds"], stage["peak_rss_bytes"]] if stage["cache"] != "hit" else earlier.get(stage["name"])
             for stage in job["stages"]}  # fmt: skip
    known = {name: cost for name, cost in costs.items() if cost}
    kept, dims = count_dims(job) or (0, 0)
    error = (job.get("verify") or {}).get("max_rel")
    return (
        run,
        job["id"],
        job["model"],
        job["outcome"],
        _is_as_expected(job),
        job["stage"],
        job["seconds"],
        job["peak_rss_bytes"],
        sum(level["size"] for level in levels),
        job.get("signature", ""),
        cached,
        json.dumps({**earlier, **known}),  # those of later stages, for when the job gets there again
        sum(cost[0] for cost in known.values()) if known else None,
        max((cost[1] for cost in known.values() if cost[1]), default=None),
        levels[-1]["stem"].split("-", 1)[-1] if levels else "",
        kept,
        dims,
        error if isinstance(error, int | float) else None,
        levels[-1]["digest"] if levels else "",
    )


def _is_as_expected(job: Mapping[str, Any]) -> bool:
    return bool(job.get("as_expected", job["outcome"] == job["expected"]))


def _forget(connection: sqlite3.Connection, run: str) -> None:
    connection.execute("delete from runs where run = ?", (run,))
    connection.execute("delete from jobs where run = ?", (run,))
