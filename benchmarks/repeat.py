"""Compare programs whose repeated layers were traced once with those that were traced whole, for every model of a suite.

    python -m benchmarks.repeat [--suite zoo] [-k PARTS] [--layers N] [--mhlo] [--json FILE]

Each model is made N layers deep (6) and exported with `repeat` off, auto and check, in a process of its own. Two programs are equal if
their code, the module and the line of each node, and the guards are; with --mhlo, also if their MHLO is. A row gives the calls that were
traced and replayed, the CPU seconds of both exports, and why calls were not replayed.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.apart import run_apart
from flows.config.plan import plan
from lowering import files
from lowering.ir import mlir
from lowering.job import Job
from lowering.level import Level, Program
from lowering.stage import Silent
from lowering.stages.export import readable_code

_DEPTH = re.compile(r"(?:^|_)(?:n_)?(?:layers?|blocks?)$")
MOST_SECONDS = 900


class Heard(Silent):
    """Keeps the symbol record."""

    def __init__(self) -> None:
        self.symbols: Mapping[str, Any] = {}

    def report(self, key: str, data: Any) -> None:
        self.symbols = data if key == "symbols" else self.symbols


def deepen(declared: Any, layers: int) -> Any:
    """Return the keyword arguments of a factory with each number of layers that is smaller raised to `layers`."""
    if isinstance(declared, Mapping):
        return {key: layers if isinstance(value, int) and not isinstance(value, bool) and _DEPTH.search(key) and 1 < value < layers
                else deepen(value, layers) for key, value in declared.items()}
    return declared


def lower(job: Mapping[str, Any], repeat: str, to_mhlo: bool) -> tuple[list[str], Mapping[str, Any], float]:
    """Return the texts of a program that must be equal, its symbol record, and the CPU seconds of its export."""
    stages = {name: {**stage, "repeat": repeat, "archive": False} if name == "export" else stage for name, stage in job["stages"].items()}
    read = Job.from_json({**job, "stages": stages})
    notes, program = Heard(), Program(Level.MODEL, read.model)
    texts: list[str] = []
    seconds = 0.0
    for name, stage in read.stages.items():
        start = time.process_time()
        program = stage.apply(program, notes)
        if name == "export":
            seconds = time.process_time() - start
            texts = [readable_code(program.ir), repr(program.signature), "\n".join(describe_nodes(program.ir))]
        if name == "mhlo" or (name == "export" and not to_mhlo):
            break
    return [*texts, *([mlir.text(program.ir)] if to_mhlo else [])], notes.symbols, seconds


def describe_nodes(program: torch.export.ExportedProgram) -> list[str]:
    return [f"{node.name} {node.meta.get('nn_module_stack')} {node.meta.get('stack_trace')}" for node in program.graph.nodes]


def compare(job: Mapping[str, Any], layers: int, to_mhlo: bool) -> dict[str, Any]:
    factory = job["model"]["factory"]
    deep = {**job,
            "model": {**job["model"],
                      "factory": {**factory, **deepen({key: value for key, value in factory.items() if key[0] != "_"}, layers)}}}
    try:
        whole, _, seconds = lower(deep, "off", to_mhlo)
    except Exception:  # noqa: BLE001 - some configs check their depth against another key
        deep = dict(job)
        try:
            whole, _, seconds = lower(deep, "off", to_mhlo)
        except Exception as error:  # noqa: BLE001 - a model that does not export
            return {"equal": None, "error": f"{type(error).__name__}: {error}"[:300]}
    try:
        copied, record, fast = lower(deep, "auto", to_mhlo)
        lower(deep, "check", False)
    except Exception as error:  # noqa: BLE001 - the row says so
        return {"equal": False, "error": f"{type(error).__name__}: {error}"[:600]}
    differ = [name for name, one, other in zip(("code", "signature", "nodes", "mhlo"), whole, copied, strict=False) if one != other]
    return {"equal": not differ, "differ": differ, "off": round(seconds, 2), "auto": round(fast, 2), "repeat": record.get("repeat", [])}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="zoo")
    parser.add_argument("-k", default="", metavar="PARTS", help="only models whose names begin with one of these, separated by commas")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--mhlo", action="store_true", help="lower to MHLO, and compare that too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there after each model")
    options = parser.parse_args(arguments)
    rows: dict[str, Any] = {}
    for job in plan([f"suite={options.suite}", "~stages.verify", "~stages.package"]).jobs:
        name = f"{job['model']['name']}--{job['variant']}"
        if not name.startswith(tuple(options.k.split(","))):
            continue
        row = run_apart(lambda job=job: compare(job, options.layers, options.mhlo), MOST_SECONDS)  # type: ignore[misc]
        rows[name] = row = {"equal": None, "error": row["failed"]} if "failed" in row else row
        calls = "; ".join(f"{one['module']} {one['traced']} + {one['replayed']}{': ' + one['why'] if one['why'] else ''}"
                          for one in row.get("repeat", ()))
        print(f"{name:<40} {row['equal']!s:<6} {row.get('off', 0):>7} {row.get('auto', 0):>7}  "
              f"{row.get('error', '') or row.get('differ') or ''}  {calls}", flush=True)
        if options.json:
            files.write(options.json, rows)
    return 1 if any(row["equal"] is False for row in rows.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
