"""`shapeline tracker`: open, update, close and reopen the tickets of the causes of a run's failures."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flows.command import targets
from flows.command.arguments import NEWEST, add_output, make_parser
from flows.command.exits import OK, UNEXPECTED
from flows.config import plan
from flows.config.document import Nightly
from flows.history import tracker, trackers
from flows.report.terminal import escape
from lowering.errors import ConfigError, Problem
from lowering.plain import from_plain


def main(arguments: Sequence[str]) -> int:
    """Run the command as a night does; exit 1 if the tracker refused an action. Raises ConfigError if no tracker is configured."""
    parser = make_parser("tracker", "Open, update, close and reopen a ticket per cause of the failures of a run: the newest of its suite.")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE",
                        help="settings: nightly.tracker.kind=github nightly.tracker.repository=owner/name")
    parser.add_argument("--run", default="latest", help=NEWEST)
    add_output(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the actions, and do nothing")
    options = parser.parse_args(arguments)
    settings = from_plain(Nightly, plan.plan(options.overrides).config.get("nightly") or {}).tracker
    if settings.kind is None and not options.dry_run:
        fix = "add nightly.tracker.kind=github and nightly.tracker.repository=owner/name, or --dry-run"
        raise ConfigError(Problem("nightly.tracker", "no tracker is configured", fix))
    built = None if options.dry_run or settings.dry_run else trackers.build(settings)
    folder = targets.find_run(options.run, options.output)
    failed = tracker.follow(folder, built, lambda text: print(escape(text), flush=True))
    for problem in failed:
        print(f"shapeline: {escape(problem)}", file=sys.stderr)
    return UNEXPECTED if failed else OK
