"""MODEL -> EXPORTED: torch.export with dynamic shapes, then functional, with only the necessary decompositions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

from lowering import paths
from lowering.composites import table
from lowering.eager import checkpoint, inputs, quantized, training
from lowering.eager.module import instantiate
from lowering.errors import Problem, Unsupported
from lowering.export import capture, decomposition, sharing
from lowering.fx import cleanup, exported, names
from lowering.fx.replay import tracing
from lowering.fx.tracing import autograd_definitions, fake_results, layouts
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.numerics import branches
from lowering.plain import to_plain
from lowering.sizes.dims import Affine
from lowering.stage import Note, Read, Sharing, Stage
from lowering.store import weights
from lowering.symbols import attempts
from lowering.symbols.conditions import questions
from lowering.symbols.tracing import closed_forms
from lowering.symbols.tracing.capture import Settings


@dataclass(frozen=True)
class Export(Stage):
    """Build the model, run it once in eager mode, and capture it ahead of time with its dims dynamic.

    decompose: `lazy` decomposes what the next levels cannot take, `core` everything that is not core ATen, and what the next levels cannot
    take, `torch_mlir` what torch-mlir's own front end decomposes.
    policy: how torch.export is called, until a call succeeds: as `declared`, with `deferred` assertions, `oblivious` of the sizes 0 and 1,
    `strict_oblivious` where Python makes a size a number, traced at `round` sizes, with ranges that `auto` may narrow, `strict`
    (docs/export.md). Only a failure on sizes leads to the next.
    trace_seconds: limit for one attempt, and for the decomposition after it: conditions on sizes can keep sympy busy for hours (null: no).
    repeat: `auto` traces a repeated module twice, and copies its ops for further calls where both traces agree; `off` traces all calls;
    `check` does too, and fails where a copy would differ (docs/export.md).
    share: `auto` takes the program of wider ranges of the same model from the store, where a separate export would be the same; `off`
    exports each model by itself; `check` does too, and fails where the program of wider ranges would have differed (docs/export.md).
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

    decompose: decomposition.Depth = "lazy"
    policy: Sequence[attempts.Attempt] = ("declared", "deferred", "oblivious", "strict_oblivious", "round", "auto")
    trace_seconds: float | None = 240.0
    repeat: tracing.Mode = "auto"
    share: Sharing = "auto"
    strict: bool = False
    explain: bool | None = None
    archive: bool = True
    data_sizes: Literal["refuse", "capacity"] = "refuse"
    extended_debug: Sequence[str] = ()
    composites: Mapping[str, str] = field(default_factory=dict)

    def requires(self, program: Program) -> Sequence[Problem]:
        model = program.model
        found = table.find_problems(self.composites, "stages.export.composites")
        if not self.policy:
            found.append(Problem("stages.export.policy", "is empty", "name at least one way, such as declared"))
        if self.composites and model is not None and model.mode == "training":
            found.append(Problem("stages.export.composites", "keeps the ops of inference, and the model is lowered for training",
                                 "remove it for this model"))
        return found

    def apply(self, program: Program, note: Note) -> Program:
        model: Model = program.ir.model if isinstance(program.ir, Built) else program.ir
        if model.weights == "none":
            return self._export_weightless(model, note)
        module = program.ir.module if isinstance(program.ir, Built) else instantiate(model)
        example = inputs.make(model, model.examples(), model.seed)
        if model.quantization is not None and (kept := quantized.list_float_weights(module)):
            listed = ", ".join(kept[:5]) + (", …" if len(kept) > 5 else "")
            note("weights_not_quantized", f"{len(kept)} weights stay floats: {listed}", f"models.{model.name}.quantization")
        for pattern in quantized.list_unmatched(module, model.quantization) if model.quantization is not None else ():
            note("nothing_skipped", f"no module has a name like '{pattern}'", f"models.{model.name}.quantization.skip")
        if model.checkpoint is None:
            capture.run_once(module, model, example)
        else:  # a run would read all weights
            note("weights_lazy", f"the weights are mapped from {model.checkpoint}; the model was not run before its export",
                 f"models.{model.name}.weights")
            if left := checkpoint.list_unused(module, paths.expand(model.checkpoint)):
                note("checkpoint_unused", f"{len(left)} tensors of {model.checkpoint} are no weights of the model: {', '.join(left[:5])}",
                     f"models.{model.name}.checkpoint")
        return self.export(Built(model, module), example, note)

    def _export_weightless(self, model: Model, note: Note) -> Program:
        """Export a model whose weights have shapes and no bytes."""
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with fake_results.skip_cache(), mode:
            module = instantiate(model)
        example = capture.make_fake_example(model, mode)
        note("weights_none", "the model was built without weights, and was not run",
             f"models.{model.name}.weights")
        return self.export(Built(model, module), example, note)

    def export(self, built: Built, example: dict[str, torch.Tensor], note: Note) -> Program:
        """Export a module that is already built, captured on `example`, whose values need not be the model's fills."""
        if opaque := quantized.list_opaque(built.module):
            raise Unsupported(opaque)
        least = min((symbol.smallest for symbol in built.model.symbols.values()), default=0)
        pads_data = self.data_sizes == "capacity"
        options = attempts.Options(Settings(tuple(self.extended_debug)), self.trace_seconds, self.repeat, pads_data=pads_data)
        order: Sequence[attempts.Attempt] = ("strict",) if self.strict else self.policy
        form = decomposition.Form(self.decompose, self.composites, pads_data)
        with (capture.disable_kernels(), autograd_definitions.replace_definitions(), fake_results.skip_cache(),
              training.refuse_reentrant_checkpoints(built.model), closed_forms.keep_sizes_short(least) as shortened,
              questions.watch_questions() as asked):  # fmt: skip
            captured = branches.assert_conditions(capture.capture(built, example, order, options, self.explain, note), built, note)
            with layouts.compute_unguarded():  # a guard of the capture is judged, and no later trace can be tried in another way
                result = decomposition.decompose_in_time(captured, built.model, form, self.trace_seconds, note)
        note.report("sharing", to_plain(sharing.describe_sharing(captured, result, asked, built.model, shortened, bool(self.explain))))
        signature = exported.read_signature(result, built.model)
        return Program(Level.MODEL, built).replace_ir(
            Level.EXPORTED, result.program, signature=signature, weights=exported.collect_weights(result.program)
        )

    def reads(self) -> frozenset[Read]:
        return frozenset({"model"})

    def shares(self) -> Sharing:
        return self.share

    def ensures(self, program: Program) -> Sequence[Problem]:
        """Check that the graph is functional, and that every dim declared with a symbol is symbolic."""
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
        """Write the graph as readable code with shapes (`.py`), and the program as torch saves it (`.pt2`) if `archive` is set."""
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
        from lowering.fx import archive  # a second of imports, which a process that only reads this stage's options does without

        path = stem.with_name(stem.name + Level.EXPORTED.suffix)
        try:
            archive.save(program.ir, path)
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for what it cannot serialize, which no later level minds
            path.unlink(missing_ok=True)
            path = stem.with_name(stem.name + ".pt2-failed.txt")
            path.write_text(f"torch.export.save cannot write this program: {type(error).__name__}: {error}\n", encoding="utf-8")
        return [readable, path]

    def ops(self, program: Program) -> dict[str, int]:
        return cleanup.count_targets(program.ir.graph_module)


def readable_code(program: ExportedProgram) -> str:
    """Format the graph as Python code with annotated shapes and dtypes, and with the user's code lines as comments."""
    return program.graph_module.print_readable(print_output=False, include_stride=False, include_device=False) + "\n"
