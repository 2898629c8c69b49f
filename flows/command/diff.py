"""`shapeline diff`: compare two runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from flows.command import targets
from flows.command.arguments import NEWEST, add_output, make_parser
from flows.command.exits import OK, UNEXPECTED
from flows.history import changes, database, publish
from flows.history.changes import Changes
from flows.output import REPORT, RUNS
from flows.report.dashboard import page
from flows.report.terminal import escape
from flows.runs import shapes
from lowering import files
from lowering.errors import ConfigError, Problem


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if something regressed."""
    parser = make_parser("diff", "Compare two runs; exit 1 if something regressed.")
    parser.add_argument("old", help="a run's folder or id, or `previous` or `baseline` relative to NEW")
    parser.add_argument("new", nargs="?", default="latest", help=NEWEST)
    add_output(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--html", type=Path, metavar="FILE", help="write an HTML page to FILE")
    options = parser.parse_args(arguments)
    new = targets.find_run(options.new, options.output)
    with_others = new.parent if new.parent.name == RUNS else None
    found = _compare_runs(_find_old_run(options.old, options.output, new), new, with_others)
    if options.json:
        print(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    elif options.markdown:
        print(escape("\n".join(changes.render_markdown(found))))
    else:
        print(escape("\n".join(changes.text(found))))
    if options.html:
        title = f"{found.old['run']} → {found.new['run']}"
        payload = {"kind": "diff", "title": title, "suite": found.new["suite"], "comparison": found.to_json()}
        files.write_bytes(options.html, files.encode(page.render(title, payload)))
        print(f"page: {options.html}")
    return UNEXPECTED if found.regression else OK


def _find_old_run(name: str, output: Path, new: Path) -> Path:
    if name not in ("previous", "baseline"):
        return targets.find_run(name, output)
    if name == "previous":
        with database.open_database(new.parent) as known:
            other = database.find_previous(known, new.name)
    else:
        other = publish.read_baselines(new.parent).get(shapes.read_report(new / REPORT)["suite"])
    if not other:
        fix = "name a run" if name == "previous" else "make one with shapeline pin RUN"
        raise ConfigError(Problem(str(new), f"has no {name} run", fix))
    return targets.find_run(other, output)


def _compare_runs(old: Path, new: Path, runs: Path | None) -> Changes:
    past = {}
    if runs is not None:
        with database.open_database(runs) as known:
            past = database.read_earlier(known, new.name, changes.EARLIER)
    return changes.compare(shapes.read_report(old / REPORT), shapes.read_report(new / REPORT), past)
