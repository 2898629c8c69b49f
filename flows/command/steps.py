"""`shapeline steps MODEL--VARIANT`: run a prompt and steps of generation, and compare each with eager."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flows.command import targets
from flows.command.arguments import add_trust, make_job_parser, tell_trusted
from flows.command.exec import parse_count, parse_sizes
from flows.command.exits import OK, UNEXPECTED, USAGE_ERROR
from flows.command.printing import render_problems, render_table
from lowering import trust
from lowering.errors import LoadError, Refused, StageFailed
from lowering.numerics import artifact, steps
from lowering.numerics.artifact import Artifact
from lowering.recipe import TARGET


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if a step differs from eager, 2 if the entries do not fit together."""
    says = "Run the entries of a model together: a prompt, then steps that carry its states on. Each is compared with eager."
    parser = make_job_parser("steps", says)
    parser.add_argument("--steps", type=parse_count, default=8, metavar="N", help="the number of steps (default: 8)")
    parser.add_argument("--size", action="append", default=[], metavar="SYMBOL=N", help="the size of a symbol (default: its example)")
    parser.add_argument("--entries", nargs=2, default=("prefill", "decode"), metavar=("PROMPT", "STEP"), help="(default: prefill decode)")
    parser.add_argument("--tokens", default="input_ids", metavar="INPUT", help="the argument that takes tokens (default: input_ids)")
    parser.add_argument("--logits", default="logits", metavar="RESULT", help="the result that chooses the next token (default: logits)")
    add_trust(parser)
    options = parser.parse_args(arguments)
    sizes = parse_sizes(options.size)
    folders = [targets.find_job(f"{options.job}:{entry}", options.run, options.output) for entry in options.entries]
    prefill, decode = (Artifact.load(folder, options.trust, tell_trusted) for folder in folders)
    for loaded in (prefill, decode):
        if not options.trust and not artifact.is_own_job(loaded.folder, loaded.model):
            raise trust.refuse(str(loaded.folder), [f"factory {loaded.model.factory.get(TARGET)}"])
    full = {**prefill.model.examples(), **sizes}
    rows, agree = [], True
    try:
        for step in steps.run(prefill, decode, full, options.steps, options.tokens, options.logits):
            worst = max(found.max_abs for found in step.compared.values())
            wrong = [f"{name}: {found.detail}" for name, found in step.compared.items() if not found.agrees]
            agree = agree and step.agrees
            at = ", ".join(f"{name}={size}" for name, size in step.sizes.items())
            rows.append((str(step.number), step.entry, at, f"{worst:.3g}", f"{step.top:.0%}", "; ".join(wrong) or "agrees"))
    except Refused as error:
        print(render_problems(error.problems), file=sys.stderr)
        return USAGE_ERROR
    except (LoadError, StageFailed) as error:
        print(render_problems(error.problems), file=sys.stderr)
        return UNEXPECTED
    print("\n".join(render_table(("step", "entry", "sizes", "max abs error", "same token", "eager"), rows)))
    return OK if agree else UNEXPECTED
