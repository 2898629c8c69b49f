"""The files that a job delivers, read back from its folder, run, and compared with the eager results that verify recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lowering import files
from lowering.errors import Mismatch, Problem, ShapelineError, StageFailed
from lowering.ir import mlir
from lowering.numerics.coverage import recorded_points
from lowering.numerics.delivery import packaging, promises
from lowering.numerics.delivery.artifact import Artifact
from lowering.numerics.running import counted
from lowering.numerics.running.bodies import find_known_ints, restore_numbers
from lowering.numerics.running.runner import as_tensor, order_arguments
from lowering.numerics.running.xla import Xla
from lowering.plain import from_plain
from lowering.record.folder import SIGNATURE
from lowering.signature import Signature

_FIX = "the file is not the program that was verified: report it with the job's folder"


@dataclass(frozen=True)
class Recorded:
    """A point that verify kept: sizes, inputs and eager results by name, and the record of the stage."""

    sizes: Mapping[str, int]
    given: Mapping[str, torch.Tensor]
    want: Mapping[str, torch.Tensor]
    record: Mapping[str, Any]


def check(folder: Path) -> None:
    """Run the files of `folder` at the smallest recorded point without a size of 1; do nothing where no point was recorded.

    Raises Mismatch for wrong numbers, StageFailed where a file does not run.
    """
    if choose(folder) is not None:
        _check(Artifact.load(folder, trusted=True), sorted(folder.glob("*-torchscript*.pt")))  # this job wrote them


def check_entry(folder: Path, entry: str, job: Path) -> bool:
    """Run an entry of the joined program in `folder` as `check` does. Return whether it has weights and its job a recorded point."""
    if choose(job) is None or files.read(folder / SIGNATURE)["weights"] is None:
        return False
    packaged = Artifact.load(folder, trusted=True, entry=entry)
    own = from_plain(Signature, files.read(job / SIGNATURE)["signature"])
    if packaged.signature.states != own.states:
        cause = f"hands {_describe_states(packaged.signature)} on, and its job {_describe_states(own)}"
        raise Mismatch(Problem(f"entry '{entry}' of {SIGNATURE}", cause, _FIX))
    _check(packaged, ())
    return True


def _check(packaged: Artifact, scripts: Sequence[Path]) -> None:
    """Run a packaged program, and TorchScript files with its signature, and compare with the record of verification."""
    sizes = choose(packaged.records)
    assert sizes is not None
    point = Recorded(sizes, *recorded_points.find(packaged.records, sizes))
    wrong = _list_wrong_aliases(packaged)
    for name, results in _list_runs(packaged, scripts, point):
        compared = packaged.compare(results, point.want, point.record)
        wrong += [Problem(f"output '{output}' of {name}", found.detail, _FIX) for output, found in compared.items() if not found.agrees]
    if wrong:
        raise Mismatch(wrong)


def _list_wrong_aliases(packaged: Artifact) -> list[Problem]:
    if not any(mark in packaged.program for mark in ("tf.aliasing_output", "jax.buffer_donor")):
        return []  # most programs have no states, and need not be parsed
    return list(promises.find_wrong_aliases(packaged.signature, mlir.parse(packaged.program, mlir.create_hlo_context())))


def _describe_states(signature: Signature) -> str:
    """Return which results become which arguments."""
    pairs = [(signature.computed[result].label, signature.arguments[argument].name) for argument, result in signature.states.items()]
    return " and ".join(f"'{result}' as '{argument}'" for result, argument in pairs) or "nothing"


def choose(folder: Path) -> Mapping[str, int] | None:
    """Return the sizes of the recorded point with the fewest elements, without sizes of 1 where there is such a point."""
    kept = [point["sizes"] for record in sorted(folder.glob("*-verify.json")) for point in files.read(record)["kept"]]
    wide = [sizes for sizes in kept if min(sizes.values(), default=2) >= 2] or kept
    return min(wide, key=lambda sizes: sum(sizes.values()), default=None)


def _list_runs(packaged: Artifact, scripts: Sequence[Path], point: Recorded) -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    signature, device = packaged.signature, Xla("cpu", effort="quick")
    device.hold(packaged.weights)
    values = order_arguments(signature, packaged.weights, {argument.name: point.given[argument.name] for argument in signature.inputs})
    computed = device.run(packaged.program, values, find_known_ints(signature, values))
    yield packaging.PROGRAM, dict(zip((result.label for result in signature.returned), counted.trim(signature, computed), strict=True))
    for path in scripts:
        yield path.name, _run_script(path, packaged.signature, point.given)


def _run_script(path: Path, signature: Signature, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the results of a TorchScript file by name."""
    values = restore_numbers(signature, [given[argument.name].clone() if argument.kind == "input" else torch.empty(0)
                                      for argument in signature.arguments])
    inputs = [value for argument, value in zip(signature.arguments, values, strict=True) if argument.kind == "input"]
    try:
        with torch.no_grad(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined] # a first run is not optimized anyway
            found = torch.jit.load(str(path))(*inputs)
    except ShapelineError:
        raise
    except Exception as error:
        raise StageFailed(Problem(path.name, f"does not run: {str(error).strip().splitlines()[-1]}"), str(error)) from error
    results = found if isinstance(found, tuple) else (found,)
    return dict(zip((result.label for result in signature.returned), counted.trim(signature, list(map(as_tensor, results))), strict=True))
