"""The commands that look at finished runs: diff, pin, prune; and nightly, which makes them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.command.arguments import NEWEST, of_run, output
from flows.command.main import OK, UNEXPECTED, run_folder
from flows.history import changes, database, publish, retention
from flows.history.changes import Changes
from flows.report.dashboard import page
from lowering import files
from lowering.errors import ConfigError, Problem

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def diff(arguments: Sequence[str]) -> int:
    """`shapeline diff OLD NEW`: 1 when something regressed."""
    parser = argparse.ArgumentParser(prog="shapeline diff", description="What changed between two runs; exit 1 when something regressed.")
    parser.add_argument("old", help="a run's folder or id; or `previous`, `baseline` of NEW")
    parser.add_argument("new", nargs="?", default="latest", help=NEWEST)
    output(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--html", type=Path, metavar="FILE", help="write a page")
    options = parser.parse_args(arguments)
    new = run_folder(options.new, options.output)
    with_others = new.parent if new.parent.name == publish.RUNS else None
    found = _compared(_old(options.old, options.output, new), new, with_others)
    if options.json:
        print(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    elif options.markdown:
        print("\n".join(changes.markdown(found)))
    else:
        print("\n".join(changes.text(found)))
    if options.html:
        title = f"{found.old['run']} → {found.new['run']}"
        files.write_bytes(
            options.html,
            files.encode(page.text(title, {"kind": "diff", "title": title, "suite": found.new["suite"], "comparison": found.to_json()})),
        )
        print(f"page: {options.html}")
    return UNEXPECTED if found.regression else OK


def pin(arguments: Sequence[str]) -> int:
    """`shapeline pin RUN`."""
    parser = of_run("pin", "Make a run the baseline that every later run of its suite is compared with.")
    options = parser.parse_args(arguments)
    folder = run_folder(options.run, options.output)
    print(f"{folder.name} is the baseline of {publish.pin(folder)}")
    return OK


def prune(arguments: Sequence[str]) -> int:
    """`shapeline prune`: removes what the limits do not keep."""
    parser = argparse.ArgumentParser(prog="shapeline prune", description="Remove old runs. The newest run of a suite and pinned ones stay.")
    parser.add_argument("--ir-runs", type=int, metavar="N", help="keep the IR of N runs of each suite, and of all that were not green")
    parser.add_argument("--runs", type=int, metavar="N", help="keep N runs of each suite")
    parser.add_argument("--days", type=float, metavar="D", help="keep runs of the last D days")
    parser.add_argument("--bytes", metavar="SIZE", help="keep at most so much in all: 500M, 20G; IR of old green runs goes first")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    output(parser)
    options = parser.parse_args(arguments)
    keep = retention.Keep(options.ir_runs, options.runs, options.days, None if options.bytes is None else size(options.bytes))
    if keep == retention.Keep():
        parser.error("say what to keep: --ir-runs, --runs, --days or --bytes")
    runs = options.output / publish.RUNS
    removals = retention.plan(runs, keep, publish.baselines(runs).values())
    for removal in removals:
        print(f"{removal.folder.name}: {'the run' if removal.whole else 'its IR'}, {removal.size / (1 << 20):,.1f} MiB ({removal.why})")
    if not options.dry_run:
        retention.apply(removals)
        if runs.is_dir():
            with database.opened(runs) as known:
                publish.write_index(runs, known)
    print(f"{'would free' if options.dry_run else 'freed'} {sum(removal.size for removal in removals) / (1 << 20):,.1f} MiB")
    return OK


def size(text: str) -> int:
    """`20G` as bytes; ConfigError when it is none."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        return int(float(number) * UNITS[unit])
    except (ValueError, KeyError):
        raise ConfigError(Problem("--bytes", f"'{text}' is no size", "a number with K, M, G or T: 20G")) from None


def nightly(arguments: Sequence[str]) -> int:
    """`shapeline nightly`: serves until it is interrupted."""
    from flows.nightly import main  # here: the other commands start without Prefect

    return main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"diff": diff, "pin": pin, "prune": prune, "nightly": nightly}


def _old(name: str, output: Path, new: Path) -> Path:
    if name not in ("previous", "baseline"):
        return run_folder(name, output)
    with database.opened(new.parent) as known:
        other = (
            database.previous(known, new.name)
            if name == "previous"
            else publish.baselines(new.parent).get(files.read(new / database.REPORT)["suite"])
        )
    if not other:
        fix = "name a run" if name == "previous" else "shapeline pin RUN makes one"
        raise ConfigError(Problem(str(new), f"has no {name} run", fix))
    return run_folder(other, output)


def _compared(old: Path, new: Path, runs: Path | None) -> Changes:
    past = {}
    if runs is not None:
        with database.opened(runs) as known:
            past = database.earlier(known, new.name, changes.EARLIER)
    return changes.compare(files.read(old / database.REPORT), files.read(new / database.REPORT), past)
