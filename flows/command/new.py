"""`shapeline new`: write the file of a model whose inputs and dims come from its class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.command.arguments import make_parser
from flows.command.exits import OK, UNEXPECTED
from flows.config import yaml_files
from flows.config.plan import plan
from lowering.errors import ConfigError, LoadError, Problem
from lowering.trust import TRUST


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if the file has values to fill in. Raises ConfigError if the file exists or the class cannot be loaded."""
    parser = make_parser("new", "Write NAME.yaml, the file of a model, and validate it.")
    parser.add_argument("what", choices=("model",), help="what to write")
    parser.add_argument("name", metavar="NAME", help="name of the model, or path of its file")
    parser.add_argument("--from", dest="source", nargs="+", required=True, metavar="SOURCE",
                        help="`huggingface ARCHITECTURE`; a class or function, package.module:Class; an exported program, FILE.pt2; "
                        "or MLIR, FILE.mlir")
    parser.add_argument(TRUST, action="store_true", help="read a .pt2 file, although torch runs code of its maker then")
    parser.add_argument("--force", action="store_true", help="replace the file if there is one")
    options = parser.parse_args(arguments)
    file = Path(options.name if options.name.endswith((".yaml", ".yml")) else f"{options.name}.yaml")
    if file.exists() and not options.force:
        raise ConfigError(Problem(str(file), "exists", "choose another name, or replace it: --force"))
    proposal = _propose(options.source, options.trust)
    notes = "".join(f"# {note}\n" for note in proposal.notes)
    sections = {"factory": proposal.factory, "inputs": proposal.inputs, "symbols": proposal.symbols}
    body = yaml_files.render_sections(sections)
    body += f"weights: {proposal.weights}\n" if proposal.weights else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{notes}{body}", encoding="utf-8")
    for note in proposal.notes:
        print(f"note: {note}")
    if not proposal.complete:
        print(f"{file}: written; fill in what the notes say, then: shapeline run model={_locate(file)}")
        return UNEXPECTED
    plan([f"model={_locate(file)}"])
    print(f"{file}: written and valid; run it: shapeline run model={_locate(file)}")
    return OK


def _propose(source: Sequence[str], trusted: bool) -> Any:
    from lowering.sources import huggingface_proposal, proposal  # imported here because it needs torch

    try:
        if source[0] == "huggingface" and len(source) == 2:
            return huggingface_proposal.propose(source[1])
        if len(source) == 1 and source[0].endswith(".pt2"):
            if not trusted and Path(source[0]).is_file():
                cause = "reading a .pt2 file runs code of the file's author"
                raise ConfigError(Problem(f"--from {source[0]}", cause, f"if you trust it, say so: {TRUST}"))
            return proposal.propose_exported(source[0])
        if len(source) == 1 and source[0].endswith((".mlir", ".mlirbc")):
            return proposal.propose_mlir(source[0])
        if len(source) == 1 and source[0] != "huggingface":
            return proposal.propose_callable(source[0].replace(":", "."))
    except LoadError as error:  # of the command line here, not of a job
        raise ConfigError(error.problems) from error
    fix = "write `huggingface ARCHITECTURE`, package.module:Class, FILE.pt2 or FILE.mlir"
    raise ConfigError(Problem(f"--from {' '.join(source)}", "is no source", fix))


def _locate(file: Path) -> str:
    return str(file) if file.is_absolute() or file.parts[:1] == ("..",) else f"./{file}"
