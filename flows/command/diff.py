"""`shapeline diff`: compare two runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from flows.command import targets
from flows.command.arguments import add_output, make_parser, parse_new_file
from flows.command.exits import OK, UNEXPECTED
from flows.history import changes, database, publish, shards
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
    parser.add_argument("old", help="a run's folder or id, a folder with the runs of all shards, or `previous` or `baseline` "
                        "relative to NEW")  # fmt: skip
    parser.add_argument("new", nargs="?", default="latest",
                        help="a run's folder or id, or a folder with the runs of all shards (default: the newest run)")  # fmt: skip
    add_output(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--html", type=parse_new_file, metavar="FILE", help="write an HTML page to FILE")
    options = parser.parse_args(arguments)
    new = _find_runs(options.new, options.output)
    found = _compare_runs(_find_old_runs(options.old, options.output, new), new)
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


def _find_runs(name: str, output: Path) -> list[Path]:
    """Return the folder of a run, or those of the shards that the folder `name` has. Raises ConfigError if there is none."""
    is_run = (output / RUNS / name / REPORT).is_file() or (Path(name) / REPORT).is_file()
    return (not is_run and shards.find_shards(Path(name))) or [targets.find_run(name, output)]


def _find_old_runs(name: str, output: Path, news: Sequence[Path]) -> list[Path]:
    if name not in ("previous", "baseline"):
        return _find_runs(name, output)
    if len(news) > 1:
        raise ConfigError(Problem(name, "is relative to one run, and NEW has several", "name the folder of the shards to compare with"))
    (new,) = news
    if name == "previous":
        with database.open_database(new.parent) as known:
            other = database.find_previous(known, new.name)
    else:
        other = publish.read_baselines(new.parent).get(shapes.read_report(new / REPORT)["suite"])
    if not other:
        fix = "name a run" if name == "previous" else "make one with shapeline pin RUN"
        raise ConfigError(Problem(str(new), f"has no {name} run", fix))
    return [targets.find_run(other, output)]


def _compare_runs(olds: Sequence[Path], news: Sequence[Path]) -> Changes:
    past = {}
    if len(news) == 1 and news[0].parent.name == RUNS:
        with database.open_database(news[0].parent) as known:
            past = database.read_earlier(known, news[0].name, changes.EARLIER)
    return changes.compare(shards.read(olds), shards.read(news), past)
