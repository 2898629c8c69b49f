"""One attempt to export a model in one of the ways that a policy lists, with its own symbol log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal
from unittest import mock

import sympy
import torch
from torch.export import ExportedProgram, _trace
from torch.fx.experimental import _config

from lowering.eager import pytrees, training
from lowering.errors import StageFailed
from lowering.fx import dynamic_shapes
from lowering.fx.replay import expansion, tracing
from lowering.fx.rewriting import effects, slices
from lowering.fx.tracing import custom_gradients, fake_results, size_functions, torch_warnings, tracing_costs, transforms
from lowering.model import Model, Symbol
from lowering.sizes.evaluation import symbols_in
from lowering.sizes.ranges import Bound
from lowering.symbols.conditions import harmless, parts
from lowering.symbols.conditions.branches import Branch, find_unguarded, watch_branches
from lowering.symbols.conditions.deferred import Deferred, judge_all, judge_condition, list_asserted, list_deferred
from lowering.symbols.conditions.relations import POINTS, count_refusals, read_condition
from lowering.symbols.failures.failure import is_about_sizes, summarize
from lowering.symbols.log.recording import record
from lowering.symbols.schema import Repeated, SymbolRecord, Warned
from lowering.symbols.tracing import deadline, frames
from lowering.symbols.tracing.capture import Log, Settings, capture
from lowering.symbols.tracing.exporting import Export
from lowering.symbols.tracing.frames import Spot

# The ways to call torch.export. `declared`: guards on sizes must hold for all declared sizes; `deferred`: torch turns them into assertions;
# `oblivious`: deferred, and no size is taken to differ from 0 and 1; `round`: oblivious, traced at sizes that many numbers divide;
# `strict`: as declared, by Dynamo's analysis of the bytecode; `strict_oblivious`: oblivious, by Dynamo; `auto`: oblivious, and torch
# may narrow the declared ranges to what the traced branches take.
Attempt = Literal["declared", "deferred", "oblivious", "strict_oblivious", "round", "auto", "strict"]

_GUARDS = ("guard", "equality", "divisibility")


@dataclass(frozen=True)
class Captured:
    """One attempt. program and error: exactly one is not None. calls: of functions with gradients of their own, in training.

    guards: those of an attempt that defers none, where they refuse declared sizes; the program has them.
    branches: those that torch asserted for sizes of 2 and more, where smaller ones are declared.
    refused: how many of the declared sizes that were tried these conditions refuse, where there is a program.
    part: the widest part of the declared ranges that it takes, with the symbols that it narrows; None where it takes single sizes only.
    repeat: how many calls of repeated modules were traced and copied.
    unfinished: the graph up to where the export failed, as code; empty if torch gives none.
    transforms: calls in forward that differentiate. undifferentiated: loops and branches before them, whose gradients the program lacks.
    decide: judges the assertions of a retrace of this program; judge: conditions that later traces assumed.
    """

    attempt: Attempt
    program: ExportedProgram | None
    error: Exception | None
    record: SymbolRecord
    log: Log
    deferred: tuple[Deferred, ...]
    guards: tuple[Deferred, ...]
    branches: tuple[Branch, ...]
    calls: list[Any]
    seconds: float
    refused: int
    part: Mapping[str, Bound] | None = field(default_factory=dict)
    declared: Mapping[str, Symbol] = field(default_factory=dict)
    repeat: tuple[Repeated, ...] = ()
    unfinished: str = ""
    transforms: tuple[str, ...] = ()
    undifferentiated: tuple[str, ...] = ()
    decide: Callable[[ExportedProgram], Sequence[Deferred]] = lambda _: ()
    judge: Callable[[Sequence[sympy.Basic]], Sequence[Deferred]] = lambda _: ()

    @property
    def share(self) -> float:
        """The share of the declared sizes that is in the part, from 0 to 1."""
        return 0.0 if self.part is None else parts.share(self.part, {name: Bound(one.min, one.max, one.multiple_of)
                                                                      for name, one in self.declared.items()})


@dataclass(frozen=True)
class Options:
    """Options of an export. settings: of the symbol log. seconds: limit of an attempt. repeat: of calls of repeated modules.

    is_explained: whether the module itself says which of its lines made the last attempt fail; another attempt would fix the same size.
    pads_data: whether sizes that data decide are wanted: a `len` of such a dim is left to Dynamo too.
    agrees: compares a program with the module at given sizes; None where the module has no values.
    """

    settings: Settings = field(default_factory=Settings)
    seconds: float | None = None
    repeat: tracing.Mode = "off"
    is_explained: Callable[[], bool] = lambda: False
    pads_data: bool = False
    agrees: harmless.Agrees | None = None


class TookTooLong(StageFailed):
    """An attempt exceeded its time limit."""


@dataclass
class _Trace:
    """What one call of torch.export left behind. late: set where it exceeded its time limit.

    seen: the branches of the model's code. printed: the graph up to where the export failed. For the other fields see `Captured`.
    """

    log: Log
    replays: tracing.Replays
    program: ExportedProgram | None = None
    error: Exception | None = None
    late: deadline.Overdue | None = None
    calls: list[Any] = field(default_factory=list)
    seen: dict[sympy.Basic, Spot] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)
    entered: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0


def capture_attempt(
    model: Model, module: torch.nn.Module, arguments: dict[str, Any], attempt: Attempt, options: Options, above: bool
) -> Captured:
    """Export once, and judge the assertions and guards of the program.

    arguments: of forward, at the sizes that are traced. above: whether to trace above autograd, which keeps composite ops whole.
    """
    traced = _run_export(model, module, arguments, attempt, options, above)
    if traced.replays.replays and traced.error is not None and not is_about_sizes(traced.error):
        found = capture_attempt(model, module, arguments, attempt, replace(options, repeat="off"), above)
        why = f"the export with copies failed: {summarize(None, traced.error)}"
        return replace(found, repeat=tuple(replace(one, traced=one.traced + one.replayed, replayed=0, why=why)
                                           for one in _list_repeated(traced.replays)))  # fmt: skip
    sources = pytrees.list_sources(arguments)
    if traced.late is not None:
        last = next((str(event.data["expr"]) for event in reversed(traced.log.events) if event.kind == "guard"), "")
        words = Export(traced.log, model, None, traced.late, sources).translate(traced.late.condition or last)
        traced.error = TookTooLong(traced.late.problem(f"{model.name}: torch.export", words))
    return _judge(traced, Export(traced.log, model, traced.program, traced.error, sources), attempt, options)


def _run_export(
    model: Model, module: torch.nn.Module, arguments: dict[str, Any], attempt: Attempt, options: Options, above: bool
) -> _Trace:
    """Call torch.export in the way of an attempt. Its errors are part of the result."""
    shapes = dynamic_shapes.build_dynamic_shapes(model, arguments, may_narrow=attempt == "auto")
    start = time.perf_counter()
    with capture(training.unwrap(module), options.settings) as log:
        made = _Trace(log, tracing.Replays(module, "off"))
        try:
            marking: AbstractContextManager[list[Any]] = custom_gradients.mark_calls() if model.mode == "training" else nullcontext([])
            skipping: AbstractContextManager[list[str]] = nullcontext([])
            if above:
                skipping = tracing_costs.skip_gradients_of_bodies()
            # not in a function of its own, whose frame would be taken for the model's
            with (deadline.limit_time(options.seconds, sys._getframe()), marking as made.calls, _set_oblivious(attempt),
                  _keep_symbolic(attempt), nullcontext() if above else transforms.trace_below(module), transforms.watch() as made.entered,
                  watch_branches() as made.seen, tracing.replay_calls(module, options.repeat) as made.replays,
                  _cut_costs(attempt, options), skipping as made.skipped, _keep_prints() as made.printed, torch_warnings.silence()):
                export = torch.export.export if above else partial(_trace._export, pre_dispatch=False)
                made.program = export(module, (), arguments, dynamic_shapes=shapes, strict=is_strict(attempt),
                                      prefer_deferred_runtime_asserts_over_guards=_defers(attempt))
                effects.remove_tokens(made.program)
                expansion.expand(made.program, made.replays)
        except tracing.Disagreement:
            raise
        except Exception as raised:  # noqa: BLE001 - torch raises many kinds, which the symbol log tells apart
            made.error = raised
        except deadline.Overdue as ended:
            made.late = ended
    made.seconds = time.perf_counter() - start
    return made


def _judge(traced: _Trace, export: Export, attempt: Attempt, options: Options) -> Captured:
    """Judge the assertions and guards of a program over the declared ranges, and record them."""
    model, program = export.model, traced.program

    def spare(program: ExportedProgram, found: Sequence[Deferred]) -> Sequence[Deferred]:
        if options.agrees is None or is_strict(attempt):  # Dynamo's analysis does not show what the model's code branches on
            return found
        return harmless.mark_harmless(found, program, export, traced.seen, options.agrees)

    asserted = list_deferred(export, partial(spare, program)) if program is not None and _defers(attempt) else ()
    harmless.forget(asserted, export)
    made = harmless.mark_relations(record(traced.log, model, program, traced.error, export.sources), asserted)
    guards = () if program is None or _defers(attempt) else tuple(_list_broken(made, export))
    if program is not None:
        guards += tuple(one for one in judge_all(slices.find_assumptions(program), export) if one.verdict in ("part", "never"))
    broken = [one.expr for one in (*asserted, *guards) if one.verdict in ("part", "never")]
    refused = count_refusals(broken, export)
    refused += POINTS * sum(one.verdict == "unknown" for one in asserted)
    needed = [read_condition(expr, export) for expr in broken]
    part = parts.find_widest([condition for condition in needed if condition is not None], export) if refused else {}
    if refused:
        warned = Warned("part_of_ranges", _describe_part(part, broken, export), f"models.{model.name}.symbols")
        made = replace(made, warnings=(*made.warnings, warned))
    return Captured(
        attempt, program, traced.error, made, traced.log, asserted, guards, calls=traced.calls, seconds=traced.seconds, refused=refused,
        branches=find_unguarded(export, traced.seen) if program is not None else (), part=part, declared=model.symbols,
        repeat=tuple(_list_repeated(traced.replays)), unfinished="" if traced.error is None else "\n".join(traced.printed).strip(),
        transforms=tuple(traced.entered), undifferentiated=tuple(dict.fromkeys(traced.skipped)) if traced.entered else (),
        decide=lambda later: spare(later, list_asserted(later, export)) if _defers(attempt) else (),
        judge=lambda assumed: judge_all(assumed, export),
    )


def _describe_part(part: Mapping[str, Bound] | None, broken: Sequence[str], export: Export) -> str:
    """Return which of the declared sizes a program takes. broken: its conditions that some of them break."""
    if part:
        return f"the program takes all sizes of symbols: {{{parts.spell(part)}}}, and refuses some of the others that are declared"
    conditions = [condition for expr in broken if (condition := read_condition(expr, export)) is not None]
    if relations := parts.list_relations(conditions):
        return f"the program takes only sizes with {' and '.join(relations)}, which ranges of single symbols cannot say"
    return "the program takes single sizes only"


@contextmanager
def _keep_prints() -> Iterator[list[str]]:
    """Collect the graph of a failed export, which torch would print to stderr."""
    printed: list[str] = []
    with mock.patch.object(_trace, "print", lambda text, **_: printed.append(str(text)), create=True):
        yield printed


def _list_repeated(replays: tracing.Replays) -> Iterator[Repeated]:
    """Report the calls of repeated modules, without those that are too small to be worth a copy."""
    for family in replays.families.values():
        if family.obstacle != tracing.FEW and (family.replayed or family.obstacle or family.last):
            yield Repeated(family.name, family.traced, family.replayed, family.obstacle or ("" if family.replayed else family.last))


def _list_broken(made: SymbolRecord, export: Export) -> Iterator[Deferred]:
    """Return the guards of a program that some declared sizes break, but those on flexible dims, which declare no sizes."""
    for relation in made.relations:
        found = judge_condition(relation.expr, relation.line, export) if relation.holds == "no" and relation.kind in _GUARDS else None
        if found is not None and symbols_in(found.guard) <= export.model.symbols.keys():
            yield found


def is_strict(attempt: Attempt) -> bool:
    return attempt.startswith("strict")


def _defers(attempt: Attempt) -> bool:
    return attempt not in ("declared", "strict")


def _set_oblivious(attempt: Attempt) -> AbstractContextManager[Any]:
    is_oblivious = attempt in ("oblivious", "strict_oblivious", "round", "auto")
    return _config.patch(backed_size_oblivious=True) if is_oblivious else nullcontext()  # type: ignore[attr-defined]


def _keep_symbolic(attempt: Attempt) -> AbstractContextManager[None]:
    """Keep sizes symbolic in Python's and torch's functions. Dynamo does so itself for Python's."""
    return size_functions.compose_in_graphs() if is_strict(attempt) else size_functions.keep_symbolic(frames.is_model_code)


@contextmanager
def _cut_costs(attempt: Attempt, options: Options) -> Iterator[None]:
    """Skip work of torch's that changes no program. Dynamo has graphs and fake tensors of its own."""
    with ExitStack() as stack:
        stack.enter_context(tracing_costs.skip_stack_traces())
        if not is_strict(attempt):
            stack.enter_context(tracing_costs.read_values_directly())
            stack.enter_context(tracing_costs.describe_values_once())
            stack.enter_context(tracing_costs.defer_code())
            if not options.pads_data:  # whose answers about sizes differ from one part of the trace to the next
                stack.enter_context(fake_results.keep_costly())
        yield
