"""`shapeline bisect`: find the version that first changed how a job ends."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.command import targets
from flows.command.arguments import NEWEST, add_output, make_parser, parse_number
from flows.command.exits import OK, UNEXPECTED
from flows.history import bisection, versions
from flows.history.bisection import Bisection, Judge
from flows.output import REPORT
from flows.report.terminal import escape
from flows.runs import record, shapes
from lowering.errors import ConfigError, Problem
from lowering.trust import refuse

FOLDER = "bisect"  # below the output: its runs, its store, and the files of the searches


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 0 if one version is the first bad one, 1 if skipped versions leave several."""
    parser = make_parser("bisect", "Run a job again at versions between a good and a bad one, and find the first bad one. "
                                   "The same command resumes an interrupted search.")  # fmt: skip
    parser.add_argument("job", metavar="JOB", help="a job's id, or a unique part of it")
    parser.add_argument("--good", required=True, metavar="RUN|VERSION", help="a run, commit or version where the job ended well")
    parser.add_argument("--bad", required=True, metavar="RUN|VERSION", help="a run, commit or version where it did not")
    parser.add_argument("--axis", default="commit", metavar="AXIS",
                        help="commit (of Shapeline), model (commits of its repository), or a package: torch-mlir, jaxlib, transformers")
    parser.add_argument("--by", choices=("outcome", "dims", "numerics", "seconds"), default="outcome",
                        help="what is judged (default: outcome)")
    parser.add_argument("--limit", type=parse_number(float, 0, sys.float_info.max), metavar="X",
                        help="the limit above which a version is bad: a relative error for numerics, the time of all stages for seconds")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="of --axis model: the model's repository (default: of this folder)")
    parser.add_argument("--run", default="latest", help=f"the run whose configuration is used: {NEWEST}")
    add_output(parser)
    options = parser.parse_args(arguments)
    if options.by == "seconds" and options.limit is None:
        parser.error("--by seconds needs --limit")
    if options.limit is not None and options.by not in ("numerics", "seconds"):
        parser.error(f"--limit is of --by numerics and seconds, not of {options.by}")
    if options.repository is not None and options.axis != "model":
        parser.error(f"--repository is of --axis model, not of {options.axis}")
    output: Path = options.output.absolute()
    ends = [_read_end(name, options.axis, output) for name in (options.good, options.bad)]
    folder = next((found for _, _, found in reversed(ends) if found), None) or targets.find_run(options.run, output)
    begun = record.load(folder)
    job = targets.match_job(options.job, begun)
    overrides = tuple(begun.data["overrides"])
    if not record.is_own(begun):
        raise refuse(str(folder / record.RUN), [f"shapeline run {' '.join(overrides)}"])
    axis = _make_axis(options.axis, overrides, options.repository)
    for version, report, _ in ends:
        if report is None:
            axis.check(version)
    listed = axis.list_versions(ends[0][0], ends[1][0])
    if len(listed) < 2:
        raise ConfigError(Problem("--good and --bad", "are the same version", "name two"))
    judge = Judge(options.by, options.limit)
    good, bad = (_find_row(report, job) for _, report, _ in ends)
    place = output / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{bisection.make_id(job, options.axis, listed, judge, overrides)}.json"
    print(f"{job}: {len(listed) - 2} versions between {listed[0][:40]} and {listed[-1][:40]}", flush=True)
    ended = bisection.search(Bisection(job, tuple(listed), judge), file, lambda version: versions.run_job(axis, version, job, place),
                             good, bad, lambda text: print(escape(text), flush=True))  # fmt: skip
    return _conclude(ended, axis)


def _conclude(ended: Bisection, axis: versions.Axis) -> int:
    suspects = ended.suspects
    if len(suspects) > 1:
        print(f"the first bad version is one of {len(suspects)}, as the others between could not be judged:")
        print("\n".join(f"  {version}" for version in suspects))
        return UNEXPECTED
    before = ended.versions[ended.versions.index(suspects[0]) - 1]
    print(f"first bad version: {suspects[0]}\n")
    print(escape(axis.describe(suspects[0], before)))
    return OK


def _read_end(name: str, axis: str, output: Path) -> tuple[str, Mapping[str, Any] | None, Path | None]:
    """Return the version that `name` stands for, and the report and folder if it is a run."""
    try:
        folder = targets.find_run(name, output)
    except ConfigError:
        return name, None, None
    report = shapes.read_report(folder / REPORT)
    return versions.read_version(report, axis), report, folder


def _find_row(report: Mapping[str, Any] | None, job: str) -> Mapping[str, Any] | None:
    return next((row for row in report["jobs"] if row["id"] == job), None) if report else None


def _make_axis(name: str, overrides: tuple[str, ...], repository: Path | None) -> versions.Axis:
    if name == "commit":
        return versions.Commits(versions.find_repository(Path(__file__).parent), overrides, own=True)
    if name == "model":
        return versions.Commits(versions.find_repository(repository or Path.cwd()), overrides, own=False)
    return versions.Releases(name, overrides)
