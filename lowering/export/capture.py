"""Run a model in eager mode, and capture it by torch.export, with a record of the fate of each dim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lowering import files
from lowering.custom import libraries
from lowering.eager import inputs, training
from lowering.eager.arguments import assemble
from lowering.eager.module import restore_buffers, run_eager
from lowering.errors import LoadError, Problem, ShapelineError, StageFailed, Unsupported
from lowering.fx import cleanup
from lowering.fx.tracing import assumptions, convolutions, custom_gradients, overlaps, transforms, window_counts
from lowering.model import Built, Model
from lowering.numerics import branches
from lowering.ops.sequences import packed_sequences, recurrent
from lowering.sources.torchscript import Interpreted
from lowering.stage import Note
from lowering.symbols import policy, views
from lowering.symbols.attempts import Attempt, Captured, Options
from lowering.symbols.failures import draft, packed
from lowering.symbols.schema import SymbolRecord
from lowering.symbols.tracing import selftest, trace


def run_once(module: torch.nn.Module, model: Model, example: dict[str, torch.Tensor]) -> None:
    """Run the model once. Raise LoadError if eager cannot run it. The smallest sizes come first, because they cost least."""
    with restore_buffers(module):
        try:
            outputs = run_eager(module, model, inputs.make(model, {name: symbol.smallest for name, symbol in model.symbols.items()}))
        except LoadError:  # the export may well say more about a range that starts too low
            outputs = run_eager(module, model, example)
    if model.mode == "training":
        training.find_loss(outputs, model)


def make_fake_example(model: Model, mode: FakeTensorMode) -> dict[str, Any]:
    """Return the model's example inputs as fake tensors of `mode`; ints stay ints."""
    made = inputs.make(model, model.examples(), model.seed)
    return {name: value if name in model.ints else mode.from_tensor(value) for name, value in made.items()}


def capture(
    built: Built, example: dict[str, torch.Tensor], order: Sequence[Attempt], options: Options, explain: bool | None, note: Note
) -> Captured:
    """Export a module by the policy `order`, and report its symbols whether the export succeeds or not.

    explain: whether to make a draft export too; None: only if the export fails on shapes.
    Raises StageFailed or Unsupported, with the model's line, if no attempt succeeds.
    """
    model, module = built.model, built.module

    def arguments(traced: Model) -> dict[str, Any]:
        given = example if traced is model else _make_alike(example, traced)
        return assemble(model, module, {**given, **{name: int(given[name]) for name in model.ints}})

    for wrong in selftest.run_self_test():
        note("log_incomplete", wrong, "torch")
    options = replace(options, is_explained=lambda: isinstance(module, Interpreted) and bool(module.explain()),
                      agrees=branches.build_comparison(model, module) if model.weights == "random" else None)  # fmt: skip
    padded = packed_sequences.keep_padded() if model.mode != "training" else nullcontext()
    usual = assumptions.assert_usual_sizes() if options.pads_data else nullcontext()
    with recurrent.keep_whole(), padded, usual:
        tried = policy.try_all(model, module, arguments, order, options)
    best = policy.choose_best(tried)
    found = policy.build_record(tried)
    note.report("symbols", found.to_json())
    for name in module.forgotten if isinstance(module, Interpreted) else ():
        note("attribute_forgotten", "forward assigns to it, but each call starts with its value in the file", f"attribute '{name}'")
    for warning in found.warnings:
        note(warning.code, warning.text, warning.place)
    if words := policy.describe(tried):
        note("export_policy", words, f"models.{model.name}")
    note.file(".trace.log", files.encode(trace.render(best.log)))
    if best.unfinished:
        note.file(".unfinished.py", files.encode(best.unfinished + "\n"))
    if found.fails_on_shapes if explain is None else explain:
        found = draft.add_draft(found, model, min(120.0, 20 + 10 * best.seconds))
        note.report("symbols", found.to_json())
    if best.error is not None:
        _raise_failure(built, best.error, tried, found)
    if broken := [one.problem for one in best.deferred if one.verdict in ("never", "unknown")]:
        raise StageFailed(broken)
    assert best.program is not None
    _refuse_second_gradients(best, model)
    if lost := transforms.find_lost(best.program):
        raise Unsupported(lost)
    if best.calls:
        cleanup.inline_wrappers(best.program.graph_module, detach=True)
        custom_gradients.restore(best.program, best.calls)
    return best


def _refuse_second_gradients(attempt: Captured, model: Model) -> None:
    """Raise Unsupported for a model in training whose forward takes gradients: the loss would need gradients of these."""
    if model.mode == "training" and attempt.transforms:
        cause = "forward takes gradients, by torch.func or torch.autograd.grad, and in training the loss needs gradients of these"
        fix = "lower the module in mode: inference, or without this part of the loss"
        raise Unsupported([Problem(f"models.{model.name}.mode", cause, fix)])


def _raise_failure(built: Built, failure: Exception, tried: Sequence[Captured], found: SymbolRecord) -> NoReturn:
    """Raise the failure of the best attempt, as an inventory of unsupported parts where one explains it."""
    model, module = built.model, built.module
    if isinstance(failure, ShapelineError):
        raise failure
    _refuse_second_gradients(tried[-1], model)
    if missing := libraries.explain(failure, model):
        raise Unsupported(missing, str(failure)) from failure
    if layers := packed.explain(failure):
        raise Unsupported(layers, str(failure)) from failure
    if isinstance(module, Interpreted) and (lines := module.explain()):
        raise Unsupported(lines, str(failure)) from failure
    problem = Problem(f"{model.name}: torch.export", policy.describe_cause(tried), views.format_suggestion(found))
    raise StageFailed(problem, str(failure)) from failure


def _make_alike(example: dict[str, torch.Tensor], model: Model) -> dict[str, torch.Tensor]:
    """Return example inputs at the traced sizes of `model`, fake where those of `example` are."""
    mode = next((value.fake_mode for value in example.values() if isinstance(value, FakeTensor)), None)
    made = inputs.make(model, model.examples(), model.seed)
    return {name: mode.from_tensor(value) if mode is not None and isinstance(example[name], FakeTensor) else value
            for name, value in made.items()}


@contextmanager
def disable_kernels() -> Iterator[None]:
    """Disable kernels whose choice depends on this machine or on the sizes of the example.

    An LSTM is decomposed into plain ops, not into one that oneDNN alone knows, and an einsum has no order yet (`ops.einsum` chooses it):
    opt_einsum would make the example's sizes constants. The choice of a convolution's backend guards no size, nor does a copy to a view or
    a pooling.
    """
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with (convolutions.select_unguarded(), overlaps.find_unguarded(), window_counts.count_unguarded(),
              torch.backends.opt_einsum.flags(enabled=False)):
            yield
    finally:
        torch._C._set_mkldnn_enabled(before)
