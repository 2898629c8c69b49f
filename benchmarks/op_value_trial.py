"""One op of OpInfo at the sizes 0, 1, 2, 3 and 5 and on special values: see `op_values`."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from benchmarks.op_samples import Call, Sample, database
from benchmarks.op_trial import STAGES, UNINITIALIZED, Trial
from lowering.errors import LoadError, ShapelineError
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics.bench import Bench
from lowering.numerics.judging.ancestry import converts, trace_results
from lowering.numerics.reference import Reference
from lowering.numerics.running import runner
from lowering.numerics.running.runner import Run
from lowering.numerics.running.xla import Xla
from lowering.record.failure import classify
from lowering.signature import Signature
from lowering.sizes import evaluation
from lowering.stage import Silent
from lowering.stages.export import Export

Tensors = Mapping[str, torch.Tensor]

SIZES = (0, 1, 2, 3, 5)
_OTHERS = 4  # the size of the other symbols where one alone is 0 or 1
_ALONE = 3  # symbols that are alone 0 or 1
_LINES = 12  # differences that are printed of one op


@dataclass(frozen=True)
class Lowered:
    """An op's program, with what runs it and the reference."""

    bench: Bench
    run: Run
    program: Program

    @property
    def signature(self) -> Signature:
        assert self.program.signature is not None
        return self.program.signature


def attempt(sample: Sample, tell: Callable[[str], None] = lambda stage: None) -> Trial:
    """Find where an op, out of place and in place, differs from eager. points: how many shapes and sets of values agree."""
    start, trial = time.perf_counter(), Trial(sample.op, sample.dtype, "ok", "verify", str(sample))
    tell("verify")
    try:
        agreed, lines, dynamic = differences(sample)
    except Exception as error:  # noqa: BLE001 - an op may raise anything, and that is data
        outcome, found = classify(error)
        trial = replace(trial, outcome=outcome, stage="export", problems=tuple(map(str, found))[:_LINES])
    else:
        outcome = "mismatch" if lines else "ok" if agreed else "not_compared" if dynamic else "static"
        trial = replace(trial, outcome=outcome, problems=tuple(line[:400] for line in lines[:_LINES]), points=tuple(agreed),
                        dynamic=dynamic)
    return replace(trial, seconds=time.perf_counter() - start)


def differences(sample: Sample) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Return (what agrees, what differs, in words, and the symbols) of an op, and of its form in place if that is another program."""
    whole = _lower(sample)
    if whole is None or sample.op in UNINITIALIZED or whole.bench.is_random:
        return [], [], ()
    agreed, lines = _compare(sample, whole)
    inplace = database()[sample.op].get_inplace() if sample.op in database() else None
    if inplace is not None and isinstance(sample.module, Call):
        call = Call(lambda tensor, *args, **kwargs: inplace(tensor.clone(), *args, **kwargs), sample.module.leaves, sample.module.spec)
        with contextlib.suppress(ShapelineError, LoadError):
            other = _lower(replace(sample, module=call.eval()))
            if other is not None and str(other.program.ir) != str(whole.program.ir):
                lines += [f"in place, {line}" for line in _compare(sample, other)[1]]
    return agreed, lines, tuple(whole.signature.symbols)


def _lower(sample: Sample) -> Lowered | None:
    """Lower to the program that promises the smallest sizes: the first export shows the symbols, which then begin at 0, 1 or 2."""
    signature = Export(explain=False).export(Built(sample.model, sample.module), sample.tensors, Silent()).signature
    assert signature is not None
    if not signature.symbols:
        return None
    declared = {argument.name: Input(argument.dtype, tuple(argument.dims)) for argument in signature.inputs}
    for least in (0, 1, 2):
        model = Model(sample.op, sample.model.factory, declared, {name: Symbol(least, 64) for name in signature.symbols})
        try:
            return _through_the_stages(Built(model, sample.module), sample)
        except ShapelineError:
            if least == 2:
                raise
    return None


def _through_the_stages(built: Built, sample: Sample) -> Lowered:
    program = Export(explain=False).export(built, sample.tensors, Silent())
    for stage in STAGES.values():
        program = stage.apply(program, Silent())
    exported = program.at(Level.EXPORTED)
    assert program.signature is not None and exported is not None
    bench = Bench(built, program.signature, makings=trace_results(exported.ir, program.signature))
    return Lowered(bench, runner.make_runner(program, Xla("cpu", effort="unoptimized")), program)


def _compare(sample: Sample, lowered: Lowered) -> tuple[list[str], list[str]]:
    exported = lowered.program.at(Level.EXPORTED)
    assert exported is not None
    agreed, lines = [], []
    for word, given in itertools.chain(_vary_values(sample, converts(exported.ir)), _vary_sizes(sample, lowered.signature)):
        with _set_flush(word.startswith("denormals")):
            found = list(_at(lowered, given))
        if found and found[0] is None:
            continue
        (lines.extend(f"{word}: {line}" for line in found) if found else agreed.append(word))
    return agreed, lines


def _at(lowered: Lowered, given: Tensors) -> Iterator[str | None]:
    """Return each difference at one point; None if eager accepts no such values."""
    try:
        want = lowered.bench.eager({name: value.clone() for name, value in given.items()})
    except (LoadError, RuntimeError):
        yield None
        return
    found = lowered.bench.check(lowered.run, given, Reference(want))
    if found.failure:
        yield f"{'refused: ' if found.refused else ''}{found.failure}"
    yield from (f"{output}: {compared.detail}" for output, compared in found.outputs.items() if not compared.agrees)


@contextlib.contextmanager
def _set_flush(flushes: bool) -> Iterator[None]:
    torch.set_flush_denormal(flushes)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _vary_sizes(sample: Sample, signature: Signature) -> Iterator[tuple[str, Tensors]]:
    """Yield the tensors at each size of all symbols, and with one symbol alone at 0 or 1, as far as the guards admit it."""
    names = list(signature.symbols)
    points = [dict.fromkeys(names, size) for size in SIZES]
    if len(names) > 1:
        alone = itertools.product(dict.fromkeys((names[0], names[-1], *names[:_ALONE])), (0, 1))
        points += [{**dict.fromkeys(names, _OTHERS), name: size} for name, size in alone]
    for point in points:
        if any(size < signature.symbols[name].min for name, size in point.items()):
            continue
        with contextlib.suppress(evaluation.Unknown, SyntaxError, ShapelineError, RuntimeError, ZeroDivisionError):
            if all(evaluation.evaluate(guard, point) for guard in signature.guards if evaluation.symbols_in(guard) <= set(point)):
                given = sample.at({argument.name: evaluation.shape_at(argument.dims, point) for argument in signature.inputs})
                yield evaluation.text(point), given


def _vary_values(sample: Sample, is_converted: bool) -> Iterator[tuple[str, Tensors]]:
    """Yield the tensors at the traced sizes with each set of values, only finite ones for a program that converts floats to integers."""
    for word, change in VALUES.items():
        if is_converted and word in ("special", "one NaN", "infinities"):
            continue
        changed = {name: change(tensor, shift) for shift, (name, tensor) in enumerate(sample.tensors.items())}
        if any(value is not tensor for value, tensor in zip(changed.values(), sample.tensors.values(), strict=True)):
            yield f"{word} values", changed


def _in_turn(numbers: Callable[[torch.dtype], list[float]], integers: bool = False) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Return the numbers, repeated, in a different order for each tensor."""

    def change(tensor: torch.Tensor, shift: int) -> torch.Tensor:
        fits = not tensor.dtype.is_floating_point and tensor.dtype is not torch.bool if integers else tensor.dtype.is_floating_point
        if not fits or tensor.dtype.is_complex:
            return tensor
        values = torch.tensor(numbers(tensor.dtype), dtype=tensor.dtype)
        order = (torch.arange(tensor.numel()) * (1 + 2 * shift)) % len(values)
        return values[order].reshape(tensor.shape)

    return change


def _with(*numbers: float) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Replace a few elements, at distances."""

    def change(tensor: torch.Tensor, shift: int) -> torch.Tensor:
        if not tensor.dtype.is_floating_point or not tensor.numel():
            return tensor
        flat = tensor.clone().reshape(-1)
        for place, number in enumerate(numbers):
            flat[(place * 7 + shift) % flat.numel()] = number
        return flat.reshape(tensor.shape)

    return change


def _equal(tensor: torch.Tensor, _: int) -> torch.Tensor:
    if not tensor.dtype.is_floating_point or tensor.numel() < 2:
        return tensor
    flat = tensor.clone().reshape(-1)
    flat[1::2] = flat[0].clone()
    return flat.reshape(tensor.shape)


def _ends(dtype: torch.dtype) -> list[float]:
    info = torch.finfo(dtype)
    return [info.max, 1.0, info.tiny, -info.max, info.eps, info.max / 2, -info.tiny, -1.0, 3.0, info.min / 2]


def _denormals(dtype: torch.dtype) -> list[float]:
    tiny = torch.finfo(dtype).tiny
    return [tiny / 2, 1.0, -tiny / 2, tiny / 4, 2.0, tiny]


VALUES: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "special": _in_turn(lambda dtype: [0.0, -0.0, 1.0, -1.0, 0.1, 2.5, -7.3, 1e4, float("inf"), float("-inf"), float("nan")]),
    "one NaN": _with(float("nan")),
    "infinities": _with(float("inf"), float("-inf")),
    "zeros": _with(0.0, -0.0, 1.0, -1.0),
    "equal": _equal,
    "ends": _in_turn(_ends),
    "denormals": _in_turn(_denormals),
    "integer ends": _in_turn(lambda dtype: [0, 1, -1, torch.iinfo(dtype).max, torch.iinfo(dtype).min, 7, -7, 100]
                             if torch.iinfo(dtype).min else [0, 1, 2, torch.iinfo(dtype).max, 7, 100], integers=True),
}  # fmt: skip
