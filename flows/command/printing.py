"""The text that commands print: jobs as a table, problems as a list."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flows.config import declarations, expansion
from flows.config.plan import Plan
from flows.config.suite import VARIANT
from flows.report.terminal import escape
from lowering.errors import Problem, suggest
from lowering.model import Model, Symbol
from lowering.plain import from_plain
from lowering.recipe import TARGET
from lowering.trees import Leaf, iterate


def render_jobs(planned: Plan, digests: bool = False) -> str:
    """Return a table of the jobs of a plan, and a total.

    Columns: id, one column per axis, symbols with their ranges, the last level, and the digest if `digests`.
    """
    listed = [expansion.job_id(job) for job in planned.jobs]
    swept = list(dict.fromkeys(key for job in listed for key in planned.axes.get(job, {}) if key != VARIANT))
    rows = []
    for job_id, job in zip(listed, planned.jobs, strict=True):
        values = planned.axes.get(job_id, {})
        row = [job_id, *(_format_value(values[key]) if key in values else "" for key in swept), format_symbols(job["model"]["symbols"]),
               _find_last_level(job)]
        rows.append([*row, expansion.compute_digest(job)[:12]] if digests else row)
    heads = ["JOB", *shorten_names(swept), "SYMBOLS", "TO", *(["DIGEST"] if digests else [])]
    left_out = planned.total - len(rows)
    total = f"{len(rows)} job{'s' * (len(rows) != 1)} of suite {planned.suite}" + (f"; {left_out} not selected" if left_out else "")
    return escape("\n".join([*render_table(heads, rows), "", total]))


def render_entries(planned: Plan) -> str:
    """Return each job of a plan with its method, symbols, inputs and constants: a line for each leaf of its inputs."""
    lines: list[str] = []
    for job in planned.jobs:
        model = from_plain(Model, job["model"])
        lines += [f"{expansion.job_id(job)}  {model.method}  {format_symbols(job['model']['symbols'])}"]
        heads = [(_name_once(leaf), leaf) for leaf in iterate(model.trees)]
        rows = [[f"  {name}", leaf.declared.dtype, f"[{', '.join(map(_format_dim, leaf.declared.shape))}]",
                 "" if leaf.declared.fill is None else _format_value(leaf.declared.fill), "state" if leaf.state else ""]
                for name, leaf in dict(heads).items()]
        lines += render_table(["  INPUT", "DTYPE", "SHAPE", "FILL", ""], rows)
        lines += [f"  {name} = {json.dumps(value, default=str)}" for name, value in model.constants.items()]
        lines.append("")
    return escape("\n".join(lines).rstrip())


def _name_once(leaf: Leaf) -> str:
    """Return the key of a leaf in its file, which repetitions share."""
    return leaf.place.removeprefix("inputs.")


def _format_dim(dim: Any) -> str:
    return "null" if dim is None else str(dim)


def shorten_names(keys: Sequence[str]) -> list[str]:
    """Return for each dotted key its shortest suffix that differs from those of the other keys."""
    found = []
    for key in keys:
        words = key.split(".")
        tails = (".".join(words[-length:]) for length in range(1, len(words) + 1))
        found.append(next((tail for tail in tails if not any(f".{other}".endswith(f".{tail}") for other in keys if other != key)), key))
    return found


def _format_value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 24 else text[:23] + "…"


def format_symbols(declared: Mapping[str, Any]) -> str:
    """Return symbols as text: `batch [1, 64]  seq [1, 512], a multiple of 8`."""
    return "  ".join(f"{name} {Symbol(**symbol)}" for name, symbol in declared.items()) or "none (static)"


def render_problems(found: Sequence[Problem]) -> str:
    """Return a list of problems as text: each place on a line, its cause and fix below."""
    lines = [f"shapeline: {len(found)} problem{'s' * (len(found) != 1)} found"]
    for problem in found:
        fix = f" ({problem.fix})" if problem.fix else ""
        lines += [f"  {_shorten(problem.place)}", f"      {_shorten(f'{problem.cause}{fix}')}"]
    return escape("\n".join(lines))


def _shorten(text: str, limit: int = 4000) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def render_valid(plans: Sequence[Plan]) -> str:
    if len(plans) == 1:
        return f"suite {plans[0].suite}: {plans[0].total} jobs, no problem found"
    *suites, models = plans
    return f"{len(suites)} suites with {sum(planned.total for planned in suites)} jobs, {models.total} models: no problem found"


def describe_unknown_command(word: str, known: Iterable[str]) -> str:
    return f"there is no command '{word}'" + (f"; {fix}" if (fix := suggest(word, known)) else "")


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with left-aligned columns."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]


def format_size(count: int) -> str:
    """Return a number of bytes as `12.3 MiB`."""
    number, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def _find_last_level(job: Mapping[str, Any]) -> str:
    last = list(job["stages"].values())[-1]
    return job["until"] or declarations.load_stage(last[TARGET]).target.word


def format_age(used: float) -> str:
    """Return how long ago a time (seconds since the epoch) was, in its largest unit."""
    seconds = max(0.0, time.time() - used)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
