"""Runs op_db's reductions, divisions, comparisons and in-place forms at small sizes and special values: what MHLO computes against eager.

    python -m benchmarks.op_values [--ops sum,var] [--dtype float32]

Each op has a process of its own. One line a difference; nothing for an op that agrees everywhere. XLA flushes denormals, so none is among the
values; zeros are equal whatever their sign.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.op_samples import Call, Sample, database, samples, supports
from benchmarks.op_trial import STAGES
from lowering.errors import LoadError, ShapelineError
from lowering.level import Program
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics import runner
from lowering.numerics.verifier import Bench
from lowering.signature import Signature
from lowering.sizes import evaluation
from lowering.stage import Silent
from lowering.stages.export import Export

SIZES = (0, 1, 2, 3)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.1, 2.5, -7.3, 1e4, float("inf"), float("-inf"), float("nan"))
_WORDS = ("div", "remainder", "fmod", "xlog", "entr", "var", "std", "norm", "sum", "prod", "mean", "max", "min", "median", "quantile", "mode", "sort",
          "topk", "add", "lerp", "clamp", "kl_div", "cross_entropy", "shift", "bitwise", "logical", "shrink", "threshold", "any", "all", "einsum")


def is_chosen(name: str) -> bool:
    """Whether an op reduces, divides, compares or has one of the words of those that were found wrong."""
    info = database()[name]
    kind = type(info).__name__
    return kind == "ReductionOpInfo" or any(word in name for word in _WORDS) or name in ("eq", "ne", "lt", "le", "gt", "ge", "isclose")


def differences(name: str, dtype: str) -> Iterator[str]:
    """Each difference from eager of the op's first sample, out of place and in place."""
    for sample in samples(name, dtype, 1):
        yield from _of_sample(sample)
        inplace = database()[name].get_inplace()
        if inplace is not None and isinstance(sample.module, Call):
            module = Call(lambda tensor, *args, _op=inplace, **kwargs: _op(tensor.clone(), *args, **kwargs), sample.module.leaves, sample.module.spec)
            yield from (f"in place, {line}" for line in _of_sample(replace(sample, module=module.eval())))


def _of_sample(sample: Sample) -> Iterator[str]:
    found = _lowered(sample)
    if found is None:
        return
    built, program = found
    assert program.signature is not None
    bench = Bench(built, program.signature)
    run = runner.runner(program, bench.devices["cpu"])
    for given in _points(sample, program.signature):
        yield from _at(bench, run, given)


def _lowered(sample: Sample) -> tuple[Built, Program] | None:
    """The program that promises the smallest sizes: export says which dims are symbols, and is then asked to begin at 0, 1 or 2."""
    try:
        signature = Export(explain=False).export(Built(sample.model, sample.module), sample.tensors, Silent()).signature
    except ShapelineError:
        return None
    assert signature is not None
    declared = {argument.name: Input(argument.dtype, tuple(argument.dims)) for argument in signature.inputs}
    for least in (0, 1, 2):
        model = Model(sample.op, sample.model.factory, declared, {name: Symbol(least, 64) for name in signature.symbols})
        built = Built(model, sample.module)
        try:
            program = Export(explain=False).export(built, sample.tensors, Silent())
            for stage in STAGES.values():
                if list(stage.requires(program)):
                    return None
                program = stage.apply(program, Silent())
        except ShapelineError:
            continue
        return built, program
    return None


def _at(bench: Bench, run: Callable[..., Any], given: Mapping[str, torch.Tensor]) -> Iterator[str]:
    shapes = [list(tensor.shape) for tensor in given.values()]
    try:
        want = bench.eager(given)
    except LoadError:
        return
    found = bench.check(run, given, want)
    if found.failure and not found.refused:
        yield f"{shapes}: {found.failure}"
    for output, compared in found.outputs.items():
        if not compared.agrees:
            yield f"{output} at {shapes}: {compared.detail}"


def _points(sample: Sample, signature: Signature) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors at each size of all symbols that the guards admit, and at the traced size with special values."""
    for size in SIZES:
        if any(size < bound.min for bound in signature.symbols.values()):
            continue
        point = dict.fromkeys(signature.symbols, size)
        with contextlib.suppress(evaluation.Unknown, SyntaxError, ShapelineError, RuntimeError, ZeroDivisionError):
            if all(evaluation.evaluate(guard, point) for guard in signature.guards if evaluation.symbols_in(guard) <= set(point)):
                yield sample.at({argument.name: evaluation.shape_at(argument.dims, point) for argument in signature.inputs})
    yield {name: _special(tensor, shift) for shift, (name, tensor) in enumerate(sample.tensors.items())}


def _special(tensor: torch.Tensor, shift: int) -> torch.Tensor:
    """The special values in turn, in an order of its own for each tensor; integers as they are."""
    if not tensor.dtype.is_floating_point:
        return tensor
    order = (torch.arange(tensor.numel()) * (1 + 2 * shift)) % len(FLOATS)
    return torch.tensor(FLOATS)[order].reshape(tensor.shape).to(tensor.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default="", help="names separated by commas; all that are chosen by kind and name where it is not given")
    parser.add_argument("--dtype", default="float32")
    asked = parser.parse_args()
    for name in asked.ops.split(",") if asked.ops else filter(is_chosen, sorted(database())):
        if not supports(name, asked.dtype):
            continue
        child = os.fork()
        if child == 0:
            try:
                for line in differences(name, asked.dtype):
                    print(f"{name}: {line[:300]}", flush=True)
            except Exception as error:  # noqa: BLE001 - whatever an op raises is a line of the report
                print(f"{name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            print(f"{name}: signal {os.WTERMSIG(status)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
