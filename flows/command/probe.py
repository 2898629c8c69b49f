"""`shapeline probe JOB --symbol SYMBOL`: find the widest range of a symbol by lowering and verifying one range after another."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.command import printing
from flows.command.arguments import collect_overrides, make_plan_parser, parse_number
from flows.command.exits import OK, UNEXPECTED
from flows.config.expansion import job_id
from flows.config.plan import Plan, plan
from flows.output import STORE
from flows.runs import begin
from flows.runs.record import make_folder_name
from lowering import files
from lowering.errors import ConfigError, InfraError, Problem, suggest
from lowering.job import Job
from lowering.model import LARGEST, Symbol
from lowering.numerics.delivery.probe import Attempt, Finding, probe
from lowering.plain import from_plain, to_plain
from lowering.record.folder import prepare
from lowering.record.result import JobResult
from lowering.worker import watch

LIMIT = 1 << 16  # the largest size tried of a symbol without a max
SAID = 300  # characters of a cause
# A probe is about the sizes at the edges, so these run unless they are far too large. The job's own options take precedence.
BUDGETS = {"budget_elements": 1 << 26, "budget_seconds": 5.0}


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if less than the declared range is accepted."""
    parser = make_plan_parser("probe", "Find the widest range of a symbol of JOB that lowers and verifies, and why it fails beyond.")
    parser.add_argument("--symbol", required=True, metavar="NAME", help="the symbol to probe")
    parser.add_argument("--limit", type=parse_number(int, 1, LARGEST), metavar="SIZE",
                        help=f"also try sizes beyond the declared max, up to SIZE (without a max: {LIMIT})")
    parser.add_argument("--json", action="store_true", help="print probe.json")
    options = parser.parse_intermixed_args(arguments)
    name = options.overrides.pop(0) if options.overrides and not _is_override(options.overrides[0]) else ""
    planned, job = _find_job(name, collect_overrides(options))
    declared = _find_symbol(job, options.symbol)
    if options.limit is not None and options.limit < (declared.max or 1):
        cause = f"is less than the max of {options.symbol}, {declared.max}, up to which sizes are tried in any case"
        raise ConfigError(Problem(f"--limit {options.limit}", cause, "name a larger size"))
    folder = planned.output / "probes" / make_folder_name(f"{job_id(job)}-{options.symbol}")
    lines = [] if options.json else [f"{job_id(job)}: {options.symbol} {declared}"]
    print(*lines, sep="\n", end="\n" if lines else "")
    attempt = _make_attempt(planned, job, options.symbol, folder, quiet=options.json)
    found = probe(attempt, declared, options.limit or declared.max or LIMIT)
    data = to_json(job_id(job), options.symbol, found)
    files.write(folder / "probe.json", data)
    print(json.dumps(data, indent=1, ensure_ascii=False) if options.json else "\n".join(render_finding(options.symbol, found, folder)))
    return UNEXPECTED if found.narrower else OK


def render_finding(symbol: str, found: Finding, folder: Path) -> list[str]:
    """Return the finding as text: the accepted range, the cause of failure at each edge, and the YAML that declares the range."""
    if found.range is None:
        return [f"{symbol}: no range was accepted", f"  {found.edges['max']}", f"attempts: {folder}"]
    wider = found.declared.max is not None and (found.range.max or 0) > found.declared.max
    said = [f"{symbol}: accepted in {found.range}" + ("" if found.narrower else ", wider than declared" if wider else ", as declared")]
    top, step = found.range.largest(found.range.max or 0), found.range.multiple_of
    below = max(0, found.range.min - step)
    beyond = {"max": f"at {top + step}", "min": f"at {below}", "multiple_of": f"at sizes that are not multiples of {step}"}
    said += [f"  {beyond[side]}: {attempt}" for side, attempt in found.edges.items()]
    if "max" not in found.edges:
        said.append(f"  no size beyond {top} was tried (see --limit)")
    if found.verified is not None and found.verified < top:
        said.append(f"  sizes above {found.verified} were lowered but not run: stages.verify.budget_elements and budget_seconds limit them")
    declared = {key: value for key, value in to_plain(found.range).items() if value not in (None, 1) or key == "min"}
    said.append(f"symbols: {yaml.safe_dump({symbol: declared}, default_flow_style=True).strip()}")
    return [*said, f"attempts: {folder}"]


def to_json(job: str, symbol: str, found: Finding) -> dict[str, Any]:
    return {"job": job, "symbol": symbol, "declared": to_plain(found.declared), "range": to_plain(found.range), "verified": found.verified,
            "narrower": found.narrower, "edges": {side: to_plain(attempt) for side, attempt in found.edges.items()},
            "attempts": [to_plain(attempt) for attempt in found.attempts]}


def _make_attempt(planned: Plan, job: Mapping[str, Any], symbol: str, folder: Path, quiet: bool) -> Callable[[Symbol], Attempt]:
    """Return a function that lowers `job` with a given range, each time in a new child process and folder."""
    store = planned.output.absolute() / STORE if planned.cache else None
    limits = begin.get_job_limits(planned.limits)
    count = 0

    def attempt(tried: Symbol) -> Attempt:
        nonlocal count
        count += 1
        place = folder.absolute() / f"{count:02}-{tried.min}-{tried.max}-{tried.multiple_of}"
        prepare(Job.from_json(set_range(job, symbol, tried)), place, limits, store)
        result = watch.lower(place, limits)
        if result.outcome == "infra":
            raise InfraError(result.problems or Problem(str(place), "the machine failed"))
        found = read_attempt(result, symbol, tried)
        if not quiet:
            print(f"  {count:2}  {tried!s:<30}  {found}", flush=True)
        return found

    return attempt


def set_range(job: Mapping[str, Any], symbol: str, tried: Symbol) -> dict[str, Any]:
    """Return `job` with the range `tried`. The example size is kept if the range admits it."""
    model = job["model"]
    example = model["symbols"][symbol].get("example")
    kept = dataclasses.replace(tried, example=example if example is not None and tried.admits(example) else None)
    stages = {name: {**(BUDGETS if spec["_target_"].endswith(".Verify") else {}), **spec} for name, spec in job["stages"].items()}
    changed = {**job, "model": {**model, "symbols": {**model["symbols"], symbol: to_plain(kept)}}, "stages": stages}
    return changed | ({"explain": False} if "explain" in job else {})


def read_attempt(result: JobResult, symbol: str, tried: Symbol) -> Attempt:
    """Return the attempt at a range that a job's result describes."""
    error = (result.symbols.get("error") if isinstance(result.symbols, Mapping) else None) or {}
    suggested = (error.get("refined") or {}).get("symbols", {}).get(symbol)
    hint = from_plain(Symbol, {"multiple_of": tried.multiple_of, **suggested}) if suggested else None
    points = result.verify.get("points") or []
    sizes = [point["sizes"][symbol] for point in points if isinstance(point, Mapping) and symbol in point.get("sizes", {})]
    said = (error.get("violations") or [None])[0] or (str(result.problems[0]) if result.problems else "")
    own = said.strip().split("\n", 1)[0]
    cause, line = own[:SAID] + "…" * (len(own) > SAID), error.get("line") or {}
    outcome, stage = result.outcome, "" if result.outcome == "ok" else result.stage
    if not error and (guard := _find_broken_guard(result, symbol, sizes if outcome == "ok" else ())) is not None:
        if outcome == "ok":  # verification skips the sizes that the program refuses
            outcome, stage = "refused", "export"
        needs = f"the program needs {guard['text']}, which does not hold at {symbol} = {guard['fails_at'][symbol]}"
        cause, line, hint = f"{needs}; {cause}" if cause else needs, guard.get("line") or {}, _narrow_range(guard["text"], symbol, tried)
    return Attempt(tried, outcome, stage, cause, _format_place(line), hint, max(sizes, default=None))


def _find_broken_guard(result: JobResult, symbol: str, ran: Collection[int]) -> Mapping[str, Any] | None:
    """Return the first guard that a size of the symbol's range breaks. Sizes in `ran` ran correctly, so they break no relevant guard."""
    for relation in result.symbols.get("relations", ()) if isinstance(result.symbols, Mapping) else ():
        fails_at = relation.get("fails_at") or {}
        if relation.get("holds") == "no" and symbol in fails_at and fails_at[symbol] not in ran:
            return dict(relation)
    return None


def _narrow_range(guard: str, symbol: str, tried: Symbol) -> Symbol | None:
    """Return the range that satisfies a guard on this symbol alone; None for other guards."""
    match = re.fullmatch(rf"{re.escape(symbol)} (<=|<|>=|>|%) (\d+)( == 0)?", guard)
    if match is None:
        return None
    relation, number = match[1], int(match[2])
    if relation == "%":
        return dataclasses.replace(tried, multiple_of=math.lcm(tried.multiple_of, number)) if match[3] else None
    if relation in ("<=", "<"):
        return dataclasses.replace(tried, max=number - (relation == "<"))
    return dataclasses.replace(tried, min=number + (relation == ">"))


def _format_place(line: Mapping[str, Any]) -> str:
    return f"{line['file']}:{line['line']}: {line['code']}" if line else ""


def _find_job(name: str, texts: list[str]) -> tuple[Plan, Mapping[str, Any]]:
    """Return the job called `name` and its plan. name: a job's id, a model with a single job, or a model's file."""
    chosen = any(text.startswith(("suite=", "model=")) for text in texts)
    if name.endswith((".yaml", ".yml")):
        planned, wanted = plan([f"model={name}", *texts]), ""
    elif chosen or name in _list_ids(planned := plan(texts)):
        planned, wanted = plan(texts), name
    else:
        planned, wanted = plan([f"model={name.split('--')[0]}", *texts]), name
    found = [job for job in planned.jobs if wanted in ("", job_id(job), job["model"]["name"])]
    if len(found) == 1:
        return planned, found[0]
    some = ", ".join(_list_ids(planned)[:8])
    fix = f"name one: {some}" if found else suggest(name, _list_ids(planned)) or f"jobs: {some}"
    raise ConfigError(Problem(f"probe {name or 'without JOB'}", f"names {len(found) or 'no'} jobs of suite {planned.suite}", fix))


def _find_symbol(job: Mapping[str, Any], name: str) -> Symbol:
    symbols = job["model"]["symbols"]
    if name not in symbols:
        fix = suggest(name, symbols) or f"symbols: {printing.format_symbols(symbols)}"
        raise ConfigError(Problem("--symbol", f"{job_id(job)} has no symbol '{name}'", fix))
    return from_plain(Symbol, symbols[name])


def _is_override(text: str) -> bool:
    return re.match(r"~|\+*[\w./]+=", text) is not None and not Path(text).is_file()


def _list_ids(planned: Plan) -> list[str]:
    return [job_id(job) for job in planned.jobs]
