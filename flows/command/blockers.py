"""`shapeline blockers`: list what the failed jobs of a run need, in the order in which fixes unlock the most jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flows.command import targets
from flows.command.arguments import make_run_parser
from flows.command.exits import OK
from flows.report import blockers
from flows.runs import record
from lowering.markdown import pluralize, table


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = make_run_parser("blockers", "List the missing ops and constructs that block the failed jobs of a run, best fix first.")
    parser.add_argument("--json", action="store_true", help="print JSON, with the ids of the jobs")
    options = parser.parse_args(arguments)
    run = record.load(targets.find_run(options.run, options.output))
    found = blockers.find_blockers(run.results())
    if options.json:
        print(json.dumps([blocker.to_json() for blocker in found], indent=1, ensure_ascii=False))
    else:
        jobs = {job for blocker in found for job in blocker.blocks}
        print(f"{run.data['run']}: {pluralize(len(found), 'blocker')}, {pluralize(len(jobs), 'job')} blocked")
        print("\n".join(table(blockers.make_rows(found))))
    return OK
