"""`shapeline exec JOB --size batch=3`: run the lowered program of a job, without the model's code."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flows.command import targets
from flows.command.arguments import add_trust, make_job_parser, tell_trusted
from flows.command.exits import OK, UNEXPECTED, USAGE_ERROR
from flows.command.printing import render_problems, render_table
from lowering.errors import ConfigError, Problem, Refused, StageFailed
from lowering.numerics.choices import PLATFORMS

if TYPE_CHECKING:
    import torch

    from lowering.numerics.delivery.artifact import Execution


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if the program fails or differs from the recorded results, 2 if it does not accept the sizes."""
    parser = make_job_parser("exec", "Run the lowered program of a job at any sizes, on inputs filled as the model declares; "
                                  "the model's Python code is not needed.")
    parser.add_argument("--size", action="append", default=[], metavar="SYMBOL=N", help="the size of a symbol (default: its example)")
    parser.add_argument("--compare", action="store_true", help="run on the inputs recorded at these sizes, and compare with eager")
    parser.add_argument("--dynamic", action="store_true", help="run the dynamic program even if a bucket serves the sizes")
    parser.add_argument("--steps", type=parse_count, default=1, metavar="N",
                        help="run N times, each time with the states that the last run left (default: 1)")
    parser.add_argument("--entry", metavar="ENTRY", help="the function to run, of a program with several entries")
    parser.add_argument("--platform", choices=PLATFORMS, default="cpu", help="the platform XLA runs on (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_trust(parser)
    options = parser.parse_args(arguments)
    sizes = parse_sizes(options.size)
    folder = targets.find_job(options.job, options.run, options.output)
    from lowering.numerics.delivery import artifact  # imported here because it needs seconds, for torch

    try:
        done = artifact.execute(folder, sizes, options.platform, options.compare, options.trust, tell_trusted, options.dynamic,
                                options.steps, options.entry)
    except Refused as error:
        print(render_problems(error.problems), file=sys.stderr)
        return USAGE_ERROR
    except StageFailed as error:
        print(render_problems(error.problems), file=sys.stderr)
        return UNEXPECTED
    rows = [_make_row(done, name) for name in done.results]
    if options.json:
        bucket = dict(done.bucket.sizes) if done.bucket else None
        print(json.dumps({"sizes": dict(done.sizes), "bucket": bucket, "seconds": done.seconds, "results": rows}, indent=1))
    else:
        at = ", ".join(f"{name}={size}" for name, size in done.sizes.items())
        times = f" {options.steps} times" if options.steps > 1 else ""
        print(f"{folder.name} on {options.platform}{f' at {at}' if at else ''}: {done.seconds:.3f} s, compiled and run{times}")
        if done.bucketed:
            print(f"bucket {done.bucket}, inputs padded" if done.bucket else "no bucket serves these sizes, so the dynamic program ran")
        print("\n".join(render_table(tuple(rows[0]), [tuple(map(_format_value, row.values())) for row in rows]) if rows
                        else ["no results"]))
    return OK if done.compared is None or all(found.agrees for found in done.compared.values()) else UNEXPECTED


def parse_count(text: str) -> int:
    """Parse a number of runs."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is not a number of 1 or more")
    return int(text)


def parse_sizes(given: Sequence[str]) -> dict[str, int]:
    """Parse `SYMBOL=N` texts. Raises ConfigError with every problem."""
    found: dict[str, int] = {}
    wrong = []
    for text in given:
        name, equals, size = text.partition("=")
        if not (equals and name and size.isdecimal()):
            wrong.append(Problem(f"--size {text}", "is not SYMBOL=N", "for example --size batch=3"))
        elif name in found:
            wrong.append(Problem(f"--size {text}", f"'{name}' was already given the size {found[name]}", "give each symbol once"))
        else:
            found[name] = int(size)
    if wrong:
        raise ConfigError(wrong)
    return found


def _make_row(done: Execution, name: str) -> dict[str, Any]:
    """Return the row of a result: its type, a few summary numbers, and the comparison with eager if there is one."""
    value = done.results[name]
    row: dict[str, Any] = {"result": name, "type": f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}", **_summarize(value)}
    if done.compared is not None and name not in done.compared:
        row |= {"max abs error": None, "max rel error": None, "eager": "random, not compared"}
    elif done.compared is not None:
        found = done.compared[name]
        verdict = found.wrong or ("agrees within rounding" if found.detail else "agrees")
        row |= {"max abs error": found.max_abs, "max rel error": found.max_rel, "eager": verdict}
    return row


def _summarize(value: torch.Tensor) -> dict[str, float | None]:
    if not value.numel() or value.is_complex():
        return {"min": None, "mean": None, "max": None}
    numbers = value.double()
    return {"min": numbers.min().item(), "mean": numbers.mean().item(), "max": numbers.max().item()}


def _format_value(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
