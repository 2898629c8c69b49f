"""`shapeline show JOB [LEVEL]`: print the program of a job at a level as text, decompressed if needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flows.command import targets
from flows.command.arguments import make_job_parser
from flows.command.exits import OK
from flows.command.printing import render_table
from flows.report import levels
from lowering.errors import ConfigError, Problem, suggest
from lowering.ir import text_files
from lowering.ir.annotations import strip


def main(arguments: Sequence[str]) -> int:
    """Run the command. Raises ConfigError if the job or the level does not exist."""
    parser = make_job_parser("show", "Print the program of a job at one level; without LEVEL, list the levels.")
    parser.add_argument("level", nargs="?", metavar="LEVEL", help="a stage, with or without its number: mhlo, 03-torch-raw")
    parser.add_argument("--plain", action="store_true", help="omit the comments that name code lines and values")
    options = parser.parse_args(arguments)
    folder = targets.find_job(options.job, options.run, options.output)
    found = {path.name.split(".", 1)[0]: path for path in levels.list_files(folder)}
    if not found:
        raise ConfigError(Problem(str(folder), "has no IR: the job reached no level, or the IR of its run was removed", "run it again"))
    if options.level is None:
        rows = [(stem, path.name, f"{levels.size(path):,}", f"{path.stat().st_size:,}") for stem, path in found.items()]
        print("\n".join(render_table(("level", "file", "bytes of text", "bytes on disk"), rows)))
        return OK
    path = _choose_file(options.level, found)
    try:
        text = text_files.read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(str(path), f"cannot be read: {error}")) from error
    sys.stdout.write(strip(text) if options.plain else text)
    return OK


def _choose_file(level: str, found: dict[str, Path]) -> Path:
    """Return the file of a level, named by its stem with or without the number."""
    named = {stem.partition("-")[2]: path for stem, path in found.items()}
    if (path := found.get(level) or named.get(level)) is None:
        raise ConfigError(Problem(level, "is not a level of this job", suggest(level, tuple(named)) or f"levels: {', '.join(named)}"))
    return path
