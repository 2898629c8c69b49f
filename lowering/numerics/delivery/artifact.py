"""A lowered program as files that run without the model's Python code: signature.json, a portable StableHLO program, weights by digest."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lowering import files, trust
from lowering.custom import libraries
from lowering.eager import inputs
from lowering.errors import InfraError, Problem, Refused
from lowering.fitting import find_misfit
from lowering.ir import mlir, portable
from lowering.model import Model
from lowering.numerics import comparison
from lowering.numerics.comparison import Comparison
from lowering.numerics.coverage import recorded_points
from lowering.numerics.coverage.space import Space
from lowering.numerics.delivery import buckets, packaging
from lowering.numerics.delivery.buckets import Bucket, Dispatch
from lowering.numerics.judging.vectors import Owned
from lowering.numerics.running import counted
from lowering.numerics.running.bodies import find_known_ints
from lowering.numerics.running.runner import order_arguments
from lowering.numerics.running.xla import Xla
from lowering.plain import from_plain, to_plain
from lowering.record.folder import JOB, SIGNATURE, describe_library, is_own
from lowering.signature import ENTRIES_SCHEMA, SCHEMA, Signature
from lowering.store import weights
from lowering.types import DTYPES

_MOST = 2 << 30  # bytes of a program that is read
_TOO_LARGE = ("allocate memory", "overflow")  # what torch says of tensors that no memory holds
_ROOM = 2.0  # times the difference that verify allowed: another compilation of a program that was just inside may be just outside


@dataclass(frozen=True)
class Execution:
    """One run of an artifact. results: by name (`logits`; `buffer_mutation/…`); compared: by name, against the recorded eager results.

    bucket: the bucket whose static program ran, if one did. bucketed: whether the artifact has buckets that were asked.
    """

    sizes: Mapping[str, int]
    results: Mapping[str, torch.Tensor]
    seconds: float
    compared: Mapping[str, Comparison] | None = None
    bucket: Bucket | None = None
    bucketed: bool = False


@dataclass(frozen=True)
class Artifact:
    """An artifact that `packaging.save` wrote, or an entry of one that `joined.save` wrote, read back; weights are mapped from the store.

    records: the folder of the job, which has its record of verification.
    """

    folder: Path
    model: Model
    signature: Signature
    weights: Mapping[str, torch.Tensor]
    program: str
    dispatch: Dispatch | None = None
    records: Path = Path()

    @staticmethod
    def load(folder: Path, trusted: bool = False, tell: Callable[[str], None] = lambda line: None, entry: str | None = None) -> Artifact:
        """Load the artifact in a job's folder. Raises InfraError if a file is missing, broken, or not the one that was written.

        Untrusted when the model has op libraries, and this user made no such job. trusted: load them all the same, after a line of `tell`
        for each. entry: which function, of a program with several entries: Refused if it has no such entry.
        """
        path = folder / SIGNATURE
        with _convert_errors(path):
            data = files.read(path)
            function, records = None, folder
            if "entries" in data:
                function = entry
                data, records = _choose_entry(data, entry, folder)
            serialized = read_program(folder, data["program"]["file"], data["program"]["sha256"], SIGNATURE)
            if data["schema"] != SCHEMA:
                raise InfraError(Problem(str(path), f"has schema '{data['schema']}', this version reads '{SCHEMA}'", "run the job again"))
            if data["weights"] is None:
                fix = "package it with keep_weights, from a model that is not fake"
                raise InfraError(Problem(str(path), "was written without weights", fix))
            if misfit := find_misfit(Signature, data["signature"]):
                raise InfraError(Problem(f"{path} signature", misfit, "run the job again"))
            signature, model = from_plain(Signature, data["signature"]), from_plain(Model, data["model"])
            if entry not in (None, function, model.entry):
                raise Refused(Problem(f"entry '{entry}'", f"is not in {path}", f"its only entry is {model.entry or 'forward'}"))
            own = _is_own(records, data["model"])
            code = list(map(describe_library, model.libraries))
            if code and not own and not trusted:
                raise trust.refuse(str(path), code)
            for piece in code if not own else ():
                tell(piece)
            libraries.load(model)
            beside = folder / data["weights"]["store"]  # elsewhere when the files were taken from the store into a folder of another depth
            store = beside if (own or trusted) and beside.is_dir() else packaging.locate_store(folder)
            held = weights.read(store, data["weights"]["sha256"])
        return Artifact(folder, model, signature, held, _print_program(serialized, function), Dispatch.load(folder), records)

    def execute(self, sizes: Mapping[str, int], platform: str = "cpu", compare: bool = False, seed: int | None = None,
                dynamic: bool = False, steps: int = 1) -> Execution:
        """Run the program at `sizes` (every symbol that is not given: its example), on inputs filled as declared.

        Where a bucket serves the sizes its static program runs, on padded inputs, unless `dynamic`.

        compare: at the sizes of a recorded point, run its inputs and compare with the eager results in the record; InfraError when there
        are none. Refused says which size the program does not take.
        steps: how often the (dynamic) program runs, each time with the states that the last run left; results are those of the last run.
        """
        with _convert_errors(self.folder / SIGNATURE):
            space = Space.build(self.model, self.signature)
            full = self._choose_sizes(space, sizes, steps, compare)
            recorded = recorded_points.find(self.records, full) if compare else None
            names = {argument.name for argument in self.signature.inputs}
            made = recorded[0] if recorded else inputs.make(self.model, space.arguments(full), seed)
        xla = Xla(platform)
        xla.hold(self.weights)
        start = time.perf_counter()
        taken = {name: value for name, value in made.items() if name in names}
        dispatch = None if dynamic or steps > 1 else self.dispatch  # states keep their size from step to step
        bucket = dispatch.choose(full) if dispatch else None
        program = self.program
        if dispatch and bucket:
            with _convert_errors(self.folder / buckets.FILE):
                program = _print_program(read_program(self.folder, bucket.program, bucket.sha256, buckets.FILE))
                taken = dispatch.pad(taken, bucket)
        values = order_arguments(self.signature, self.weights, taken)
        known = find_known_ints(self.signature, values)
        computed = (xla.run(program, values, known) if steps == 1 else
                    xla.repeat(program, values, self.signature.states, steps, known))
        if dispatch and bucket:
            with _convert_errors(self.folder / buckets.FILE):
                computed = dispatch.crop(computed, full)
        else:
            computed = counted.trim(self.signature, computed)
        seconds = time.perf_counter() - start
        results = dict(zip((result.label for result in self.signature.returned), computed, strict=True))
        compared = None
        if recorded:
            with _convert_errors(self.records, "the record of verify"):
                compared = self.compare(results, *recorded[1:])
        return Execution(full, results, seconds, compared, bucket, dispatch is not None)

    def _choose_sizes(self, space: Space, sizes: Mapping[str, int], steps: int, compare: bool) -> dict[str, int]:
        """Return the size of each symbol. Raises Refused, with all that cannot be run so."""
        symbols = f"symbols: {', '.join(space.symbols) or 'none'}"
        wrong = [Problem(f"--size {name}", "is not a symbol of the program", symbols) for name in sizes if name not in space.symbols]
        full = {**space.example, **sizes}
        wrong += [Problem(f"--size {name}={full[name]}", f"is outside {symbol}")
                  for name, symbol in space.symbols.items() if not symbol.admits(full[name])]
        if steps > 1 and not self.signature.states:
            wrong.append(Problem(f"--steps {steps}", "the program has no state", "declare an input with `state: true` (docs/inputs.md)"))
        if steps > 1 and compare:
            wrong.append(Problem(f"--steps {steps}", "only one step is recorded", "remove --compare"))
        if wrong:
            raise Refused(wrong)
        return full

    def compare(self, results: Mapping[str, torch.Tensor], want: Mapping[str, torch.Tensor],
                  record: Mapping[str, Any]) -> dict[str, Comparison]:
        """Compare results with recorded ones by name; random ones, which one run cannot judge, are left out.

        Eigenvectors and singular vectors are turned to the recorded ones first (see `vectors`). A result may differ by twice the tolerance,
        and by twice what the record has for it where rounding or equal elements explained a difference: it was compiled again.
        """
        owned = Owned.from_tensors(record.get("vectors", {}), list(want))
        turned = owned.turn([results[name] for name in want], list(want.values())) if owned else []
        results = {**results, **dict(zip(want, turned, strict=False))}
        levels = [level["outputs"] for point in record["points"] for level in point["levels"].values()]
        held_to = {name: output["held_to"] for outputs in levels for name, output in outputs.items() if output.get("held_to")}
        explained: dict[str, float] = {}
        for name, output in (item for outputs in levels for item in outputs.items()):
            if output["detail"] and output["wrong"] is None:
                explained[name] = max(output["max_abs"], explained.get(name, 0.0))
        found = {}
        for name, value in want.items():
            if name not in record.get("random", ()):
                narrowest = DTYPES[held_to[name]].torch if name in held_to else None
                verified = comparison.find_tolerance(value.dtype, self.model.tolerances, value,
                                                     narrowest if _is_float(narrowest) else None)
                tolerance = replace(verified, atol=_ROOM * verified.atol, rtol=_ROOM * verified.rtol)
                compared = comparison.compare(results[name], value, tolerance)
                is_explained = compared.wrong == "values" and compared.max_abs <= _ROOM * explained.get(name, 0.0)
                found[name] = replace(compared, wrong=None) if is_explained else compared
        return found


def execute(folder: Path, sizes: Mapping[str, int], platform: str = "cpu", compare: bool = False, trusted: bool = False,
            tell: Callable[[str], None] = lambda line: None, dynamic: bool = False, steps: int = 1, entry: str | None = None) -> Execution:
    """Load an artifact and execute it, as `shapeline exec JOB --size NAME=SIZE` does."""
    return Artifact.load(folder, trusted, tell, entry).execute(sizes, platform, compare, dynamic=dynamic, steps=steps)


def read_program(folder: Path, name: Any, sha256: str, place: str) -> bytes:
    """Return a portable artifact in `folder`, which `place` names.

    Raises InfraError unless it is the one that was written, Untrusted if the name leads out of the folder, FileNotFoundError.
    """
    path = trust.locate_inside(folder, name, f"{folder / place} program")
    with files.open_regular(path) as content:
        serialized = content.read(_MOST + 1)
    if len(serialized) > _MOST:
        cause = f"has {files.measure_size(path):,} bytes, more than the {_MOST:,} that are read"
        raise InfraError(Problem(str(path), cause, "weights are in the store, not in the program: run the job again"))
    if hashlib.sha256(serialized).hexdigest() != sha256:
        raise InfraError(Problem(str(path), f"is not the program that {place} describes", "run the job again"))
    return serialized


@contextmanager
def _convert_errors(path: Path, what: str = "") -> Iterator[None]:
    """Convert the errors of damaged data to InfraError inside the block. what: the part of `path` that is read."""
    try:
        yield
    except FileNotFoundError as error:
        raise InfraError(Problem(str(error.filename), "is missing", "lower the model to MHLO first")) from error
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _TOO_LARGE):
            raise
        raise Refused(Problem("--size", "the tensors of these sizes do not fit into the memory", "choose smaller sizes")) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        cause = f"{what} cannot be read".strip()
        raise InfraError(Problem(str(path), f"{cause}: {type(error).__name__}: {error}", "run the job again")) from error


def _choose_entry(data: Mapping[str, Any], entry: str | None, folder: Path) -> tuple[Mapping[str, Any], Path]:
    """Return the description of an entry of a joined program in signature.json, and the folder of the entry's job. Raises Refused."""
    entries = data["entries"]
    if entry not in entries:
        said = data["missing"].get(entry)
        cause = f"was not joined: {said}" if said else "is not an entry of the program" if entry else "no entry is named"
        raise Refused(Problem(f"entry '{entry}'" if entry else str(folder / SIGNATURE), cause, f"entries: {', '.join(entries)}"))
    chosen = entries[entry]
    merged = {**data, **chosen, "schema": SCHEMA if data["schema"] == ENTRIES_SCHEMA else data["schema"]}
    if chosen["job"] is None:
        return merged, folder
    return merged, trust.locate_inside(folder.parent, chosen["job"], f"{folder / SIGNATURE} entries.{entry}.job")


def _print_program(serialized: bytes, entry: str | None = None) -> str:
    return mlir.text(portable.deserialize(serialized, entry), elide=None)


def is_own_job(folder: Path, model: Model) -> bool:
    """Return whether the job in `folder` is this user's and has that model."""
    return _is_own(folder, to_plain(model))


def _is_own(folder: Path, model: Any) -> bool:
    """Return whether the job in `folder` is this user's and has that model: the artifact may have come from the store of somebody else."""
    try:
        job = files.read(folder / JOB)
    except (OSError, ValueError):
        return False
    return is_own(job) and job["model"] == model


def _is_float(dtype: torch.dtype | None) -> bool:
    return dtype is not None and (dtype.is_floating_point or dtype.is_complex)
