"""`shapeline list`: print the jobs that a run would have."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flows.command import printing
from flows.command.arguments import collect_overrides, find_folders, make_plan_parser, parse_new_file
from flows.command.exits import OK
from flows.config.derived import Derived
from flows.config.plan import plan


def main(arguments: Sequence[str]) -> int:
    """Run the command: print a line per job, or the names that can be chosen in a group."""
    parser = make_plan_parser("list", "Print the jobs that a run would have, with the ranges of their symbols.")
    parser.add_argument("--json", action="store_true", help="print the jobs as JSON, as each child process receives them")
    parser.add_argument("--digests", action="store_true", help="add a column with a digest of each job, independent of its name")
    parser.add_argument("--models", action="store_true", help="print the names that model=NAME and suites can use")
    parser.add_argument("--entries", action="store_true", help="print the inputs of each job, with those that follow from its factory")
    parser.add_argument("--write", type=parse_new_file, metavar="FILE",
                        help="write what follows from factories, as in configs/entries.json")
    parser.add_argument("--suites", action="store_true", help="print the names that suite=NAME can use")
    options = parser.parse_intermixed_args(arguments)
    groups = [group for group, asked in (("model", options.models), ("suite", options.suites)) if asked]
    if groups:
        for group in groups:
            print("\n".join(find_folders(options).names(group)))
        return OK
    derived = Derived()
    planned = plan(collect_overrides(options), derived)
    if options.write:
        derived.write(options.write)
    if options.json:
        print(json.dumps(planned.jobs, indent=1, ensure_ascii=False))
    else:
        print(printing.render_entries(planned) if options.entries else printing.render_jobs(planned, options.digests))
    return OK
