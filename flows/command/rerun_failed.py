"""`shapeline rerun-failed`: lower again the jobs of a run that did not end as expected."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from flows.command import run, targets
from flows.command.arguments import add_trust, make_run_parser, tell_trusted
from flows.command.exits import OK
from flows.report import report
from flows.runs import record
from lowering.trust import refuse


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit as `shapeline run` of these jobs does, or 0 if there are none."""
    parser = make_run_parser("rerun-failed", "Lower again the jobs of a run that did not end as expected.")
    parser.add_argument("--dry-run", action="store_true", help="print the jobs and stop")
    add_trust(parser)
    options = parser.parse_args(arguments)
    folder = targets.find_run(options.run, options.output)
    begun = record.load(folder)
    failed = [result.id for result in report.find_unexpected(begun.results())]
    if not failed:
        print(f"{folder.name}: every job is as expected")
        return OK
    if not record.is_own(begun):
        shown = [f"shapeline run {shlex.join(begun.data['overrides'])}"]
        if not options.trust:
            raise refuse(str(folder / record.RUN), shown)
        tell_trusted(shown[0])
    exactly = " or ".join(f"={job}" for job in failed)
    overrides = [text for text in begun.data["overrides"] if not text.startswith("select=")]
    return run.main([*overrides, "-k", exactly, *(["--dry-run"] if options.dry_run else [])])
