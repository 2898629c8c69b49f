"""`shapeline prune`: remove old runs."""

from __future__ import annotations

from collections.abc import Sequence

from flows.command.arguments import add_output, make_parser, parse_number, parse_size
from flows.command.exits import OK
from flows.command.printing import format_size
from flows.history import database, publish, retention
from flows.output import RUNS

COUNT = parse_number(int, 0, 1_000_000)


def main(arguments: Sequence[str]) -> int:
    """Run the command: remove the runs that no limit keeps."""
    parser = make_parser("prune", "Remove old runs. The newest run of each suite and pinned runs are always kept.")
    parser.add_argument("--ir-runs", type=COUNT, metavar="N",
                        help="keep the IR of N runs of each suite, and of all runs that were not green")
    parser.add_argument("--runs", type=COUNT, metavar="N", help="keep N runs of each suite")
    parser.add_argument("--days", type=parse_number(float, 0, 36500), metavar="D", help="keep runs of the last D days")
    parser.add_argument("--bytes", type=parse_size, metavar="SIZE",
                        help="keep at most SIZE in total: 500M, 20G; the IR of old green runs is removed first")
    parser.add_argument("--dry-run", action="store_true", help="print what would be removed, and remove nothing")
    add_output(parser)
    options = parser.parse_args(arguments)
    keep = retention.Keep(options.ir_runs, options.runs, options.days, options.bytes)
    if keep == retention.Keep():
        parser.error("give a limit: --ir-runs, --runs, --days or --bytes")
    runs = options.output / RUNS
    removals = retention.plan(runs, keep, publish.read_baselines(runs).values())
    for removal in removals:
        print(f"{removal.folder.name}: {'the run' if removal.whole else 'its IR'}, {format_size(removal.size)} ({removal.why})")
    if not options.dry_run:
        retention.apply(removals)
        if runs.is_dir():
            with database.open_database(runs) as known:
                publish.write_index(runs, known)
    print(f"{'would free' if options.dry_run else 'freed'} {format_size(sum(removal.size for removal in removals))}")
    return OK
