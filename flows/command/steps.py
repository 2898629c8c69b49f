"""`shapeline steps MODEL--VARIANT`: run a prompt and steps of generation, and compare each with eager."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import targets
from flows.command.arguments import add_trust, make_job_parser, tell_trusted
from flows.command.exec import parse_count, parse_sizes
from flows.command.exits import OK, UNEXPECTED, USAGE_ERROR
from flows.command.printing import render_problems, render_table
from lowering import files, trust
from lowering.errors import ConfigError, LoadError, Problem, Refused, StageFailed
from lowering.numerics.choices import PADDINGS
from lowering.recipe import TARGET
from lowering.record.folder import JOB

if TYPE_CHECKING:
    from lowering.numerics.delivery.artifact import Artifact


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if a step differs from eager, 2 if the entries do not fit together."""
    says = "Run the entries of a model together: a prompt, then steps that carry its states on. Each is compared with eager."
    parser = make_job_parser("steps", says)
    parser.add_argument("--steps", type=parse_count, default=8, metavar="N", help="the number of steps (default: 8)")
    parser.add_argument("--size", action="append", default=[], metavar="SYMBOL=N", help="the size of a symbol (default: its example)")
    parser.add_argument("--entries", nargs="+", metavar="ENTRY", help="in order, the last repeated (default: up to `decode`)")
    parser.add_argument("--tokens", metavar="INPUT", help="the input that takes tokens (default: input_ids or decoder_input_ids)")
    parser.add_argument("--padding", choices=PADDINGS, default="none", help="the side on which prompts are padded (default: none)")
    parser.add_argument("--logits", metavar="RESULT", help="the result that chooses the next token (default: logits)")
    add_trust(parser)
    options = parser.parse_args(arguments)
    sizes = parse_sizes(options.size)
    loaded_entries = _load(options)
    from lowering.numerics.delivery import artifact, prompts, steps

    decode = loaded_entries[-1]
    for loaded in loaded_entries:
        if not options.trust and not artifact.is_own_job(loaded.records, loaded.model):
            raise trust.refuse(str(loaded.folder), [f"factory {loaded.model.factory.get(TARGET)}"])
    full = {**decode.model.examples(), **loaded_entries[-2].model.examples(), **sizes}
    names = prompts.Names(options.tokens or prompts.find_tokens(decode.model.leaves),
                          options.logits or prompts.find_logits([result.name for result in decode.signature.returned]))
    rows, agree = [], True
    try:
        for step in steps.run(loaded_entries, full, options.steps, names, padding=options.padding):
            worst = max(found.max_abs for found in step.compared.values())
            wrong = [f"{name}: {found.detail}" for name, found in step.compared.items() if not found.agrees]
            agree = agree and step.agrees
            at = ", ".join(f"{name}={size}" for name, size in step.sizes.items())
            shares = (f"{step.top:.0%}", f"{step.top5:.0%}")
            rows.append((str(step.number), step.entry, at, f"{worst:.3g}", *shares, "; ".join(wrong) or "agrees"))
    except Refused as error:
        print(render_problems(error.problems), file=sys.stderr)
        return USAGE_ERROR
    except (LoadError, StageFailed) as error:
        print(render_problems(error.problems), file=sys.stderr)
        return UNEXPECTED
    print("\n".join(render_table(("step", "entry", "sizes", "max abs error", "same token", "same 5", "eager"), rows)))
    return OK if agree else UNEXPECTED


def _load(options: argparse.Namespace) -> list[Artifact]:
    """Load the packaged programs of the entries that are named, or of `decode` and those that it comes after.

    Raises ConfigError for a job without entries, and for a single entry.
    """
    names = list(options.entries or ["decode"])
    if len(names) == 1 and options.entries:
        fix = "name both, as in --entries prefill decode"
        raise ConfigError(Problem(f"--entries {names[0]}", "is a single entry, and steps come after another", fix))
    loaded: list[Artifact] = []
    joined = targets.find_joined(options.job, options.run, options.output)
    if joined is None and not _has_entries(options):
        fix = "declare entries in the model's file: docs/inputs.md"
        raise ConfigError(Problem(options.job, "has no entries to run one after another", fix))
    while names:
        entry = names.pop()
        folder = joined or targets.find_job(f"{options.job}:{entry}", options.run, options.output)
        from lowering.numerics.delivery.artifact import Artifact  # imported here because it needs seconds, for torch

        loaded.insert(0, Artifact.load(folder, options.trust, tell_trusted, entry))
        if not options.entries:
            before = loaded[0].model.after
            names = [before.entry if before else "prefill"] if before or len(loaded) == 1 else []
    return loaded


def _has_entries(options: argparse.Namespace) -> bool:
    """Return False if the name is that of a single job, which is of a model without entries."""
    try:
        folder = targets.find_job(options.job, options.run, options.output)
    except ConfigError:  # a name of several jobs, or of none: reported where each entry is looked up
        return True
    return not (folder / JOB).is_file() or bool(files.read(folder / JOB)["model"].get("entry"))
