"""Numbers of a delivered program on a GPU beside eager's, for `benchmarks.gpu`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from lowering import files
from lowering.errors import Refused, ShapelineError
from lowering.numerics.coverage.space import Space
from lowering.numerics.delivery.artifact import Artifact
from lowering.numerics.running import static_modules, xla

STEPS = 8


def check(folder: Path, platform: str, count: int) -> tuple[str, ...]:
    """Return the cells of a job's row."""
    try:
        packaged = Artifact.load(folder, trusted=True)
    except ShapelineError as error:
        return (f"not loaded: {error}", *[""] * 5)
    points = [point["sizes"] for record in sorted(folder.glob("*-verify.json")) for point in files.read(record)["kept"]][:count]
    agreed, worst, relative, wrong = 0, 0.0, 0.0, []
    for sizes in points:
        try:
            compared = packaged.execute(sizes, platform, compare=True).compared or {}
        except ShapelineError as error:
            wrong.append(f"{sizes}: {error}")
            continue
        bad = [f"{sizes}: {name} {found.detail}" for name, found in compared.items() if not found.agrees]
        agreed += not bad
        wrong += bad
        worst = max([worst, *(found.max_abs for found in compared.values())])
        relative = max([relative, *(found.max_rel for found in compared.values())])
    cells = [f"{agreed} of {len(points)} agree", f"{worst:.1e}", f"{relative:.1e}"]
    cells.append(attempt(lambda: check_mhlo(packaged, points[0], platform)) if points else "")
    cells.append(attempt(lambda: check_refusals(packaged)))
    cells.append(attempt(lambda: check_steps(packaged, platform)) if packaged.signature.states else "")
    for text in wrong:
        cells[0] += f"; {' '.join(text.split())[:300]}"
    return tuple(cells)


def attempt(work: Callable[[], str]) -> str:
    """Return what came of some work, or the error that ended it: a row is written in any case."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def check_mhlo(packaged: Artifact, sizes: Mapping[str, int], platform: str) -> str:
    """Run the job's MHLO, the text that the run kept, at a recorded point, and compare with eager."""
    text = next(path for path in packaged.folder.glob("*.mhlo.mlir")).read_text(encoding="utf-8")
    if "__elided__" in text:  # a reader would take other constants
        return "the text has no large constants"
    compared = replace(packaged, program=text, dispatch=None).execute(sizes, platform, compare=True).compared or {}
    return "agrees" if all(found.agrees for found in compared.values()) else "differs"


def check_refusals(packaged: Artifact) -> str:
    """Ask the program for sizes below and above each symbol's range. Return how many it refused, and its words for the first."""
    signature = packaged.signature
    symbols, example = packaged.model.symbols, Space.build(packaged.model, signature).example
    asked, words = 0, []
    for name, symbol in symbols.items():
        for size in (symbol.min - 1, symbol.max + 1):
            if size < 1:
                continue
            asked += 1
            try:
                xla.refine(packaged.program, *static_modules.find_shapes(signature, {**example, name: size}))
            except Refused as error:
                words.append(error.problems[0].cause)
    return f"{len(words)} of {asked}" + (f": {words[0]}" if words else "")


def check_steps(packaged: Artifact, platform: str) -> str:
    """Run steps that hand their states on, on the platform and on XLA's CPU."""
    found, want = (packaged.execute({}, where, steps=STEPS).results for where in (platform, "cpu"))
    error = max((found[name].double() - value.double()).abs().max().item() for name, value in want.items() if value.numel())
    return f"{STEPS} steps, largest difference {error:.1e}"
