"""`shapeline run`: lower the jobs of a suite and write a report."""

from __future__ import annotations

from collections.abc import Sequence

from flows.command import printing
from flows.command.arguments import collect_overrides, make_plan_parser
from flows.command.exits import OK, UNEXPECTED
from flows.config.plan import plan


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if a job did not end as expected."""
    parser = make_plan_parser("run", "Lower the jobs of a suite. A model that fails is one row of the report; the others continue.")
    parser.add_argument("--dry-run", action="store_true", help="print the jobs and stop")
    parser.add_argument("--no-cache", action="store_true", help="neither read results from the store nor write them")
    options = parser.parse_intermixed_args(arguments)
    planned = plan(collect_overrides(options) + (["cache=false"] if options.no_cache else []))
    if options.dry_run:
        print(printing.render_jobs(planned))
        return OK
    from flows import execution  # imported here so that a dry run starts without the report
    from flows.report import report

    return OK if report.is_as_expected(execution.lower_suite(planned)) else UNEXPECTED
