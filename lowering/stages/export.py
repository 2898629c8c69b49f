"""MODEL -> EXPORTED: torch.export with dynamic shapes, then functional, with only the necessary decompositions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram

from lowering import files
from lowering.capacity import rewriting
from lowering.composites import marking, table
from lowering.custom import libraries, naming
from lowering.eager import checkpoint, inputs, quantized, training
from lowering.eager.arguments import assemble
from lowering.eager.module import instantiate, restore_buffers, run_eager
from lowering.errors import LoadError, Problem, ShapelineError, StageFailed, Unsupported
from lowering.fx import (
    aliasing,
    assumptions,
    cleanup,
    convolutions,
    custom_gradients,
    exported,
    functional,
    guards,
    integer_dots,
    masked_updates,
    masks,
    names,
    results,
    slices,
    strides,
    transforms,
    writes,
)
from lowering.fx.decompose import Specialized, decompose
from lowering.fx.exported import Exported
from lowering.fx.replay import tracing
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.numerics import branches
from lowering.ops import bags, decompositions, packed_sequences, recurrent
from lowering.sizes.dims import Affine
from lowering.sources.torchscript import Interpreted
from lowering.stage import Note, Read, Stage
from lowering.store import weights
from lowering.symbols import attempts, closed_forms, deadline, draft, packed, selftest, trace, views
from lowering.symbols.attempts import Captured
from lowering.symbols.capture import Settings
from lowering.symbols.exporting import NAME
from lowering.symbols.schema import SymbolRecord


@dataclass(frozen=True)
class Export(Stage):
    """Build the model, run it once in eager mode, and capture it ahead of time with its dims dynamic.

    decompose: `lazy` decomposes what the next levels cannot take, `core` everything that is not core ATen, `torch_mlir` what torch-mlir's
    own front end decomposes.
    policy: how torch.export is called, until a call succeeds: as `declared`, with `deferred` assertions, `oblivious` of the sizes 0 and 1,
    `strict_oblivious` where Python makes a size a number, traced at `round` sizes, with ranges that `auto` may narrow, `strict`
    (docs/export.md). Only a failure on sizes leads to the next.
    trace_seconds: limit for one attempt, and for the decomposition after it: conditions on sizes can keep sympy busy for hours (null: no).
    repeat: `auto` traces a repeated module twice, and copies its ops for further calls where both traces agree; `off` traces all calls;
    `check` does too, and fails where a copy would differ (docs/export.md).
    strict: the policy [strict]: capture through TorchDynamo's bytecode analysis instead of running the module's Python.
    explain: make a draft export too, which lists all shape problems at once; null: when the export fails on shapes.
    archive: also write a `.pt2` that `torch.export.load` reads (holds the weights' bytes; a model without weights has none), or, where
    torch cannot save the program, a `.pt2-failed.txt` that says why.
    data_sizes: sizes that data decide (nonzero, masks, unique) are for a later stage to `refuse`, or every such dim is padded to its
    `capacity`, and the program computes its count (docs/data_sizes.md).
    extended_debug: torch's names of symbols (`u5`, `s77`) whose birth the symbol log reports with the whole Python and C++ stack.
    composites: fused ops that stay `stablehlo.composite`s with their decomposition as body, by key (`attention`, `rms_norm`, or an op:
        `aten.mish`), with the name that each gets (docs/consumers.md).
    """

    source: ClassVar[Level] = Level.MODEL
    target: ClassVar[Level] = Level.EXPORTED

    decompose: Literal["lazy", "core", "torch_mlir"] = "lazy"
    policy: Sequence[attempts.Attempt] = ("declared", "deferred", "oblivious", "strict_oblivious", "round", "auto")
    trace_seconds: float | None = 240.0
    repeat: tracing.Mode = "auto"
    strict: bool = False
    explain: bool | None = None
    archive: bool = True
    data_sizes: Literal["refuse", "capacity"] = "refuse"
    extended_debug: Sequence[str] = ()
    composites: Mapping[str, str] = field(default_factory=dict)

    def requires(self, program: Program) -> Sequence[Problem]:
        model = program.model
        found = table.find_problems(self.composites, "stages.export.composites")
        if self.composites and model is not None and model.mode == "training":
            found.append(Problem("stages.export.composites", "keeps the ops of inference, and the model is lowered for training",
                                 "remove it for this model"))
        return found

    def apply(self, program: Program, note: Note) -> Program:
        model: Model = program.ir.model if isinstance(program.ir, Built) else program.ir
        if model.weights == "none":
            return self._weightless(model, note)
        module = program.ir.module if isinstance(program.ir, Built) else instantiate(model)
        example = inputs.make(model, model.examples(), model.seed)
        if model.quantization is not None and (kept := quantized.list_float_weights(module)):
            listed = ", ".join(kept[:5]) + (", …" if len(kept) > 5 else "")
            note("weights_not_quantized", f"{len(kept)} weights stay floats: {listed}", f"models.{model.name}.quantization")
        if model.checkpoint is None:
            _run_once(module, model, example)
        else:  # a run would read all weights
            note("weights_lazy", f"the weights are mapped from {model.checkpoint}; the model was not run before its export",
                 f"models.{model.name}.weights")
            if left := checkpoint.list_unused(module, Path(model.checkpoint).expanduser()):
                note("checkpoint_unused", f"{len(left)} tensors of {model.checkpoint} are no weights of the model: {', '.join(left[:5])}",
                     f"models.{model.name}.checkpoint")
        return self.export(Built(model, module), example, note)

    def _weightless(self, model: Model, note: Note) -> Program:
        """The program of a model whose weights have shapes and no bytes."""
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with mode:
            module = instantiate(model)
        example = {name: value if name in model.ints else mode.from_tensor(value)
                   for name, value in inputs.make(model, model.examples(), model.seed).items()}
        note("weights_none", "the model was built without weights, and was not run",
             f"models.{model.name}.weights")
        return self.export(Built(model, module), example, note)

    def export(self, built: Built, example: dict[str, torch.Tensor], note: Note) -> Program:
        """The program of a module that is already built, captured on `example`, whose values need not be the model's fills."""
        if opaque := quantized.list_opaque(built.module):
            raise Unsupported(opaque)
        least = min((symbol.smallest for symbol in built.model.symbols.values()), default=0)
        with _without_kernels(), closed_forms.keep_sizes_short(least):
            captured = branches.with_asserted(self._capture(built.model, built.module, example, note), built, note)
            result = self._in_time(captured, built.model, note)
        signature = exported.signature_of(result, built.model)
        return Program(Level.MODEL, built).lowered(
            Level.EXPORTED, result.program, signature=signature, weights=exported.weights_of(result.program)
        )

    def _capture(self, model: Model, module: torch.nn.Module, example: dict[str, torch.Tensor], note: Note) -> Captured:
        """torch.export's program, and what became of the dims, which is reported whether the export succeeds or not."""

        def arguments(traced: Model) -> dict[str, Any]:
            given = example if traced is model else _like(example, traced)
            return assemble(model, module, {**given, **{name: int(given[name]) for name in model.ints}})

        for wrong in selftest.run_self_test():
            note("log_incomplete", wrong, "torch")
        padded = packed_sequences.keep_padded() if model.mode != "training" else nullcontext()
        usual = assumptions.assert_usual_sizes() if self.data_sizes == "capacity" else nullcontext()
        with recurrent.keep_whole(), padded, usual:
            tried = attempts.try_all(model, module, arguments, ("strict",) if self.strict else self.policy, attempts.Options(
                Settings(tuple(self.extended_debug)), self.trace_seconds, self.repeat,
                lambda: isinstance(module, Interpreted) and bool(module.explain()), self.data_sizes == "capacity",
                branches.build_comparison(model, module) if model.weights == "random" else None))  # fmt: skip
        best = attempts.choose_best(tried)
        found = attempts.build_record(tried)
        note.report("symbols", found.to_json())
        for warning in found.warnings:
            note(warning.code, warning.told, warning.place)
        if told := attempts.describe(tried):
            note("export_policy", told, f"models.{model.name}")
        note.file(".trace.log", files.encode(trace.render(best.log)))
        if best.unfinished:
            note.file(".unfinished.py", files.encode(best.unfinished + "\n"))
        if found.fails_on_shapes if self.explain is None else self.explain:
            found = draft.add_draft(found, model, min(120.0, 20 + 10 * best.seconds))
            note.report("symbols", found.to_json())
        if best.program is None:
            failure = best.error
            assert failure is not None
            if isinstance(failure, ShapelineError):
                raise failure
            if missing := libraries.explain(failure, model):
                raise Unsupported(missing, str(failure)) from failure
            if layers := packed.explain(failure):
                raise Unsupported(layers, str(failure)) from failure
            if isinstance(module, Interpreted) and (lines := module.explain()):
                raise Unsupported(lines, str(failure)) from failure
            problem = Problem(f"{model.name}: torch.export", attempts.describe_cause(tried), views.format_suggestion(found))
            raise StageFailed(problem, str(failure)) from failure
        if broken := [one.problem for one in best.deferred if one.verdict in ("never", "unknown")]:
            raise StageFailed(broken)
        if lost := transforms.find_lost(best.program):
            raise Unsupported(lost)
        if best.calls:
            cleanup.inline_wrappers(best.program.graph_module, detach=True)
            custom_gradients.restore(best.program, best.calls)
        return best

    def _in_time(self, export: Captured, model: Model, note: Note) -> Exported:
        """Return the functional program. Raise StageFailed, with the condition and the line, if its trace takes too long."""
        assert export.program is not None
        try:
            with deadline.within(self.trace_seconds):
                return self._functional(export, model, note)
        except deadline.Overdue as late:
            meanings = {str(symbol): str(meaning) for symbol, meaning in names.symbol_names(export.program, model).items()}
            words = NAME.sub(lambda match: meanings.get(match[0], match[0]), late.condition)
            raise StageFailed(late.problem(f"{model.name}: decomposition", words)) from None

    def _functional(self, export: Captured, model: Model, note: Note) -> Exported:
        """Make the captured program functional, decompose it, and add its gradients in training."""
        captured = export.program
        assert captured is not None
        if refused := cleanup.find_flex_attention(captured.graph_module) + cleanup.find_foreign_dtypes(captured.graph_module):
            raise Unsupported(refused)
        masks.fold(captured)
        is_training = model.mode == "training"
        first = bags.choose_differentiable if is_training else recurrent.choose_loop  # before autograd, and before torch unrolls them
        with guards.record_guards(captured) as early:
            decompose(captured.graph_module, lambda node: None if naming.is_kept(node.target, model.custom_calls) else first(node))
        if self.decompose != "lazy":  # the retrace decomposes ops
            self._mark(captured, note)
        conditions = export.deferred
        if is_training:
            result, assumed = self._joint(captured, model)
        else:
            result, assumed = self._retraced(captured, model.custom_calls), []
            if result is not captured:
                known = {one.expr for one in conditions}
                conditions += tuple(one for one in export.decide(result) if one.expr not in known)
        if self.decompose == "lazy":
            self._mark(result, note)
        assumed += early
        masked_updates.rewrite(result)
        with guards.record_guards(result) as padded:
            extra = rewriting.rewrite(result, model.capacities) if self.data_sizes == "capacity" else None
        assumed += padded
        integer_dots.rewrite(result.graph_module)
        if self.decompose == "lazy":
            specialized: list[Specialized] = []
            with guards.record_guards(result) as further:
                decompose(result.graph_module, lambda node: None if naming.is_kept(node.target, model.custom_calls)
                          else decompositions.choose(node),
                          specialized)
            assumed += further
            _report_specialized(specialized, export.record, note)
        assumed = _keep_open([*assumed, *slices.find_assumptions(result)], export, note)
        functional.replace_views(result.graph_module)
        strides.replace_strides(result.graph_module)
        if result is not captured:
            result._guards_code = captured._guards_code  # the retrace forgets them
        results.rename_results(result)
        cleanup.drop_assertions(result.graph_module, {one.expr for one in conditions if one.is_dropped})
        result.graph_module.recompile()
        deferred = tuple(dict.fromkeys(one.guard for one in conditions if one.is_carried))
        return Exported(result, tuple(assumed), deferred, extra)

    def _mark(self, program: ExportedProgram, note: Note) -> None:
        """Mark the composites, and note the ops that cannot be ones."""
        for op in marking.mark(program.graph_module, self.composites):
            note("composite_not_formed", f"{op.op} stays plain ops: {op.cause}", op.line)

    def _retraced(self, captured: ExportedProgram, kept: Collection[str]) -> ExportedProgram:
        """`captured`, functional. A retrace is the cost of this stage: only ops that write in place force one."""
        cleanup.inline_wrappers(captured.graph_module)
        graph = captured.graph_module
        is_plain = not cleanup.reads_subclasses(graph)  # a retrace takes tensor subclasses apart
        if self.decompose == "lazy" and is_plain and functional.functionalize(graph) and cleanup.is_functional(graph):
            return captured
        if self.decompose != "lazy":  # what an op is decomposed into can have other strides than the op
            functional.replace_views(captured.graph_module)
        with functional.functionalize_whole_arguments(), aliasing.hide_aliasing(captured) as revealed, writes.explained(captured):
            revealed.append(captured.run_decompositions(self._table(kept)))
        return revealed[0]

    def _joint(self, captured: ExportedProgram, model: Model) -> tuple[ExportedProgram, list[Any]]:
        """`captured`, functional and with the gradients of its loss, and what that assumes; Unsupported lists the ops that draw random
        numbers,
        and the loops."""
        from lowering.fx import joint  # a second of imports, which a process that only reads this stage's options does without

        if refused := [*joint.find_random_ops(captured), *joint.find_loops(captured)]:
            raise Unsupported(refused)
        with guards.record_guards(captured) as assumed:
            return joint.differentiate(captured, training.name_loss(model), self._table(model.custom_calls)), assumed

    def _table(self, kept: Collection[str]) -> dict[Any, Any]:
        tables = {"lazy": dict, "core": decompositions.core_table, "torch_mlir": decompositions.torch_mlir_table}
        return {op: row for op, row in tables[self.decompose]().items() if not naming.is_kept(op, kept)}

    def reads(self) -> frozenset[Read]:
        return frozenset({"model"})

    def ensures(self, program: Program) -> Sequence[Problem]:
        """Functional, and every dim that the model declares with a symbol is symbolic."""
        built: Built = program.at(Level.MODEL).ir  # type: ignore[union-attr]
        problems = []
        if not cleanup.is_functional(program.ir.graph_module):
            problems.append(Problem("export", "the graph still writes in place after functionalization"))
        values = names.input_values(program.ir, built.model)
        for name, declared in built.model.leaves.items():
            for position, dim in enumerate(declared.dims()):
                if isinstance(dim, Affine) and names.is_static(values[name].shape[position]):
                    problems.append(Problem(f"input '{name}' dim {position}", f"'{dim}' became {values[name].shape[position]}"))
        static = [name for name in built.model.ints if names.is_static(values[name])]
        return problems + [Problem(f"input '{name}'", f"the int became {values[name]}") for name in static]

    def save(self, program: Program, stem: Path) -> list[Path]:
        """The graph as readable code with shapes (`.py`), and the program as torch saves it (`.pt2`) if asked."""
        readable = stem.with_name(stem.name + ".py")
        readable.write_text(readable_code(program.ir), encoding="utf-8")
        if not self.archive or weights.list_fakes(program.weights) or (program.model and program.model.weights == "lazy"):
            return [readable]
        signature = program.signature
        if signature is not None and signature.computed != signature.returned:  # torch would take the others for results of the model
            path = stem.with_name(stem.name + ".pt2-failed.txt")
            reason = "torch.export has no place for the counts and conditions that follow the results (docs/data_sizes.md)\n"
            path.write_text(reason, encoding="utf-8")
            return [readable, path]
        from lowering.fx import archive  # as above

        path = stem.with_name(stem.name + Level.EXPORTED.suffix)
        try:
            archive.save(program.ir, path)
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for what it cannot serialize, which no later level minds
            path.unlink(missing_ok=True)
            path = stem.with_name(stem.name + ".pt2-failed.txt")
            path.write_text(f"torch.export.save cannot write this program: {type(error).__name__}: {error}\n", encoding="utf-8")
        return [readable, path]

    def ops(self, program: Program) -> dict[str, int]:
        return dict(Counter(str(node.target) for node in cleanup.calls(program.ir.graph_module)))


def _keep_open(assumed: Sequence[sympy.Expr], export: Captured, note: Note) -> list[sympy.Expr]:
    """Return the assumptions of later traces that do not hold for all declared sizes, each with a warning.

    Raises StageFailed for those that hold for none.
    """
    judged = {one.expr: one for one in export.judge(assumed)}
    broken = [one for one in judged.values() if one.verdict in ("part", "never")]
    for one in broken:
        note("guard_within_range", f"{one.text} does not hold for all declared sizes, and its decomposition needs it", one.text)
    if never := [one.problem for one in broken if one.verdict == "never"]:
        raise StageFailed(never)
    return [expr for expr in assumed if str(expr) not in judged or judged[str(expr)].verdict != "always"]


def _report_specialized(specialized: Sequence[Specialized], found: SymbolRecord, note: Note) -> None:
    """Record the dims that decompositions made static. Raise StageFailed if one was declared with a symbol."""
    lost = {dim.id: each for each in specialized for dim in found.requested if each.symbol in (dim.symbol, *NAME.findall(dim.expr))}
    if not lost:
        return
    requested = tuple(replace(dim, verdict="specialized", value=lost[dim.id].value, why=f"the decomposition of {lost[dim.id].op}")
                      if dim.id in lost else dim for dim in found.requested)  # fmt: skip
    note.report("symbols", replace(found, requested=requested).to_json())
    asked = {dim.id: dim.asked for dim in found.requested}
    for name, each in lost.items():
        note("became_static", f"{name}, requested as {asked[name]}, became {each.value} in the decomposition of {each.op}", name)
    if problems := [each.problem(f"{name} ('{asked[name]}')") for name, each in lost.items() if asked[name] != "null"]:
        raise StageFailed(problems)


def _run_once(module: torch.nn.Module, model: Model, example: dict[str, torch.Tensor]) -> None:
    """Run the model once. Raise LoadError if eager cannot run it. The smallest sizes come first, because they cost least."""
    with restore_buffers(module):
        try:
            outputs = run_eager(module, model, inputs.make(model, {name: symbol.smallest for name, symbol in model.symbols.items()}))
        except LoadError:  # the export may well say more about a range that starts too low
            outputs = run_eager(module, model, example)
    if model.mode == "training":
        training.find_loss(outputs, model)


def _like(example: dict[str, torch.Tensor], model: Model) -> dict[str, torch.Tensor]:
    """Return example inputs at the traced sizes of `model`, fake where those of `example` are."""
    mode = next((value.fake_mode for value in example.values() if isinstance(value, FakeTensor)), None)
    made = inputs.make(model, model.examples(), model.seed)
    return {name: mode.from_tensor(value) if mode is not None and isinstance(example[name], FakeTensor) else value
            for name, value in made.items()}


@contextmanager
def _without_kernels() -> Iterator[None]:
    """Disable what depends on this machine or on the sizes of the example.

    An LSTM is decomposed into plain ops, not into one that oneDNN alone knows, and an einsum is contracted from the left: opt_einsum would
    choose the order for the example's sizes, and make them constants. The choice of a convolution's backend guards no size.
    """
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with convolutions.select_unguarded(), torch.backends.opt_einsum.flags(enabled=False):
            yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def readable_code(program: ExportedProgram) -> str:
    """Format the graph as Python code with annotated shapes and dtypes, and with the user's code lines as comments."""
    return program.graph_module.print_readable(print_output=False, include_stride=False, include_device=False) + "\n"
