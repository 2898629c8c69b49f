"""`shapeline explain JOB [SYMBOL]`: trace the dims of a job from the code line to MHLO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flows.command import targets
from flows.command.arguments import make_job_parser
from flows.command.exits import OK
from flows.report.terminal import escape
from lowering import trust
from lowering.errors import ConfigError, Problem
from lowering.record.joining import Joining
from lowering.symbols import SymbolRecord, views
from lowering.symbols.schema import FILE


def main(arguments: Sequence[str]) -> int:
    """Run the command. Raises ConfigError if the job, its symbol log or the symbol does not exist."""
    parser = make_job_parser("explain", "Explain what became of every dim that a job declares as dynamic, or of one symbol or dim.")
    parser.add_argument("symbol", nargs="?", metavar="SYMBOL", help="a symbol (seq, s77, u0) or a dim (input_ids[1])")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--timeline", action="store_true", help="print the events in order")
    form.add_argument("--source", action="store_true", help="print the model's source with the symbols and guards that each line created")
    options = parser.parse_args(arguments)
    if options.symbol and (options.markdown or options.source):
        parser.error("--markdown and --source show the whole job: omit SYMBOL")
    folder = targets.find_job(options.job, options.run, options.output)

    def render(job: Path) -> str:
        return escape(_render(load_symbols(job), options.symbol, options.markdown, options.timeline, options.source))

    joined = Joining.load(folder)
    print(render(folder) if joined is None else _render_entries(folder, joined, render), end="")
    return OK


def _render_entries(folder: Path, joined: Joining, render: Callable[[Path], str]) -> str:
    """Return the text of each entry of a joined program, without those that lack the symbol. Raises ConfigError if all do."""
    found, lacking = [], []
    for entry, job in joined.jobs.items():
        try:
            found.append(f"entry {entry}\n{render(trust.locate_inside(folder.parent, job, str(folder / FILE)))}")
        except ConfigError as error:
            lacking.append(error)
    if not found:
        raise ConfigError([problem for error in lacking for problem in error.problems])
    return "\n".join(found)




def load_symbols(folder: Path) -> SymbolRecord:
    """Return the symbol log of the job in `folder`. Raises ConfigError if it is missing or cannot be read."""
    try:
        return SymbolRecord.load(folder)
    except FileNotFoundError as error:
        cause, fix = "is missing: the job has no result yet", "wait for it, or run the job again"
        raise ConfigError(Problem(str(folder / FILE), cause, fix)) from error
    except (OSError, ValueError, TypeError) as error:
        cause = "is empty: the job ended before its export began" if _is_empty(folder / FILE) else f"contains no symbol log: {error}"
        fix = f"see {folder / 'log.txt'} for how far the job came: the symbol log begins with its export"
        raise ConfigError(Problem(str(folder / FILE), cause, fix)) from error


def _is_empty(file: Path) -> bool:
    """Return whether a file holds the record of a job without a symbol log."""
    try:
        return file.read_bytes().strip() == b"{}"
    except OSError:
        return False


def _render(record: SymbolRecord, symbol: str | None, markdown: bool, timeline: bool, source: bool) -> str:
    try:
        if source:
            return views.annotate_source(record)
        explained = views.format_page(record, markdown) if symbol is None else views.explain(record, symbol)
    except ValueError as error:
        raise ConfigError(Problem("SYMBOL", str(error))) from error
    return views.format_timeline(record, symbol) if timeline else explained
