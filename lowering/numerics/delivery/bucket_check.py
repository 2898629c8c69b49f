"""Comparison of a bucket with eager, at its own sizes and at smaller ones whose inputs are padded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from lowering.eager import inputs
from lowering.errors import Mismatch, Problem, StageFailed
from lowering.ir import mlir, portable
from lowering.numerics import comparison
from lowering.numerics.bench import Bench
from lowering.numerics.coverage.corners import Sizes
from lowering.numerics.coverage.space import Point
from lowering.numerics.delivery.buckets import Bucket, Dispatch, fill_up
from lowering.numerics.running.runner import Run, Tensors, order_arguments
from lowering.numerics.running.static_modules import StaticModule
from lowering.numerics.running.xla import Xla
from lowering.numerics.verification import LevelCheck
from lowering.signature import Signature
from lowering.sizes import evaluation


@dataclass(frozen=True)
class Executable:
    """The static program of a bucket, compiled. seconds: wall time of compiling it."""

    dispatch: Dispatch
    bucket: Bucket
    device: Xla
    loaded: object
    signature: Signature
    weights: Tensors
    seconds: float

    @staticmethod
    def compile(dispatch: Dispatch, bucket: Bucket, module: StaticModule, signature: Signature, weights: Tensors,
                device: Xla) -> Executable:
        start = time.perf_counter()
        loaded = device.compile(mlir.to_bytecode(portable.deserialize(module.artifact)))
        return Executable(dispatch, bucket, device, loaded, signature, weights, time.perf_counter() - start)

    def run_at(self, sizes: Sizes) -> Run:
        """Return a function from inputs of these sizes to the results."""
        return lambda given: self.run_padded(self.dispatch.pad(given, self.bucket), sizes)

    def run_padded(self, given: Tensors, sizes: Sizes) -> tuple[torch.Tensor, ...]:
        """Run on inputs that are padded already."""
        values = order_arguments(self.signature, self.weights, given)
        return self.dispatch.crop(self.device.execute(self.loaded, values), sizes)


def check(bench: Bench, executable: Executable) -> tuple[Bucket, list[Problem]]:
    """Compare the bucket with eager at its sizes, and padded from smaller ones.

    Return it with the symbols that must be exact, and for each of these the input whose padding changes which result, or whose size does.
    Raises Mismatch where the bucket is wrong without padding, StageFailed where it does not run.
    """
    bucket, sizes = executable.bucket, dict(executable.bucket.sizes)
    found = _compare(bench, executable, sizes)
    _raise_failure(bucket, found)
    if wrong := _list_wrong(found):
        raise Mismatch([Problem(f"output '{name}' of bucket {bucket}", detail) for name, detail in wrong.items()])
    problems = []
    exact: list[str] = []
    smallest = _find_smallest(executable.dispatch, bucket, bench)
    if not _agrees(bench, executable, {**sizes, **smallest}):
        for symbol, size in smallest.items():
            alone = _compare(bench, executable, {**sizes, symbol: size})
            _raise_failure(bucket, alone)
            if wrong := _list_wrong(alone):
                exact.append(symbol)
                problems.append(_blame(bench, executable, symbol, size, wrong))
        rest = {name: size for name, size in smallest.items() if name not in exact}
        if not exact or not _agrees(bench, executable, {**sizes, **rest}):
            exact = list(smallest)
            problems.append(Problem(f"bucket {bucket}", f"results differ where {' and '.join(rest)} are padded together"))
    for middle in _find_middles(bench, sizes, {name: size for name, size in smallest.items() if name not in exact}):
        if not _agrees(bench, executable, middle):
            raise Mismatch(Problem(f"bucket {bucket}", f"results differ at {evaluation.text(middle)}, but not where more is padded"))
    cost = {**bucket.cost, "compile_seconds": round(executable.seconds, 4), "run_seconds": round(found.seconds, 6)}
    return replace(bucket, exact=tuple(exact), cost=cost), problems


def _compare(bench: Bench, executable: Executable, sizes: Sizes) -> LevelCheck:
    point = Point("bucket", sizes)
    given = bench.inputs(sizes, bench.model.seed)
    return bench.check(executable.run_at(sizes), given, bench.reference(point, given, twice=False))


def _agrees(bench: Bench, executable: Executable, sizes: Sizes) -> bool:
    if not bench.space.admits(sizes) or sizes == executable.bucket.sizes:
        return True  # the program declines these sizes itself, or they were compared
    found = _compare(bench, executable, sizes)
    _raise_failure(executable.bucket, found)
    return found.agrees


def _raise_failure(bucket: Bucket, found: LevelCheck) -> None:
    if found.failure:
        raise StageFailed(Problem(f"bucket {bucket}", found.failure), found.log)


def _list_wrong(found: LevelCheck) -> dict[str, str]:
    return {name: compared.detail for name, compared in found.outputs.items() if not compared.agrees}


def _find_smallest(dispatch: Dispatch, bucket: Bucket, bench: Bench) -> dict[str, int]:
    """Return, by symbol, the smallest size that this bucket serves and no smaller bucket does, if it is not the bucket's own."""
    found = {}
    for name, size in bucket.sizes.items():
        symbol = bench.space.symbols[name]
        below = max((other.sizes[name] for other in dispatch.buckets if other.sizes[name] < size), default=symbol.min - 1)
        lowest = replace(symbol, min=below + 1).smallest
        if lowest < size:
            found[name] = lowest
    return found


def _find_middles(bench: Bench, sizes: Sizes, smallest: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Return sizes half-way between the smallest and the bucket's, all symbols together."""
    found = dict(sizes)
    for name, low in smallest.items():
        step = bench.space.symbols[name].multiple_of
        found[name] = low + (sizes[name] - low) // step // 2 * step
    if found != dict(sizes) and found != {**sizes, **smallest}:
        yield found


def _blame(bench: Bench, executable: Executable, symbol: str, size: int, wrong: Mapping[str, str]) -> Problem:
    """Find the input whose padding along `symbol` changes a result: filled with other values, it gives other results."""
    bucket = executable.bucket
    sizes = {**bucket.sizes, symbol: size}
    given = bench.select_inputs(bench.inputs(sizes, bench.model.seed))
    padded = executable.dispatch.pad(given, bucket)
    before = executable.run_padded(padded, sizes)
    others = inputs.make(bench.model, bench.space.arguments(bucket.sizes), bench.model.seed + 1)
    result, detail = next(iter(wrong.items()))
    for argument in executable.signature.inputs:
        if argument.value is not None or not any(symbol in evaluation.symbols_in(dim) for dim in argument.dims):
            continue
        changed = fill_up(given[argument.name], padded[argument.name].shape, others[argument.name])
        after = executable.run_padded({**padded, argument.name: changed}, sizes)
        for one, other, declared in zip(before, after, executable.dispatch.results, strict=True):
            if not comparison.are_equal(one, other):
                return Problem(f"bucket {bucket}", f"the padding of '{argument.name}' along {symbol} changes '{declared.name}': {detail}",
                               f"sizes of {symbol} must be exact; let the model mask what is padded, or set inputs.{argument.name}.pad")
    return Problem(f"bucket {bucket}", f"'{result}' depends on {symbol} itself, whatever the inputs are padded with: {detail}",
                   f"sizes of {symbol} must be exact")
