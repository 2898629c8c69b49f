"""Measure the cost of the symbol log as the ratio of exports with and without it, alternating in one process.

    python -m benchmarks.symbol_log [--quick] [--json FILE]

For each model the table gives the CPU seconds of the bare torch.export.export, those of the same export under capture with the record, its
JSON and the trace for tlparse, and the median ratio of neighbouring pairs. It also gives the cost of the usual alternative: torch's own
TORCH_LOGS="+dynamic" text, written to a file.
"""

from __future__ import annotations

import argparse
import gc
import io
import itertools
import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lowering import files
from lowering.eager import inputs
from lowering.eager.module import instantiate
from lowering.fx import dynamic_shapes
from lowering.model import Input, Model, Symbol
from lowering.symbols.log.recording import record
from lowering.symbols.tracing import trace
from lowering.symbols.tracing.capture import SHAPES, capture
from lowering.symbols.tracing.selftest import run_self_test

# Each kind stands first, second and third, and after each other kind, equally often.
ORDERS = tuple(itertools.permutations(range(3)))
HF = "lowering.sources.huggingface.build"
TOKENS = {"dtype": "int64", "shape": ("batch", "seq"), "fill": {"randint": [0, 100]}}
BATCH_SEQ = {"batch": Symbol(1, 64), "seq": Symbol(2, 512)}


@dataclass(frozen=True)
class Row:
    """Medians of CPU seconds; ratio: median and quartiles over neighbouring pairs; symbols and relations: counts in the record."""

    model: str
    rounds: int
    bare_s: float
    logged_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    torch_text_ratio: float
    record_s: float
    symbols: int
    relations: int


def models(quick: bool) -> list[Model]:
    """Build an MLP and transformers of growing depth. With `quick`, only the two smallest."""
    depths = (2,) if quick else (2, 12)
    encoders = [Model(f"bert-{depth}", {
        "_target_": HF, "config": "BertConfig", "architecture": "BertModel",
        "kwargs": {"num_hidden_layers": depth, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100}},
        {"input_ids": Input(**TOKENS), "attention_mask": Input("int64", ("batch", "seq"), "ones")}, BATCH_SEQ) for depth in depths]
    mlp = Model("mlp", {"_target_": "lowering.sources.mlp.MLP", "width_in": 16, "width_hidden": 32, "width_out": 8},
                {"features": Input("float32", ("batch", 16))}, {"batch": Symbol(1, 1024)})
    return [mlp, *encoders]


def measure(model: Model, budget: float) -> Row:
    """Measure a model. Runs as many rounds of the three kinds as fit into `budget` seconds, between 12 and 90."""
    module, arguments, shapes = instantiate(model), inputs.make(model, model.examples()), dynamic_shapes.build_dynamic_shapes(model)

    def bare() -> Any:
        return torch.export.export(module, (), {**arguments, **model.constants}, dynamic_shapes=shapes, strict=False)

    taken: list[tuple[float, float, float]] = []
    recording: list[float] = []
    made: Any = None

    def logged() -> None:
        nonlocal made
        with capture(module) as log:
            program = bare()
        start = time.process_time()
        made = record(log, model, program, None)
        made.to_json()
        trace.render(log)
        recording.append(time.process_time() - start)

    kinds = (bare, logged, _with_text(bare))
    for run in kinds:
        run()
    recording.clear()
    rounds = min(90, max(12, int(budget / (3 * _seconds(bare)))))
    for number in range(rounds):
        seconds = {position: _seconds(kinds[position]) for position in ORDERS[number % len(ORDERS)]}
        taken.append((seconds[0], seconds[1], seconds[2]))
    ratios = [with_log / without for without, with_log, _ in taken]
    low, middle, high = statistics.quantiles(ratios, n=4)
    bare_s, logged_s = (statistics.median(row[kind] for row in taken) for kind in (0, 1))
    return Row(model.name, rounds, bare_s, logged_s, middle, low, high, statistics.median(text / without for without, _, text in taken),
               statistics.median(recording), len(made.symbols), len(made.relations))


def _with_text(bare: Callable[[], Any]) -> Callable[[], None]:
    """Run `bare` with the log that TORCH_LOGS="+dynamic" writes."""
    def run() -> None:
        logger, handler = logging.getLogger(SHAPES), logging.StreamHandler(io.StringIO())
        before, level = list(logger.handlers), logger.level
        logger.handlers[:] = [handler]
        logger.setLevel(logging.DEBUG)
        try:
            bare()
        finally:
            logger.handlers[:] = before
            logger.setLevel(level)

    return run


def _seconds(run: Callable[[], Any]) -> float:
    gc.collect()
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small models, fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    if problems := run_self_test():
        raise SystemExit("\n".join(problems))
    rows = [measure(model, 8.0 if options.quick else 40.0) for model in models(options.quick)]
    print(f"{'model':<10}{'rounds':>7}{'bare s':>9}{'logged s':>10}{'ratio':>8}{'quartiles':>16}{'TORCH_LOGS':>12}{'record s':>10}"
          f"{'symbols':>9}{'relations':>11}")
    for row in rows:
        span = f"{row.ratio_low:.3f}-{row.ratio_high:.3f}"
        print(f"{row.model:<10}{row.rounds:>7}{row.bare_s:>9.3f}{row.logged_s:>10.3f}{row.ratio:>8.3f}{span:>16}{row.torch_text_ratio:>12.3f}"
              f"{row.record_s:>10.4f}{row.symbols:>9}{row.relations:>11}")
    if options.json:
        files.write(options.json, {"benchmark": "symbol_log", "rows": [asdict(row) for row in rows]})
    print(json.dumps({"benchmark": "symbol_log", "ratio": {row.model: round(row.ratio, 3) for row in rows}}))


if __name__ == "__main__":
    main()
