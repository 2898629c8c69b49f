"""`shapeline report`: print the report of a run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.command import targets
from flows.command.arguments import make_run_parser
from flows.command.exits import OK, UNEXPECTED
from flows.history import publish
from flows.output import REPORT
from flows.report import report
from flows.report.terminal import escape
from flows.runs import record, shapes
from lowering.errors import ConfigError


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if a job of the run did not end as expected."""
    parser = make_run_parser("report", "Print the report of a run again, and rewrite its files.")
    parser.add_argument("--json", action="store_true", help="print report.json")
    options = parser.parse_args(arguments)
    folder = targets.find_run(options.run, options.output)
    markdown = publish.write(record.load(folder), _read_seconds(folder / REPORT))
    text = (folder / REPORT if options.json else markdown).read_text(encoding="utf-8")
    print(text if options.json else escape(text), end="")
    return OK if report.is_as_expected(folder) else UNEXPECTED


def _read_seconds(file: Path) -> float | None:
    """Return the wall time of a run from its report; None if it is damaged, because it is written again."""
    try:
        return shapes.read_report(file).get("seconds")
    except ConfigError:
        return None
