"""`shapeline show JOB [LEVEL]`: print the program of a job at a level as text, decompressed if needed, or as a graph for Model Explorer."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.command import targets
from flows.command.arguments import make_job_parser
from flows.command.exits import OK
from flows.command.printing import render_table
from flows.report import levels
from flows.report.terminal import escape
from lowering import files
from lowering.errors import ConfigError, Problem, StageFailed, suggest
from lowering.ir import mlir, text_files
from lowering.ir.annotations import strip
from lowering.level import Level
from lowering.record.folder import SIGNATURE
from lowering.symbols.schema import SymbolRecord

MLIR = (Level.TORCH, Level.STABLEHLO, Level.MHLO)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Raises ConfigError if the job or the level does not exist."""
    parser = make_job_parser("show", "Print the program of a job at one level; without LEVEL, list the levels.")
    parser.add_argument("level", nargs="?", metavar="LEVEL", help="a stage, with or without its number: mhlo, 03-torch-raw")
    parser.add_argument("--plain", action="store_true", help="omit the comments that name code lines and values")
    parser.add_argument("--format", choices=("text", "model-explorer"), default="text",
                        help="model-explorer: the JSON that Model Explorer opens, of a level in MLIR")
    options = parser.parse_args(arguments)
    folder = targets.find_job(options.job, options.run, options.output)
    found = {path.name.split(".", 1)[0]: path for path in levels.list_files(folder)}
    if not found:
        raise ConfigError(Problem(str(folder), "has no IR: the job reached no level, or the IR of its run was removed", "run it again"))
    if options.level is None:
        rows = [(stem, path.name, f"{levels.measure_text(path):,}", f"{path.stat().st_size:,}") for stem, path in found.items()]
        print("\n".join(render_table(("level", "file", "bytes of text", "bytes on disk"), rows)))
        return OK
    path = _choose_file(options.level, found)
    try:
        text = text_files.read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(str(path), f"cannot be read: {error}")) from error
    if options.format == "model-explorer":
        print(json.dumps(_build_graphs(text, path, folder), indent=1, ensure_ascii=False))
        return OK
    printed = strip(text) if options.plain else text
    sys.stdout.write(escape(printed) if sys.stdout.isatty() else printed)  # names and strings of a model may act on a terminal
    return OK


def _build_graphs(text: str, path: Path, folder: Path) -> dict[str, Any]:
    """Return the graphs of a level in MLIR for Model Explorer. Raises ConfigError if it is in another form, or does not parse."""
    level = next((level for level in Level if level in MLIR and text_files.text_name(path).endswith(level.suffix)), None)
    if level is None:
        fix = f"choose a level of {', '.join(each.word for each in MLIR)}; Model Explorer opens a .pt2 by itself"
        raise ConfigError(Problem(path.name, "is not MLIR, and has no such graph", fix))
    from flows.report import model_explorer  # imported here because it needs the compilers

    try:
        record = SymbolRecord.load(folder)
    except (OSError, ValueError):  # without a record, dims have no names
        record = None
    context = mlir.create_hlo_context() if level is Level.MHLO else mlir.create_torch_context()
    try:
        return model_explorer.build_collection(text, context, f"{folder.name} {level.word}", _read_names(folder),
                                               model_explorer.find_argument_dims(record, level.word))
    except StageFailed as error:
        raise ConfigError(error.problems) from error


def _read_names(folder: Path) -> list[str]:
    """Return the names of the program's arguments from signature.json, or an empty list if the job has none."""
    try:
        return [argument["name"] for argument in files.read(folder / SIGNATURE)["signature"]["arguments"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _choose_file(level: str, found: dict[str, Path]) -> Path:
    """Return the file of a level, named by its stem with or without the number."""
    named = {stem.partition("-")[2]: path for stem, path in found.items()}
    if (path := found.get(level) or named.get(level)) is None:
        raise ConfigError(Problem(level, "is not a level of this job", suggest(level, tuple(named)) or f"levels: {', '.join(named)}"))
    return path
