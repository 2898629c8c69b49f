"""`shapeline cache`: list the store's results, explain cache misses, and limit the store's size."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flows.command import printing
from flows.command.arguments import add_output, add_trust, make_parser, parse_number, parse_size
from flows.command.exits import OK
from flows.command.printing import format_age, format_size
from flows.config.document import MONTH
from flows.output import RUNS, STORE
from flows.runs import calendars, copies
from lowering import files
from lowering.errors import ConfigError, Problem, Untrusted
from lowering.record.folder import MANIFEST
from lowering.record.result import JobResult, StageResult
from lowering.store import adoption, eviction, mirror, mirror_eviction, signing
from lowering.store.entries import Store
from lowering.trust import TRUST

DESCRIPTION = "Inspect the store of stage results: list it, explain why a stage was not taken from it, limit its size, and sign it."


def main(arguments: Sequence[str]) -> int:
    """Run one of ls, why, gc, sign.

    Raises ConfigError if a named run or job does not exist, Untrusted if there is something to sign without --trust.
    """
    parser = make_parser("cache", DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls|why|gc|sign")
    ls = commands.add_parser("ls", help="list the results in the store, most recently used first")
    why = commands.add_parser("why", help="explain for each stage of a job which run made its result, or why the store had none")
    why.add_argument("job", help="a job's id, or a part of it")
    why.add_argument("--run", default="latest", help="a run's id (default: the newest)")
    gc = commands.add_parser("gc", help="remove the least recently used results until the store is small enough")
    gc.add_argument("--max-bytes", required=True, type=parse_size, metavar="SIZE", help="maximum size of the store: 500M, 20G")
    gc.add_argument("--keep", action="append", default=[], metavar="RUN", help="keep the results that this run used (repeatable)")
    gc.add_argument("--at-url", action="store_true",
                    help="clean the store at the URL of --output, which all machines share, instead of this machine's copy")
    gc.add_argument("--idle", type=parse_number(float, 0, MONTH), default=3600.0, metavar="SECONDS",
                    help="keep results used within the last SECONDS (default: 3600)")
    sign = commands.add_parser("sign", help=f"sign what the store held before it had the key of ${signing.KEY}, so that runs use it")
    add_trust(sign)
    for command in (ls, why, gc, sign):
        add_output(command)
        command.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    store = Store(options.output / STORE)
    if options.command == "ls":
        _list_results(store, options.json)
    elif options.command == "why":
        _explain_job(options.output, options.run, options.job, options.json)
    elif options.command == "sign":
        _sign_results(store, options.trust, options.json)
    else:
        _collect_garbage(store, options)
    return OK


def _list_results(store: Store, as_json: bool) -> None:
    found = sorted(store.entries(), key=lambda pair: -pair[1])
    rows = [{"job": entry.data["job"], "stage": entry.data["stage"], "bytes": entry.bytes, "made_by": entry.data["maker"],
             "used": datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds"), "key": entry.key} for entry, used in found]
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    lines = [(row["job"], row["stage"], format_size(row["bytes"]), format_age(used), row["made_by"], row["key"][:12])
             for row, (_, used) in zip(rows, found, strict=True)]
    print("\n".join(printing.render_table(("JOB", "STAGE", "SIZE", "USED", "MADE BY", "KEY"), lines)))
    weights = sum(files.measure_size(path) for path in store.weights.glob("*/*.safetensors"))
    print(f"\n{len(rows)} results, {format_size(sum(row['bytes'] for row in rows))}; weights {format_size(weights)}; in {store.root}")


def _explain_job(output: Path, run: str, words: str, as_json: bool) -> None:
    results = [result for result in map(JobResult.load, _list_ended_jobs(output, run)) if result and words.lower() in result.id.lower()]
    if not results:
        raise ConfigError(Problem(str(output / RUNS / run), f"has no finished job '{words}'", "shapeline report lists them"))
    if as_json:
        print(json.dumps([{"job": result.id, "stage": stage.name, "cache": stage.cache, "maker": stage.maker, "why": stage.why,
                           "key": stage.key} for result in results for stage in result.stages], indent=1, ensure_ascii=False))
        return
    for result in results:
        print(result.id)
        print("\n".join(f"  {line}" for line in printing.render_table(("STAGE", "STORE", "WHY"), [
            (stage.name, stage.cache, _describe_source(stage)) for stage in result.stages])))


def _describe_source(stage: StageResult) -> str:
    """Return where a stage's result comes from, or why it ran."""
    if stage.cache != "hit":
        return stage.why
    return f"made by {stage.maker}" + (f"; {stage.why}" if stage.why else "")


def _collect_garbage(store: Store, options: argparse.Namespace) -> None:
    runs = options.output / RUNS
    url = mirror.find_url(store.root)
    if options.at_url and url is None:
        raise ConfigError(Problem("--at-url", f"{options.output} is a local folder", "use --output s3://bucket/prefix, or omit --at-url"))
    kept = [copies.download_results(options.output, run) for run in options.keep]
    results = [result for run in kept for result in map(JobResult.load, _list_ended_jobs(options.output, run)) if result]
    keep = {stage.key for result in results for stage in result.stages}
    shelf = mirror_eviction.There(store, runs) if options.at_url else eviction.Here(store, runs, calendars.read_all(runs))
    done = eviction.evict(shelf, options.max_bytes, keep, options.idle)
    if options.json:
        print(json.dumps({"removed": done.entries, "weights": done.weights, "before": done.before, "after": done.after}))
        return
    where = url if options.at_url else store.root
    removed = f"{len(done.entries)} results and {len(done.weights)} files of weights removed"
    print(f"{removed} from {where}: {format_size(done.before)} -> {format_size(done.after)}")
    if done.after > options.max_bytes:
        print(f"still larger than {format_size(options.max_bytes)}: "
              "the remaining results were used recently, or by a run given with --keep")


def _sign_results(store: Store, is_trusted: bool, as_json: bool) -> None:
    if signing.read_key() is None:
        raise ConfigError(Problem("shapeline cache sign", "no key is given", f"name its file: export {signing.KEY}=FILE (docs/trust.md)"))
    found = adoption.list_unsigned(store)
    lines = adoption.describe(found)
    if found and not is_trusted:
        fix = f"if you trust whoever could write to {store.root}, use {TRUST}"
        raise Untrusted([Problem(str(store.root), f"would be signed and used: {line}", fix) for line in lines])
    for line in lines:
        print(f"shapeline: {TRUST}: signing {line}", file=sys.stderr, flush=True)
    for each in found:
        each.sign()
    results = sum(bool(each.stage) for each in found)
    print(json.dumps({"results": results, "notes": len(found) - results}) if as_json
          else f"{results} results and {len(found) - results} notes signed in {store.root}")


def _list_ended_jobs(output: Path, run: str) -> Iterator[Path]:
    """Return the folders of the finished jobs of a run. Raises ConfigError if there is no such run."""
    folder = output / RUNS / run
    if run in ("", ".", "..") or "/" in run or not folder.is_dir():
        known = sorted(path.name for path in (output / RUNS).glob("*") if path.is_dir() and not path.is_symlink())
        raise ConfigError(Problem(str(output / RUNS), f"has no run '{run}'", f"runs: {', '.join(known[-5:]) or 'none'}"))
    return (path.parent for path in sorted(folder.glob(f"jobs/*/{MANIFEST}")))
