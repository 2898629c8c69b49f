"""The command `shapeline`: run, list, validate, report. Exit 0: all as expected; 1: something is not; 2: usage or configuration."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.command import printing
from flows.command.arguments import of_run
from flows.config.compose import CONFIGS, Folders
from flows.config.overrides import quoted
from flows.config.plan import Plan, plan, unique
from flows.engine import revival
from flows.runs import copies
from lowering.errors import ConfigError, InfraError, Problem

USAGE = """usage: shapeline COMMAND [OPTION]... [KEY=VALUE]...

Lower PyTorch models with dynamic shapes, level by level, to MHLO.

commands:
  run        lower the jobs of a suite and write a report
  list       print the jobs that a run would have
  validate   check the configuration, and say everything that is wrong with it
  report     print the report of a run again
  multirun   run, but swept by Hydra (any sweeper): python -m flows.lower -m
  probe      the widest range of a symbol that lowers and verifies, and what stops it
  update-expected  write how the jobs of a run ended into the expectations of its suite
  explain    what became of the dims of a job, from the code line to MHLO
  exec       run what a job was lowered to, at any sizes
  show       the program of a job at a level, as text
  rerun-failed  lower the jobs of a run that are not as expected again
  cache      the store of stage results: ls, why, gc
  diff       what changed between two runs; exit 1 on a regression
  pin        make a run the baseline of its suite
  prune      remove old runs, the IR of old green runs first
  nightly    serve a schedule that runs a suite

KEY=VALUE overrides the configuration, in Hydra's grammar:
  shapeline run suite=quickstart -k bert model.bert.symbols.seq.max=128
  shapeline run model=llama until=torchscript
  shapeline run model=./mine.yaml stages.export.decompose=core

`shapeline COMMAND --help` lists the options. Exit status: 0 all as expected, 1 something is not, 2 usage or configuration.
"""
OK, UNEXPECTED, USAGE_ERROR, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments` (sys.argv's by default); the exit status. The working directory's modules can be named in configs."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE, end="", file=sys.stdout if given else sys.stderr)
        return OK if given else USAGE_ERROR
    if given[0] not in COMMANDS:
        problem = printing.unknown_command(given[0], COMMANDS)
        print(f"shapeline: {problem}\n\n{USAGE}", end="", file=sys.stderr)
        return USAGE_ERROR
    try:
        return COMMANDS[given[0]](given[1:])
    except ConfigError as error:
        print(printing.problems(error.problems), file=sys.stderr)
        return USAGE_ERROR
    except InfraError as error:
        print(printing.problems(error.problems), file=sys.stderr, flush=True)
        if revival.gone.is_set():
            sys.stdout.flush()
            os._exit(UNEXPECTED)
        return UNEXPECTED
    except KeyboardInterrupt:
        print("shapeline: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `shapeline list | head`
        sys.stderr.close()
        return OK


def _run(arguments: Sequence[str]) -> int:
    parser = _parser("run", "Lower the jobs of a suite: one red row for a model that fails, the others go on.")
    parser.add_argument("--dry-run", action="store_true", help="print the jobs and stop")
    parser.add_argument("--no-cache", action="store_true", help="take no result from the store, and leave none there")
    options = parser.parse_intermixed_args(arguments)
    planned = plan(_overrides(options) + (["cache=false"] if options.no_cache else []))
    if options.dry_run:
        print(printing.jobs(planned))
        return OK
    from flows import lower  # here: the other commands start without Prefect
    from flows.config import run as config

    folder = lower.lower_suite(config.build(planned))
    return OK if json.loads((folder / "report.json").read_text())["as_expected"] else UNEXPECTED


def _list(arguments: Sequence[str]) -> int:
    parser = _parser("list", "Print the jobs that a run would have, with the ranges of their symbols.")
    parser.add_argument("--json", action="store_true", help="the jobs as JSON: what each child process is given")
    parser.add_argument("--digests", action="store_true", help="a column that is equal for equal jobs, whatever they are called")
    parser.add_argument("--models", action="store_true", help="the names that model=NAME and suites can use")
    parser.add_argument("--suites", action="store_true", help="the names that suite=NAME can use")
    options = parser.parse_intermixed_args(arguments)
    groups = [group for group, asked in (("model", options.models), ("suite", options.suites)) if asked]
    if groups:
        for group in groups:
            print("\n".join(_folders(options).names(group)))
        return OK
    planned = plan(_overrides(options))
    print(json.dumps(planned.jobs, indent=1, ensure_ascii=False) if options.json else printing.jobs(planned, options.digests))
    return OK


def _validate(arguments: Sequence[str]) -> int:
    parser = _parser("validate", "Check the configuration without running anything; all its errors are listed at once.")
    parser.add_argument("--json", action="store_true", help="the problems as JSON: place, cause, fix")
    parser.add_argument("--all", action="store_true", help="check every suite and every model there is, not one suite")
    options = parser.parse_intermixed_args(arguments)
    plans, found = _every(options) if options.all else _one(_overrides(options))
    if options.json:
        print(json.dumps({"ok": not found, "jobs": sum(len(planned.jobs) for planned in plans),
                          "problems": [problem.to_json() for problem in found]}, indent=1, ensure_ascii=False))
    elif found:
        print(printing.problems(found), file=sys.stderr)
    else:
        print(printing.valid(plans))
    return USAGE_ERROR if found else OK


def _report(arguments: Sequence[str]) -> int:
    parser = of_run("report", "Print the report of a run again, and write its files anew.")
    parser.add_argument("--json", action="store_true", help="print report.json")
    options = parser.parse_args(arguments)
    folder = run_folder(options.run, options.output)
    from flows.history import publish
    from flows.report import report
    from flows.runs import record  # here: the other commands start without them

    seconds = json.loads((folder / report.JSON).read_text())["seconds"]
    markdown = publish.write(record.load(folder), seconds)
    print((folder / report.JSON if options.json else markdown).read_text(), end="")
    return OK if json.loads((folder / report.JSON).read_text())["as_expected"] else UNEXPECTED


def _rerun_failed(arguments: Sequence[str]) -> int:
    parser = of_run("rerun-failed", "Lower the jobs of a run that are not as expected again.")
    parser.add_argument("--dry-run", action="store_true", help="print the jobs and stop")
    options = parser.parse_args(arguments)
    folder = run_folder(options.run, options.output)
    from flows.report import report  # here: the other commands start without them
    from flows.runs import record

    begun = record.load(folder)
    failed = [result.id for result in report.unexpected(begun.results())]
    if not failed:
        print(f"{folder.name}: every job is as expected")
        return OK
    exactly = " or ".join(f"={job}" for job in failed)
    overrides = [text for text in begun.data["overrides"] if not text.startswith("select=")]
    dry = ["--dry-run"] if options.dry_run else []
    return _run([*overrides, "-k", exactly, *dry])


def _update_expected(arguments: Sequence[str]) -> int:
    from flows.command import update_expected  # here: the other commands start without it

    return update_expected.main(arguments)


def _explain(arguments: Sequence[str]) -> int:
    from flows.command import explain  # here: the other commands start without it

    return explain.main(arguments)


def _exec(arguments: Sequence[str]) -> int:
    from flows.command import exec  # noqa: A004 - the other commands start without torch

    return exec.main(arguments)


def _probe(arguments: Sequence[str]) -> int:
    from flows.command import probe  # here: the other commands start without it

    said = "Find the widest range of a symbol of JOB that lowers and verifies, and say what stops it at the edges."
    return probe.main(arguments, _parser("probe", said), _overrides)


def _multirun(arguments: Sequence[str]) -> int:
    from flows.command import multirun  # here: the other commands start without it

    return multirun.main(arguments if {"-m", "--multirun"} & set(arguments) else ["-m", *arguments])


def _show(arguments: Sequence[str]) -> int:
    from flows.command import show  # here: the other commands start without it

    return show.main(arguments)


def _cache(arguments: Sequence[str]) -> int:
    from flows.command import cache  # here: the other commands start without it

    return cache.main(arguments)


def _review(command: str) -> Callable[[Sequence[str]], int]:
    def run(arguments: Sequence[str]) -> int:
        from flows.command import review  # here: the other commands start without it

        return review.COMMANDS[command](arguments)

    return run


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": _run, "list": _list, "validate": _validate, "report": _report,
    "multirun": _multirun, "probe": _probe, "update-expected": _update_expected, "rerun-failed": _rerun_failed, "cache": _cache,
    "explain": _explain, "exec": _exec, "show": _show,
    **{command: _review(command) for command in ("diff", "pin", "prune", "nightly")},
}  # fmt: skip


def run_folder(name: str, output: Path) -> Path:
    """The folder of a finished run, by path, id, or `latest`; ConfigError says which runs there are."""
    copies.bring_run(output, name)
    for folder in (output / "runs" / name, Path(name)):
        if (folder / "report.json").is_file():
            return folder.resolve()
    runs = sorted(file.parent.name for file in (output / "runs").glob("*/report.json") if not file.parent.is_symlink())
    fix = f"runs: {', '.join(runs[-5:])}" if runs else "make one with shapeline run"
    raise ConfigError(Problem(str(output / "runs"), f"has no report of a run '{name}'", fix))


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"shapeline {command}", description=description)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides of the configuration, in Hydra's grammar")
    parser.add_argument("-k", dest="select", metavar="EXPR", help="only jobs whose id has these words: 'bert and not image'")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR",
                        help="also look in DIR/model, DIR/suite, ... (before the own configs; may be given again)")
    parser.add_argument("--shard", metavar="i/n", help="only the i-th of n parts of the jobs, the same on every machine")
    parser.add_argument("--durations", metavar="RUN", help="an earlier run's folder or report.json, to balance shards by")
    parser.add_argument("--output", metavar="DIR", help="where runs go (default: artifacts)")
    return parser


def _overrides(options: argparse.Namespace) -> list[str]:
    """The options as overrides: those alone describe a run, so that it can be started again from anywhere."""
    texts = list(options.overrides)
    if options.config_dir:
        texts.append(f"hydra.searchpath=[{','.join(quoted(folder) for folder in options.config_dir)}]")
    if options.select is not None:
        texts.append(f"select={quoted(options.select)}")
    if options.shard is not None:
        texts.append(f"shard={quoted(options.shard)}")
    if options.durations is not None:
        texts.append(f"durations={quoted(str(Path(options.durations).expanduser().absolute()))}")
    if options.output is not None:
        texts.append(f"output={quoted(options.output)}")
    return texts


def _folders(options: argparse.Namespace) -> Folders:
    return Folders((*(Path(folder).resolve() for folder in options.config_dir), CONFIGS))


def _one(texts: Sequence[str]) -> tuple[list[Plan], tuple[Problem, ...]]:
    try:
        return [plan(texts)], ()
    except ConfigError as error:
        return [], error.problems


def _every(options: argparse.Namespace) -> tuple[list[Plan], tuple[Problem, ...]]:
    """Plans of every suite, and of all models together, and what is wrong with any."""
    plans: list[Plan] = []
    found: list[Problem] = []
    choices = [f"suite={name}" for name in _folders(options).names("suite")]
    choices.append(f"model=[{','.join(_folders(options).names('model'))}]")
    for choice in choices:
        planned, problems = _one([choice, *_overrides(options)])
        plans += planned
        found += problems
    return plans, unique(found)


if __name__ == "__main__":
    sys.exit(main())
