"""One step of generation with a cache: XLA on Shapeline's MHLO beside eager and torch.compile.

    python -m benchmarks.decode [--quick] [--no-compile] [--json FILE]

The model is Llama-3-8B at a quarter of its widths, with LAYERS layers, VOCABULARY tokens and seeded random weights. Each of POINTS is a
batch and a number of tokens in the cache. `static` is a cache of fixed length that is written in place (`configs/model/llama_static.yaml`);
`growing` is one that is returned one token longer (`configs/model/llama_decode.yaml`).

Shapeline's module has a dynamic batch and, where the cache grows, a dynamic past. XLA refines it to the point. Its states are aliased, so
that no step copies the cache. torch.compile compiles for the point. Reported are CPU seconds on one thread: medians of ROUNDS rounds in
which every contender runs once, in random order; the time to compile; and the bytes that XLA's cost analysis counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.mhlo_quality import lower, summarize
from lowering import files
from lowering.eager import inputs
from lowering.eager.arguments import assemble
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Built
from lowering.numerics.running import xla
from lowering.numerics.running.runner import order_arguments
from lowering.plain import from_plain

LAYERS, VOCABULARY, ROUNDS = 4, 32000, 21
POINTS = ((1, 128), (8, 128), (1, 2048), (8, 2048))  # batch, tokens in the cache
QUICK = ((1, 128),)
KINDS = {"static": "llama_static", "growing": "llama_decode"}
WIDTHS = {"vocab_size": VOCABULARY, "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": LAYERS, "num_attention_heads": 8,
          "num_key_value_heads": 2, "max_position_embeddings": 4096}  # fmt: skip
ROOM = 128  # tokens that fit into a static cache after those in it


@dataclass(frozen=True)
class Contender:
    """One way to run the step. `prepare` makes the arguments, outside of the time that is measured."""

    prepare: Callable[[], Any]
    run: Callable[[Any], Any]
    compiled: float = 0.0


@dataclass(frozen=True)
class Row:
    """Medians of CPU seconds by contender; compiled: CPU seconds of its compiler; bytes_accessed: of XLA's program."""

    kind: str
    batch: int
    past: int
    seconds: Mapping[str, float]
    compiled: Mapping[str, float]
    bytes_accessed: float
    ops: int
    failures: Mapping[str, str] = field(default_factory=dict)


def lower_step(kind: str, past: int) -> Program:
    """Lower the step of one kind of cache to MHLO. A static cache has room for `past` tokens and some more."""
    name = KINDS[kind]
    cache = f"model.{name}.inputs.past_key_values.layers"
    length = past + ROOM if kind == "static" else "past"
    widths = [f"model.{name}.factory.kwargs.{key}={value}" for key, value in WIDTHS.items()]
    shapes = [f"{cache}.{part}.shape=[batch,2,{length},128]" for part in ("keys", "values")]
    filled = [f"{cache}.cumulative_length.fill.constant={past}"] if kind == "static" else [f"model.{name}.symbols.past.max=4095"]
    return lower(name, *widths, *shapes, *filled, f"{cache}.repeat={LAYERS}", "until=mhlo", "stages.export.archive=false")


def measure(kind: str, batch: int, past: int, with_compile: bool) -> Row:
    program = lower_step(kind, past)
    built = program.at(Level.MODEL)
    assert built is not None and isinstance(built.ir, Built) and program.signature is not None
    sizes = {"batch": batch, "past": past}
    given = inputs.make(built.ir.model, {name: sizes[name] for name in built.ir.model.symbols})
    shapeline, cost = _shapeline(program, given)
    contenders, failures = {"shapeline": shapeline, "eager": _torch(built.ir, built.ir.module, given)}, {}
    if with_compile:
        try:
            contenders["torch.compile"] = _compile(built.ir, given)
        except Exception as error:  # noqa: BLE001 - whatever a contender raises is its cell
            failures["torch.compile"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:160]
    compiled = {name: contender.compiled for name, contender in contenders.items()}
    ops = sum(mlir.count_ops(program.ir).values())
    return Row(kind, batch, past, measure_seconds(contenders), compiled, cost, ops, failures)


def _shapeline(program: Program, given: Mapping[str, torch.Tensor]) -> tuple[Contender, float]:
    """Prepare XLA on the MHLO, and return the bytes that it accesses too."""
    assert program.signature is not None
    device = xla.Xla("cpu")
    device.hold(program.weights)
    values = order_arguments(program.signature, program.weights, given)
    began = time.process_time()
    executable = device.prepare(mlir.text(program.ir, elide=None), values)
    compiled = time.process_time() - began
    step = device.stepper(executable, values, program.signature.states)
    if (folder := os.environ.get("DECODE_HLO")) is not None:
        Path(folder).write_text(executable.hlo_modules()[0].to_string(), encoding="utf-8")
    return Contender(lambda: None, lambda _: step(), compiled), float(executable.cost_analysis().get("bytes accessed", math.nan))


def _torch(built: Built, module: Any, given: Mapping[str, torch.Tensor], compiled: float = 0.0) -> Contender:
    """Prepare a call of the module. The cache is built for every step: a growing one grows, a static one is written."""

    def run(prepared: Any) -> Any:
        with torch.no_grad():
            return module(**prepared)

    lengths = {name: value.clone() for name, value in given.items() if value.dim() == 0}

    def prepare() -> Any:
        for name, value in lengths.items():
            given[name].copy_(value)
        return assemble(built.model, built.module, given)

    return Contender(prepare, run, compiled)


def _compile(built: Built, given: Mapping[str, torch.Tensor]) -> Contender:
    module = torch.compile(built.module, dynamic=False)
    began = time.process_time()
    contender = _torch(built, module, given)
    contender.run(contender.prepare())
    return Contender(contender.prepare, contender.run, time.process_time() - began)


def measure_seconds(contenders: Mapping[str, Contender]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    order = random.Random(0)
    for number in range(ROUNDS + 2):  # the first two warm up
        for name in order.sample(list(contenders), len(contenders)):
            prepared = contenders[name].prepare()
            began = time.process_time()
            contenders[name].run(prepared)
            if number >= 2:
                taken[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def run_apart(kind: str, batch: int, past: int, with_compile: bool) -> Row:
    """Measure one row in an interpreter of its own: compilers and caches of one row do not serve another."""
    command = [sys.executable, "-m", "benchmarks.decode", "--one", f"{kind},{batch},{past}", *([] if with_compile else ["--no-compile"])]
    # XLA and inductor read these once
    threads = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()}
    found = subprocess.run(command, env={**os.environ, **threads, "TORCHINDUCTOR_COMPILE_THREADS": "1"}, stdout=subprocess.PIPE, text=True,
                           check=True)  # fmt: skip
    return from_plain(Row, json.loads(found.stdout.splitlines()[-1]))


def compute_ratios(rows: list[Row], against: str) -> list[float]:
    """Return Shapeline's seconds divided by the contender's, of every row that both ran."""
    return [row.seconds["shapeline"] / row.seconds[against] for row in rows if against in row.seconds]


def show(row: Row) -> None:
    cells = "  ".join(f"{name} {value * 1e3:.1f} ms ({row.seconds['shapeline'] / value:.2f})" for name, value in row.seconds.items())
    compiled = ", ".join(f"{name} {value:.1f} s" for name, value in row.compiled.items() if value)
    print(f"{row.kind:<8} batch {row.batch}, past {row.past:<5} {cells}  compile: {compiled}; {row.bytes_accessed / 1e6:.0f} MB, "
          f"{row.ops} ops",
          *(f"\n  {name}: {failure}" for name, failure in row.failures.items()), flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only batch 1 with 128 tokens in the cache")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--one", metavar="KIND,BATCH,PAST", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        kind, batch, past = options.one.split(",")
        print(json.dumps(asdict(measure(kind, int(batch), int(past), not options.no_compile))))
        return
    rows = []
    for kind in KINDS:
        for batch, past in QUICK if options.quick else POINTS:
            rows.append(run_apart(kind, batch, past, not options.no_compile))
            show(rows[-1])
    ratios = {name: compute_ratios(rows, name) for name in ("torch.compile", "eager")}
    found = {"benchmark": "decode", "rows": len(rows), **summarize(ratios)}
    if options.json:
        files.write(options.json, {**found, "rows": [asdict(row) for row in rows]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
