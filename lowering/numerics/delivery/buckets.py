"""Buckets: static programs for chosen sizes, and the rule by which inputs of other sizes are padded up to one of them.

`dispatch.json` beside the programs has all that a runtime needs: arguments and results in order with their dims, the value that pads each
input, and for each bucket its sizes and its program. Inputs are padded, and results cropped, at the end of each dim.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lowering import files
from lowering.errors import InfraError, Problem, Refused, Unsupported
from lowering.fitting import find_misfit
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Model
from lowering.numerics.running import static_modules
from lowering.numerics.running.runner import Tensors
from lowering.numerics.running.static_modules import StaticModule
from lowering.plain import from_plain, to_plain
from lowering.signature import Signature
from lowering.sizes import evaluation

SCHEMA = "shapeline/dispatch/1"
FILE = "dispatch.json"
FOLDER = "buckets"
RULE = ("of the buckets whose sizes are all as large as the inputs', equal in those listed as exact, the first runs; inputs are padded and "
        "results cropped at the end of each dim")  # fmt: skip


@dataclass(frozen=True)
class Bucket:
    """A static program for `sizes` of all symbols.

    program, stablehlo, mhlo: its files, relative to the job's folder: the portable artifact, and the texts of both levels (`.zst` if
        compressed).
    exact: symbols that must not be padded, since results differ then. cost: that of a StaticModule, and the CPU time of its comparison.
    """

    sizes: Mapping[str, int]
    program: str
    sha256: str
    stablehlo: str
    mhlo: str
    cost: Mapping[str, float] = field(default_factory=dict)
    exact: tuple[str, ...] = ()

    def serves(self, sizes: Mapping[str, int]) -> bool:
        return all(sizes[name] == size if name in self.exact else sizes[name] <= size for name, size in self.sizes.items())

    def __str__(self) -> str:
        return evaluation.text(self.sizes)


@dataclass(frozen=True)
class Argument:
    """An argument of every bucket's program. dims: ints and expressions of the symbols; pad: the number that an input is padded with."""

    kind: str
    name: str
    dtype: str
    dims: tuple[int | str, ...]
    pad: float | None = None
    value: str | None = None


@dataclass(frozen=True)
class Result:
    name: str
    dtype: str | None
    dims: tuple[int | str, ...]


@dataclass(frozen=True)
class Dispatch:
    """The buckets of a program, those with the fewest products first."""

    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    buckets: tuple[Bucket, ...]
    schema: str = SCHEMA
    rule: str = RULE

    @staticmethod
    def build(model: Model, signature: Signature, buckets: Sequence[Bucket]) -> Dispatch:
        arguments = tuple(Argument(argument.kind, argument.name, argument.dtype, argument.dims,
                                   model.leaves[argument.name].pad if argument.kind == "input" else None, argument.value)
                          for argument in signature.arguments)
        results = tuple(Result(result.label, result.dtype, result.dims) for result in signature.returned)
        ordered = sorted(buckets, key=lambda bucket: (bucket.cost["products"], list(bucket.sizes.values())))
        return Dispatch(arguments, results, tuple(ordered))

    @staticmethod
    def load(folder: Path) -> Dispatch | None:
        """Read the dispatch.json of a job's folder; None if it has none. Raises InfraError."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            data = files.read(path)
            if misfit := find_misfit(Dispatch, data):
                raise InfraError(Problem(str(path), misfit, "run the job again"))
            found = from_plain(Dispatch, data)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InfraError(Problem(str(path), f"cannot be read: {error}", "run the job again")) from error
        if found.schema != SCHEMA:
            raise InfraError(Problem(str(path), f"has schema '{found.schema}', this version reads '{SCHEMA}'", "run the job again"))
        return found  # type: ignore[no-any-return]

    def choose(self, sizes: Mapping[str, int]) -> Bucket | None:
        """Choose the cheapest bucket that serves `sizes`."""
        return next((bucket for bucket in self.buckets if bucket.serves(sizes)), None)

    def pad(self, given: Tensors, bucket: Bucket) -> dict[str, torch.Tensor]:
        """Fill each input up to the sizes of the bucket. An int is the bucket's size."""
        declared = {argument.name: argument for argument in self.arguments if argument.kind == "input"}
        found = {}
        for name, value in given.items():
            argument = declared[name]
            found[name] = (torch.tensor(bucket.sizes[argument.value]) if argument.value is not None
                           else fill_up(value, evaluation.shape_at(argument.dims, bucket.sizes), argument.pad or 0))
        return found

    def crop(self, computed: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
        """Take the part of each result that belongs to inputs of these sizes."""
        return tuple(value[tuple(slice(size) for size in evaluation.shape_at(result.dims, sizes))]
                     for value, result in zip(computed, self.results, strict=True))


def fill_up(value: torch.Tensor, shape: Sequence[int], pad: float | torch.Tensor) -> torch.Tensor:
    """Enlarge `value` to `shape` with a number, or with the elements of a tensor of that shape."""
    if tuple(value.shape) == tuple(shape):
        return value
    filled = pad.clone() if isinstance(pad, torch.Tensor) else torch.full(tuple(shape), pad).to(value.dtype)
    filled[tuple(map(slice, value.shape))] = value
    return filled


def combine(buckets: Mapping[str, Sequence[int]]) -> Iterator[dict[str, int]]:
    """Yield every combination of the sizes of all symbols."""
    for sizes in itertools.product(*buckets.values()):
        yield dict(zip(buckets, sizes, strict=True))


def make_all(program: Program, model: Model, target: str = "WEEK_4", entry: str = "main") -> list[StaticModule]:
    """Make the static program of each bucket of `model`, see `static_modules.make`. Raises Unsupported with each that cannot be made."""
    assert program.signature is not None
    open_ = [name for name in program.signature.symbols if name not in model.buckets and _is_read(program.signature, name)]
    problems = [Problem("buckets", f"give no size of '{name}', which some dim still depends on", "declare a symbol for that dim")
                for name in open_]
    found = []
    for sizes in [] if problems else combine(model.buckets):
        try:
            found.append(static_modules.make(program, sizes, target, entry))
        except (Refused, Unsupported) as error:
            problems += [Problem(f"bucket {evaluation.text(sizes)}", problem.cause, problem.fix) for problem in error.problems]
    if problems:
        raise Unsupported(problems)
    return found


def _is_read(signature: Signature, symbol: str) -> bool:
    return any(isinstance(dim, str) and symbol in evaluation.symbols_in(dim) for argument in signature.arguments for dim in argument.dims)


def describe(module: StaticModule) -> Bucket:
    """Return the bucket of a static program, with the names of the files that `save` writes."""
    stem = f"{FOLDER}/{'-'.join(f'{name}{size}' for name, size in module.sizes.items())}"
    return Bucket(module.sizes, f"{stem}.stablehlo", hashlib.sha256(module.artifact).hexdigest(), f"{stem}{Level.STABLEHLO.suffix}",
                  f"{stem}{Level.MHLO.suffix}", module.cost)


def save(folder: Path, dispatch: Dispatch, modules: Sequence[StaticModule]) -> list[Path]:
    """Write dispatch.json and the programs into a job's folder."""
    by_sizes = {tuple(module.sizes.items()): module for module in modules}
    (folder / FOLDER).mkdir(exist_ok=True)
    for path in (folder / FOLDER).iterdir():  # of an earlier attempt; it may be a link into the store
        path.unlink()
    saved = [folder / FILE]
    for bucket in dispatch.buckets:
        module = by_sizes[tuple(bucket.sizes.items())]
        files.write_bytes(folder / bucket.program, module.artifact)
        for name, level in ((bucket.stablehlo, module.stablehlo), (bucket.mhlo, module.mhlo)):
            (folder / name).write_text(mlir.print_annotated(level), encoding="utf-8")
            saved.append(folder / name)
        saved.append(folder / bucket.program)
    files.write(folder / FILE, to_plain(dispatch))
    return saved
