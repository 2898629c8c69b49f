"""Measure the cost of lowering a model, side by side with the alternatives of a user, each contender in its own process.

    python -m benchmarks.lowering [--quick] [--models bert,encoder-12x1024] [--contenders A,B] [--repeat N] [--json FILE]

Contenders: Shapeline (model to MHLO by way of TorchScript), `route: fx` (torch-mlir's importer in our pipeline),
torch_mlir.fx.export_and_import (to StableHLO), torch.onnx.export(dynamo=True), and torchax. All start at the model's declaration and take
the same dynamic dims. Seconds are medians of wall and CPU time. `export s` is CPU inside torch.export.export, which all call. Shapeline's
writing of files is a column of its own, because the others write nothing. A contender that fails or cannot be installed is a row with the
reason. Packages that only a contender needs are installed into a separate folder (--packages), never into the environment.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contenders import OTHERS, Taken
from flows.config.plan import plan
from lowering import files
from lowering.errors import ConfigError

MAIN, BASELINE = "shapeline", "torch_mlir.fx"
ROUTES = {MAIN: "torchscript", "route fx": "fx"}
QUICK = ("encoder-4x256", "mlp", "bert")
PUBLISHED = ("bert_full", "gpt2_full", "vit_full", "resnet_full", "t5_full", "whisper_full")
SMALL = ("mlp", "bert", "llama", "gpt2", "vit", "resnet", "whisper", "t5")
ENCODERS = {"encoder-4x256": (4, 256), "encoder-8x512": (8, 512), "encoder-12x1024": (12, 1024)}  # layers, width; the last is 605 MB
TIMEOUT = 900


@dataclass(frozen=True)
class Row:
    """Median of a contender's runs of one model. failure: why there are no figures. Ratios are relative to the baseline (None: no pair)."""

    model: str
    contender: str
    taken: Taken | None
    failure: str = ""
    runs: int = 0
    ratio: float | None = None
    cpu_ratio: float | None = None
    memory_ratio: float | None = None


def encoder(layers: int, width: int) -> dict[str, Any]:
    """Declare a plain torch.nn encoder with dynamic batch and sequence, as a file of configs/model would."""
    layer = {"_target_": "torch.nn.TransformerEncoderLayer", "d_model": width, "nhead": width // 64, "dim_feedforward": 4 * width,
             "batch_first": True, "dropout": 0.0}
    stack = {"_target_": "torch.nn.TransformerEncoder", "encoder_layer": layer, "num_layers": layers, "enable_nested_tensor": False}
    return {"factory": stack, "inputs": {"src": {"dtype": "float32", "shape": ["batch", "seq", width]}},
            "symbols": {"batch": {"min": 1, "max": 64}, "seq": {"min": 1, "max": 512}}}


def jobs(names: Sequence[str], folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Return model, contender and job.json of each possible pair. ConfigError if a model is unknown or invalid."""
    for name in names:
        asked = name
        if name in ENCODERS:
            asked = str(folder / f"{name}.yaml")
            Path(asked).write_text(json.dumps(encoder(*ENCODERS[name])))
        for contender in (*ROUTES, *OTHERS):
            route = ROUTES.get(contender, "torchscript")
            (job,) = plan([f"model={asked}", f"route={route}", "~stages.verify"]).jobs
            path = folder / f"{name}-{route}.json"
            path.write_text(json.dumps(job))
            yield name, contender, path


def take(contender: str, job: Path, packages: Path) -> Taken | str:
    """Run one contender in a process of its own. Returns its figures, or the reason why there are none."""
    needed = OTHERS[contender][1] if contender in OTHERS else ()
    paths = [os.environ.get("PYTHONPATH", ""), str(packages / contender) if needed else ""]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.contenders", contender, str(job), folder]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return f"took longer than {TIMEOUT} s"
    if done.returncode != 0:
        return f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return Taken(**json.loads(done.stdout.splitlines()[-1]))


def install(contender: str, packages: Path) -> str:
    """Install the packages that only this contender needs. Returns the reason of a failure, else an empty string."""
    folder = packages / contender
    if not OTHERS[contender][1] or folder.is_dir():
        return ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *OTHERS[contender][1]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"does not install: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"


def median(taken: Sequence[Taken]) -> Taken:
    """Return the median of each figure."""
    merged: dict[str, Any] = {}
    for name, value in asdict(taken[0]).items():
        values = [getattr(one, name) for one in taken]
        merged[name] = _middle(values) if not isinstance(value, dict) else {
            stage: {key: _middle([one[stage][key] for one in values]) for key in figures} for stage, figures in value.items()}
    return Taken(**merged)


def _middle(values: Sequence[float]) -> float:
    return statistics.median_low(values)


def measure(names: Sequence[str], contenders: Sequence[str], repeat: int, packages: Path) -> list[Row]:
    """Return a row per model and contender. The runs of the contenders alternate, so that a noisy minute affects all of them."""
    rows = []
    absent = {contender: install(contender, packages) for contender in contenders if contender in OTHERS}
    with tempfile.TemporaryDirectory() as folder:
        asked = [one for one in jobs(names, Path(folder)) if one[1] in contenders]
        for name in names:
            mine = [(contender, job) for model, contender, job in asked if model == name]
            taken: dict[str, list[Taken]] = {contender: [] for contender, _ in mine}
            failures = {contender: absent.get(contender, "") for contender, _ in mine}
            for _ in range(repeat):
                for contender, job in mine:
                    if not failures[contender]:
                        result = take(contender, job, packages)
                        if isinstance(result, str):
                            failures[contender] = result
                        else:
                            taken[contender].append(result)
            found = [Row(name, contender, median(taken[contender]) if taken[contender] and not failures[contender] else None,
                         failures[contender], len(taken[contender])) for contender, _ in mine]
            found = with_ratios(found)
            print_rows(found)
            rows += found
    return rows


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    base = next((row.taken for row in rows if row.contender == BASELINE), None)
    return [row if base is None or row.taken is None else
            Row(row.model, row.contender, row.taken, row.failure, row.runs, row.taken.seconds / base.seconds,
                row.taken.cpu_seconds / base.cpu_seconds, row.taken.peak_bytes / base.peak_bytes) for row in rows]


HEAD = (f"{'model':<17}{'contender':<15}{'runs':>4}{'wall s':>9}{'cpu s':>8}{'export s':>9}{'saved s':>8}{'peak MB':>9}{'weights':>9}"
        f"{'wall x':>8}{'cpu x':>7}{'peak x':>7}")


def print_rows(rows: Sequence[Row]) -> None:
    for row in rows:
        taken, start = row.taken, f"{row.model:<17}{row.contender:<15}{row.runs:>4}"
        if taken is None:
            print(f"{start}  {row.failure}")
            continue
        ratios = "".join(f"{'' if ratio is None else format(ratio, '.2f'):>{width}}"
                         for ratio, width in ((row.ratio, 8), (row.cpu_ratio, 7), (row.memory_ratio, 7)))
        print(f"{start}{taken.seconds:>9.2f}{taken.cpu_seconds:>8.2f}{taken.capture_seconds:>9.2f}{taken.save_seconds:>8.2f}"
              f"{taken.peak_bytes / 1e6:>9.0f}{taken.weight_bytes / 1e6:>9.0f}{ratios}", flush=True)


def print_stages(rows: Sequence[Row]) -> None:
    """Print seconds and peak memory of each of Shapeline's stages."""
    names = list(dict.fromkeys(stage for row in rows if row.taken for stage in row.taken.stages))
    print(f"\n{'model':<17}{'contender':<15}" + "".join(f"{name + ' s':>15}{'MB':>7}" for name in names))
    for row in rows:
        if row.taken and row.taken.stages:
            cells = (row.taken.stages.get(name) for name in names)
            print(f"{row.model:<17}{row.contender:<15}" + "".join(
                f"{cell['seconds']:>15.2f}{cell['peak_bytes'] / 1e6:>7.0f}" if cell else f"{'-':>15}{'':>7}" for cell in cells))


def compute_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the geometric mean and the worst of the ratios to the baseline over the models that both lower, or None."""
    pairs = [row for row in rows if row.contender == MAIN and row.ratio is not None]
    found: dict[str, Any] = {"benchmark": "lowering", "against": BASELINE, "models": len(pairs)}
    for name in ("ratio", "cpu_ratio", "memory_ratio"):
        values = [getattr(row, name) for row in pairs]
        mean = math.exp(statistics.fmean(map(math.log, values))) if values else math.nan
        found[name] = {"geometric_mean": round(mean, 3), "worst": round(max(values), 3)} if values else None
    found["failed"] = [f"{row.model}: {row.contender}" for row in rows if row.taken is None]
    return found


def versions() -> Mapping[str, Any]:
    packages = {name: version(name) for name in ("torch", "torch-mlir", "jaxlib", "transformers")}
    return {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count(), **packages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}, each once")
    parser.add_argument("--models", help=f"names in configs/model, or {', '.join(ENCODERS)}; by default all of these and the quickstart's")
    parser.add_argument("--contenders", default=",".join((*ROUTES, *OTHERS)))
    parser.add_argument("--repeat", type=int, help="runs of each pair (3)")
    parser.add_argument("--packages", type=Path, default=Path.home() / ".cache/shapeline/benchmarks", help="where contenders' packages go")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    names = options.models.split(",") if options.models else QUICK if options.quick else (*ENCODERS, *SMALL, *PUBLISHED)
    contenders = options.contenders.split(",")
    if unknown := sorted(set(contenders) - {*ROUTES, *OTHERS}):
        parser.error(f"no contender {', '.join(unknown)}; there are {', '.join((*ROUTES, *OTHERS))}")
    print(", ".join(f"{name} {value}" for name, value in versions().items()))
    print(HEAD)
    try:
        rows = measure(names, contenders, options.repeat or (1 if options.quick else 3), options.packages)
    except ConfigError as error:
        raise SystemExit(f"--models: {error}") from error
    print_stages(rows)
    found = compute_figures(rows)
    if options.json:
        files.write(options.json, {**found, "environment": versions(), "rows": [asdict(row) for row in rows]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
