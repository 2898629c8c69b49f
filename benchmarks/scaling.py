"""Measure how the cost of lowering grows with depth, with the width of a range and with the number of symbols.

Linear growth is expected with depth, none with the other two.

    python -m benchmarks.scaling [--quick] [--axes depth,range,symbols] [--repeat N] [--json FILE]

Each point runs in a process of its own (benchmarks.contenders), from the declaration to MHLO. Seconds are CPU without the writing of files,
medians of the repetitions. For depth, a line is fitted through the points. The table gives its slope in ms per layer, the explained share
of the variance (R²), and the exponent of the power law through the same points after the cost of zero layers is subtracted.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import Taken
from benchmarks.lowering import MAIN, encoder, median, take, versions
from flows.config.plan import plan
from lowering import files

DEPTHS, QUICK_DEPTHS = (4, 8, 16, 32, 64, 96, 160), (2, 4, 8)
WIDTHS = (64, 1024, 1 << 20)  # upper ends of a range that begins at 1
SYMBOLS = (1, 2, 4, 8, 16)
WIDTH = 64  # of the encoder: small, because the cost of weights is not measured here
INPUTS = 16
AXES = ("depth", "range", "symbols")


class Fan(torch.nn.Module):
    """Apply one layer to sixteen inputs. The work does not depend on how many symbols name their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(
        self, x0: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor, x3: torch.Tensor, x4: torch.Tensor, x5: torch.Tensor, x6: torch.Tensor,
        x7: torch.Tensor, x8: torch.Tensor, x9: torch.Tensor, x10: torch.Tensor, x11: torch.Tensor, x12: torch.Tensor, x13: torch.Tensor,
        x14: torch.Tensor, x15: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        parts = (x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15)
        return torch.stack([torch.nn.functional.gelu(self.layer(part)).sum(0) for part in parts])


@dataclass(frozen=True)
class Point:
    """CPU seconds at one value of an axis, in total and per stage."""

    axis: str
    value: int
    seconds: float
    stages: Mapping[str, float]


@dataclass(frozen=True)
class Fit:
    """Line through points. slope: per unit; start: value at 0; explained: R²; exponent: of the power law without the start."""

    slope: float
    start: float
    explained: float
    exponent: float


def fan(symbols: int) -> dict[str, Any]:
    return {
        "factory": {"_target_": "benchmarks.scaling.Fan"},
        "inputs": {f"x{number}": {"dtype": "float32", "shape": [f"s{number % symbols}", 8]} for number in range(INPUTS)},
        "symbols": {f"s{number}": {"min": 1, "max": 512} for number in range(symbols)},
    }


def widen(upper: int) -> dict[str, Any]:
    declared = encoder(4, WIDTH)
    return {**declared, "symbols": {name: {"min": 1, "max": upper} for name in declared["symbols"]}}


def declare(quick: bool) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield axis, value, and the model as a file of configs/model would declare it."""
    yield from (("depth", depth, encoder(depth, WIDTH)) for depth in (QUICK_DEPTHS if quick else DEPTHS))
    yield from (("range", upper, widen(upper)) for upper in (WIDTHS[::2] if quick else WIDTHS))
    yield from (("symbols", count, fan(count)) for count in (SYMBOLS[::4] if quick else SYMBOLS))


def measure(axis: str, value: int, model: Mapping[str, Any], repeat: int) -> Point:
    """Return the medians of `repeat` processes. RuntimeError gives the reason if a process failed."""
    with tempfile.TemporaryDirectory() as folder:
        file, path = Path(folder, f"{axis}-{value}.yaml"), Path(folder, "job.json")
        file.write_text(json.dumps(model))
        (job,) = plan([f"model={file}", "~stages.verify", "~stages.package"]).jobs
        path.write_text(json.dumps(job))
        taken: list[Taken] = []
        for _ in range(repeat):
            found = take(MAIN, path, Path(folder))
            if isinstance(found, str):
                raise RuntimeError(f"{axis} {value}: {found}")
            taken.append(found)
    middle = median(taken)
    return Point(axis, value, middle.cpu_seconds, {name: stage["cpu_seconds"] for name, stage in middle.stages.items()})


def fit_line(values: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Fit a line through three or more points at different values."""
    slope, start = statistics.linear_regression(values, seconds)
    grown = [(math.log(value), math.log(second - start)) for value, second in zip(values, seconds, strict=True) if second > start]
    exponent = statistics.linear_regression(*zip(*grown, strict=True)).slope if len(grown) > 1 else math.nan
    return Fit(slope, start, statistics.correlation(values, seconds) ** 2, exponent)


def print_point(point: Point) -> None:
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in point.stages.items())
    print(f"{point.axis:<9}{point.value:>8}{point.seconds:>9.2f} s  ({stages})", flush=True)


def compute_figures(points: Sequence[Point]) -> dict[str, Any]:
    """Return the fit in total and per stage for depth, and the ratio of the largest to the smallest value for the other axes."""
    found: dict[str, Any] = {"benchmark": "scaling"}
    for axis in dict.fromkeys(point.axis for point in points):
        mine = [point for point in points if point.axis == axis]
        if axis != "depth":
            found[axis] = {"most_to_least": round(max(point.seconds for point in mine) / min(point.seconds for point in mine), 3)}
            continue
        depths = [float(point.value) for point in mine]
        lines = {name: [point.seconds if name == "all" else point.stages[name] for point in mine] for name in ("all", *mine[0].stages)}
        fits = {name: fit_line(depths, seconds) for name, seconds in lines.items()}
        found[axis] = {name: {"ms_a_layer": round(1000 * fit.slope, 2), "start_s": round(fit.start, 3), "r2": round(fit.explained, 4),
                              "exponent": round(fit.exponent, 3)} for name, fit in fits.items()}
    return found


def print_figures(found: Mapping[str, Any]) -> None:
    for name, fit in found.get("depth", {}).items():
        print(f"{name:<12}{fit['ms_a_layer']:>9.1f} ms a layer + {fit['start_s']:>6.2f} s, R² {fit['r2']:.4f}, exponent "
              f"{fit['exponent']:.2f}")
    for axis in AXES[1:]:
        if axis in found:
            print(f"{axis:<12}{found[axis]['most_to_least']:>9.2f} times the least at most")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few points, each once")
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--repeat", type=int, help="processes a point (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the points there too")
    options = parser.parse_args(arguments)
    axes = options.axes.split(",")
    if unknown := sorted(set(axes) - set(AXES)):
        parser.error(f"no axis {', '.join(unknown)}; there are {', '.join(AXES)}")
    print(", ".join(f"{name} {value}" for name, value in versions().items()))
    points = []
    for axis, value, model in declare(options.quick):
        if axis in axes:
            points.append(measure(axis, value, model, options.repeat or (1 if options.quick else 3)))
            print_point(points[-1])
    found = compute_figures(points)
    print_figures(found)
    if options.json:
        rows = [{"axis": point.axis, "value": point.value, "seconds": point.seconds, "stages": dict(point.stages)} for point in points]
        files.write(options.json, {**found, "environment": versions(), "points": rows})
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
