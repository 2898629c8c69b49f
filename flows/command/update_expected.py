"""`shapeline update-expected`: update a suite's expectations to the outcomes of a run, where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.command import targets
from flows.command.arguments import make_run_parser
from flows.command.exits import OK
from flows.config import compose, expectation_edit, expectations
from flows.report import clusters
from flows.runs import record
from flows.runs.record import Record
from lowering import files
from lowering.errors import ConfigError, Problem, Untrusted
from lowering.record.result import UNJUDGED, UNSPECIFIED, Expectation, JobResult
from lowering.trust import TRUST


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 0 if the file agrees with the run afterwards."""
    said = "Update the expectations of a suite to the outcomes of a run. Only entries that differ are written, sorted; comments are kept."
    parser = make_run_parser("update-expected", said)
    parser.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")
    parser.add_argument(TRUST, action="store_true", help="also write the file that a run of somebody else names; it is printed")
    options = parser.parse_args(arguments)
    run = record.load(targets.find_run(options.run, options.output))
    file = _find_file(run)
    if not record.is_own(run) and not options.trust:
        raise Untrusted(Problem(f"{run.folder / record.RUN} expectations", f"names {file}, but this run was not made by this user on this "
                                "machine", f"if that is the file to update, use {TRUST}"))
    changes, unjudged = find_differences(run)
    for name, (before, after) in changes.items():
        print(f"{name}: {before or 'no entry'} -> {after or 'no entry'}")
    if unjudged:
        print(f"unchanged, because the run has no verdict on them: {', '.join(unjudged)}")
    if changes and not options.dry_run:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        file.parent.mkdir(parents=True, exist_ok=True)
        edited = expectation_edit.edit(text, {name: after for name, (_, after) in changes.items()})
        files.write_bytes(file, files.encode(edited))
    done = "would change" if options.dry_run else "changed"
    print(f"{compose.label_file(file)}: {len(changes)} {'entry' if len(changes) == 1 else 'entries'} {done}" if changes
          else f"{compose.label_file(file)}: already agrees with the outcomes of {run.folder.name}")
    return OK


def find_differences(run: Record) -> tuple[dict[str, tuple[Expectation | None, Expectation | None]], list[str]]:
    """Return the changes that the expectations need, and the jobs on which the run has no verdict.

    The changes map each name to its entry before and after (None: no entry), sorted by name. A run of the whole suite also removes the
    entries of jobs that the suite no longer has.
    """
    file = _find_file(run)
    found = expectations.read(file) if file.exists() else expectations.Expectations()
    results = {result.id: result for result in run.results()}
    held = expectations.match_jobs(found, results)
    changes: dict[str, tuple[Expectation | None, Expectation | None]] = {}
    for name, result in results.items():
        before = held[name]
        same = before.outcome == result.outcome and (result.outcome == "ok" or before.stage in ("", result.stage))
        if result.outcome in UNJUDGED or same:
            continue
        changes[name] = (None if before.outcome == UNSPECIFIED else before, _make_expectation(result))
    if run.data.get("whole"):
        own = expectations.match_jobs(found, found.expect)
        models = {result.model for result in results.values()}
        changes |= {name: (own[name], None) for name in found.expect if name not in results and name not in models}
    return dict(sorted(changes.items())), sorted(name for name, result in results.items() if result.outcome in UNJUDGED)


def _make_expectation(result: JobResult) -> Expectation:
    if result.outcome == "ok":
        return Expectation()
    cause = result.problems[0].cause.strip().split("\n", 1)[0] if result.problems else ""
    return Expectation(result.outcome, result.stage, clusters.generalize(cause))


def _find_file(run: Record) -> Path:
    data: Mapping[str, object] = run.data
    if not data.get("expectations"):
        fix = "name a run of a suite's file, without sweeps on the command line: only those have expectations"
        raise ConfigError(Problem(str(run.folder), "its jobs do not come from a suite's file", fix))
    return Path(str(data["expectations"]))
