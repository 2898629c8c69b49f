"""`shapeline coverage`: a table of what the jobs of a run reach, for release notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.command import targets
from flows.command.arguments import add_output, make_parser
from flows.command.exits import OK
from flows.config import yaml_files
from flows.history import database
from flows.output import REPORT, RUNS
from flows.report import coverage
from flows.report.terminal import escape
from flows.runs import shapes
from lowering.errors import ConfigError, Problem


def main(arguments: Sequence[str]) -> int:
    """Run the command. Raises ConfigError if there is no such run or suite."""
    parser = make_parser("coverage", "Print how many jobs of a run reach each level, are verified, and keep dims, by family of models.")
    parser.add_argument("suite", nargs="?", default="latest", metavar="SUITE|RUN",
                        help="a suite, for its newest run, or a run's folder or id (default: the newest run)")
    parser.add_argument("--against", metavar="RUN", help="an earlier run: add what changed since; `previous` is the one before")
    parser.add_argument("--format", choices=coverage.FORMATS, default="markdown", help="markdown, csv (a row per job) or html")
    parser.add_argument("--families", type=Path, metavar="FILE",
                        help="YAML that lists the models of each family (default: the first word of a name)")
    add_output(parser)
    options = parser.parse_args(arguments)
    folder = _find_run(options.suite, options.output)
    families = _read_families(options.families) if options.families else {}
    report = shapes.read_report(folder / REPORT)
    rows, against = coverage.cover(report, families), []
    title = f"Coverage of {report['suite']}, {report['started'][:10]}"
    if options.against:
        other = shapes.read_report(_find_other(options.against, folder, options.output) / REPORT)
        against = coverage.cover(other, families)
        title += f", against {other['started'][:10]}"
    if options.format == "csv":
        print(coverage.render_csv(rows, against), end="")
    elif options.format == "html":
        print(coverage.render_html(title, rows, against), end="")
    else:
        print(escape("\n".join(coverage.render_markdown(title, rows, against))))
    return OK


def _find_run(name: str, output: Path) -> Path:
    """Return the folder of a run, or of the newest run of the suite `name`."""
    try:
        return targets.find_run(name, output)
    except ConfigError:
        if not (output / RUNS).is_dir():
            raise
        with database.open_database(output / RUNS) as known:
            runs = database.read_trend(known, name, 1)
        if not runs:
            raise
        return output / RUNS / runs[0]["run"]


def _find_other(name: str, folder: Path, output: Path) -> Path:
    if name != "previous":
        return targets.find_run(name, output)
    with database.open_database(folder.parent) as known:
        other = database.find_previous(known, folder.name)
    if other is None:
        raise ConfigError(Problem("--against previous", f"{folder.name} is the first run of its suite", "name a run"))
    return folder.parent / other


def _read_families(file: Path) -> Mapping[str, str]:
    """Return the family of each model, from a mapping of families to lists of models."""
    try:
        data: Any = yaml_files.read(file)
    except yaml_files.Unreadable as error:
        raise ConfigError(Problem(str(file), str(error), "name a YAML file")) from error
    if not isinstance(data, Mapping) or not all(isinstance(models, list) for models in data.values()):
        raise ConfigError(Problem(str(file), "is not a mapping of families to lists of models", "write it as `encoders: [bert, vit]`"))
    return {str(model): str(family) for family, models in data.items() for model in models}
