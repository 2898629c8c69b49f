"""The table of the commands of `shapeline`. A command's module is imported on use, so that each command loads only its own dependencies."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Sequence

VERBS = {  # command -> its line in the usage; its module is flows.command.VERB, with _ for -
    "new": "write the file of a model from its class",
    "run": "lower the jobs of a suite and write a report",
    "list": "print the jobs that a run would have",
    "validate": "check the configuration and report all of its errors",
    "doctor": "check versions, packages, compilers, GPU, Prefect, disk and memory",
    "schema": "print the JSON Schemas of configuration files and records",
    "report": "print the report of a run again",
    "rerun-failed": "lower again the jobs of a run that did not end as expected",
    "multirun": "run a Hydra sweep, with any of its sweepers",
    "probe": "find the widest range of a symbol that lowers and verifies",
    "explain": "trace the dims of a job, from the code line to MHLO",
    "show": "print the program of a job at a level",
    "exec": "run the lowered program of a job, at any sizes",
    "steps": "run a prompt and steps of generation, and compare each with eager",
    "bisect": "find the commit or package version that first changed how a job ends",
    "diff": "compare two runs; exit 1 on a regression",
    "blockers": "list what blocks the failed jobs of a run, best fix first",
    "coverage": "print what the jobs of a suite reach, by family and level",
    "note": "add a note to a cause of failures, shown in reports until it is gone",
    "tracker": "open, update and close the tickets of a run's causes",
    "update-expected": "update the expectations of a suite to the outcomes of a run",
    "pin": "make a run the baseline of its suite",
    "prune": "remove old runs, starting with the IR of old green runs",
    "cache": "inspect the store of stage results: ls, why, gc",
    "environments": "list the environments that jobs were run in, and remove them",
    "nightly": "serve a schedule that runs a suite",
    "server": "start, stop, open Prefect's server of this machine",
    "completion": "print a script that completes commands and options in bash or zsh",
}

COLUMNS = 100  # of help texts that are read
_WIDTH = max(map(len, VERBS)) + 2
USAGE = f"""usage: shapeline COMMAND [OPTION]... [KEY=VALUE]...

Lower PyTorch models with dynamic shapes, level by level, to MHLO.

commands:
{"".join(f"  {verb:{_WIDTH}}{line}{chr(10)}" for verb, line in VERBS.items())}
KEY=VALUE overrides the configuration, in Hydra's grammar:
  shapeline run suite=quickstart -k bert model.bert.symbols.seq.max=128
  shapeline run model=llama until=torchscript
  shapeline run model=./mine.yaml stages.export.decompose=core

`shapeline COMMAND --help` lists the options, with examples. `shapeline completion bash` completes them.
Exit status: 0 all as expected, 1 something is not, 2 usage or configuration error.
"""


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run `shapeline VERB ARGUMENTS` and return its exit status. ConfigError and InfraError pass through."""
    module = importlib.import_module(f"flows.command.{verb.replace('-', '_')}")
    return int(module.main(arguments))


def read_help(verb: str) -> str:
    """Return what `shapeline VERB --help` prints, in lines of at most COLUMNS characters."""
    text = io.StringIO()
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), str(COLUMNS)
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            run(verb, ["--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return text.getvalue().rstrip()
