"""Make a captured program functional, decompose it, and add its gradients in training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import sympy
from torch.export import ExportedProgram

from lowering.capacity import rewriting
from lowering.composites import marking
from lowering.custom import naming
from lowering.eager import pytrees, training
from lowering.errors import StageFailed, Unsupported
from lowering.fx import cleanup, names, results
from lowering.fx.exported import Exported
from lowering.fx.rewriting import (
    aliasing,
    effects,
    functional,
    integer_dots,
    masked_updates,
    masks,
    packed_products,
    slices,
    strides,
    writes,
)
from lowering.fx.rewriting.by_table import decompose_by_table
from lowering.fx.rewriting.decompose import Specialized, decompose
from lowering.fx.tracing import assumptions, guards, torch_warnings, tracing_costs
from lowering.model import Model
from lowering.ops.sequences import bags, recurrent
from lowering.ops.tables import decompositions
from lowering.stage import Note
from lowering.symbols.attempts import Captured
from lowering.symbols.schema import SymbolRecord
from lowering.symbols.tracing import deadline
from lowering.symbols.tracing.exporting import NAME

Depth = Literal["lazy", "core", "torch_mlir"]
_TABLES = {"lazy": dict, "core": decompositions.core_table, "torch_mlir": decompositions.torch_mlir_table}


@dataclass(frozen=True)
class Form:
    """The ops that a program may keep: see the options of `lowering.stages.export.Export`."""

    depth: Depth
    composites: Mapping[str, str]
    pads_data: bool

    def build_table(self, kept: Collection[str]) -> dict[Any, Any]:
        """Return the decompositions of torch's own retrace, by op, without those of the custom ops `kept`."""
        return {op: row for op, row in _TABLES[self.depth]().items() if not naming.is_kept(op, kept)}


def decompose_in_time(export: Captured, model: Model, form: Form, seconds: float | None, note: Note) -> Exported:
    """Return the functional program. Raise StageFailed, with the condition and the line, if its trace takes more than `seconds`."""
    assert export.program is not None
    try:
        with (deadline.limit_time(seconds), torch_warnings.silence(), tracing_costs.defer_code(),
              tracing_costs.describe_values_once()):  # fmt: skip
            return _decompose(export, model, form, note)
    except deadline.Overdue as late:
        meanings = {str(symbol): str(meaning) for symbol, meaning in names.symbol_names(export.program, model).items()}
        words = NAME.sub(lambda match: meanings.get(match[0], match[0]), late.condition)
        raise StageFailed(late.problem(f"{model.name}: decomposition", words)) from None


def _decompose(export: Captured, model: Model, form: Form, note: Note) -> Exported:
    captured = export.program
    assert captured is not None
    if refused := cleanup.find_flex_attention(captured.graph_module) + cleanup.find_foreign_dtypes(captured.graph_module):
        raise Unsupported(refused)
    masks.fold(captured)
    cleanup.fold_conjugates(captured.graph_module)
    is_training, is_lazy = model.mode == "training", form.depth == "lazy"
    first = bags.choose_differentiable if is_training else recurrent.choose_loop  # before autograd, and before torch unrolls them
    with guards.record_guards(captured) as early:
        decompose(captured.graph_module, lambda node: None if naming.is_kept(node.target, model.custom_calls) else first(node))
    if not is_lazy:  # the retrace decomposes ops
        _mark_composites(captured, form, note)
    conditions = export.deferred
    if is_training:
        result, assumed = _differentiate(captured, model, form)
    else:
        result, assumed = _make_functional(captured, form, model.custom_calls, export.record, note)
        if result is not captured:
            known = {one.expr for one in conditions}
            conditions += tuple(one for one in export.decide(result) if one.expr not in known)
    if is_lazy:
        _mark_composites(result, form, note)
    assumed += early
    masked_updates.rewrite(result)
    with guards.record_guards(result) as padded:
        extra = rewriting.rewrite(result, model.capacities) if form.pads_data else None
    assumed += padded
    packed_products.rewrite(result)
    integer_dots.rewrite(result)
    if form.depth != "torch_mlir":  # core ATen too has ops that no later level takes, or that one of them lowers to wrong numbers
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


def _mark_composites(program: ExportedProgram, form: Form, note: Note) -> None:
    """Mark the composites, and note the ops that cannot be ones."""
    for op in marking.mark(program.graph_module, form.composites):
        note("composite_not_formed", f"{op.op} stays plain ops: {op.cause}", op.line)


def _make_functional(captured: ExportedProgram, form: Form, kept: Collection[str], found: SymbolRecord,
                     note: Note) -> tuple[ExportedProgram, list[Any]]:
    """Return `captured`, functional, and decomposed unless that is done later, with what that assumes of sizes.

    A retrace is the cost of this stage: ops that write in place force one, and decompositions that depend on more than one op.
    """
    cleanup.inline_wrappers(captured.graph_module)
    graph = captured.graph_module
    is_plain = not cleanup.reads_subclasses(graph)  # a retrace takes tensor subclasses apart
    is_functional = is_plain and functional.functionalize(graph) and cleanup.is_functional(graph)
    assumed: list[Any] = []
    if form.depth == "lazy" and is_functional:
        return captured, assumed
    if form.depth != "lazy":  # what an op is decomposed into can have other strides than the op
        functional.replace_views(captured.graph_module)
        # by torch-mlir's table, it asks for a minimum of strides that narrower ranges may decide, so that no export could be narrowed
        if form.depth == "core" and is_functional and not form.composites and not form.pads_data:
            specialized: list[Specialized] = []
            with guards.record_guards(captured) as assumed:
                is_done = decompose_by_table(captured, form.build_table(kept), lambda op: naming.is_kept(op, kept), specialized)
            _report_specialized(specialized, found, note)
            if is_done:
                return captured, assumed
    any_size = assumptions.count_from_zero() if form.pads_data else nullcontext()
    with (any_size, functional.functionalize_whole_arguments(), aliasing.hide_aliasing(captured) as revealed,
          writes.explain_failures(captured)):  # fmt: skip
        revealed.append(captured.run_decompositions(form.build_table(kept)))
    effects.remove_tokens(revealed[0])
    return revealed[0], assumed


def _differentiate(captured: ExportedProgram, model: Model, form: Form) -> tuple[ExportedProgram, list[Any]]:
    """Return `captured`, functional and with the gradients of its loss, and the assumptions of that trace.

    Raises Unsupported with a list of the ops that draw random numbers, and of the loops.
    """
    from lowering.fx import joint  # a second of imports, which a process that only reads this stage's options does without

    if refused := [*joint.find_random_ops(captured), *joint.find_loops(captured)]:
        raise Unsupported(refused)
    loss = training.name_loss(model, pytrees.name_leaves(captured.call_spec.out_spec))
    with guards.record_guards(captured) as assumed:
        return joint.differentiate(captured, loss, form.build_table(model.custom_calls)), assumed


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
