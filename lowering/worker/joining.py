"""`python -m lowering.worker.joining FOLDER...`: join the programs of the entries that join.json in each folder names."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lowering.errors import ShapelineError
from lowering.ir import joining, mlir, text_files
from lowering.level import Level
from lowering.numerics.delivery import delivered, joined, packaging
from lowering.numerics.delivery.joined import Part
from lowering.record.failure import classify
from lowering.record.joining import Joining

MLIR = {Level.TORCH: mlir.create_torch_context, Level.STABLEHLO: mlir.create_torch_context, Level.MHLO: mlir.create_hlo_context}


def main(arguments: Sequence[str]) -> None:
    """Join the programs for each folder, and write what came of it to join.json."""
    for folder in map(Path, arguments):
        request = Joining.load(folder)
        if request is None:
            raise SystemExit(f"{folder} has no request to join programs")
        join(folder, request).save(folder)


def join(folder: Path, request: Joining) -> Joining:
    """Write the joined program and the joined texts of each level to `folder`, run its functions, and return the ended record."""
    checked: tuple[str, ...] = ()
    try:
        jobs = {entry: folder.parent / name for entry, name in request.jobs.items()}
        joined.save({entry: Part.load(job) for entry, job in jobs.items()}, folder, packaging.locate_store(folder), request.missing)
        save_levels(folder, jobs)
        for entry, job in jobs.items():
            if delivered.check_entry(folder, entry, job):
                checked += (entry,)
    except Exception as error:  # noqa: BLE001 - a model's failure is data
        if not isinstance(error, ShapelineError):
            traceback.print_exc()
        outcome, problems = classify(error)
        return replace(request, outcome=outcome, problems=problems, checked=checked)
    return replace(request, outcome="ok", checked=checked)


def save_levels(folder: Path, jobs: Mapping[str, Path]) -> None:
    """Write one text for each level in MLIR that all `jobs` have. Raises StageFailed, OSError, ValueError for a damaged text."""
    texts = {entry: {text_files.text_name(path): path for path in sorted(job.iterdir()) if ".mlir" in path.suffixes}
             for entry, job in jobs.items()}
    for name in next(iter(texts.values())):
        level = next((level for level in MLIR if name.endswith(level.suffix)), None)
        if level is None or any(name not in found for found in texts.values()):
            continue
        found = {entry: text_files.read_text(paths[name]) for entry, paths in texts.items()}
        (folder / name).write_text(joining.join_texts(found, MLIR[level]()), encoding="utf-8")
        text_files.compact(folder / name)


if __name__ == "__main__":
    main(sys.argv[1:])
