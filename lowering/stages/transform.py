"""EXPORTED -> EXPORTED: transform the FX graph in steps, and record the diff of each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from torch.fx import GraphModule

from lowering import recipe
from lowering.errors import ConfigError, Problem, StageFailed
from lowering.fx import cleanup, exported
from lowering.fx.names import symbol_names
from lowering.fx.results import list_types
from lowering.fx.rewriting import constants
from lowering.level import Level, Program
from lowering.model import Built
from lowering.stage import Note, Read, Stage


@dataclass(frozen=True)
class Transformed(Program):
    """A program whose graph was transformed, with the change of each step as (name, unified diff)."""

    diffs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Transform(Stage):
    """Run graph transformations.

    steps: each names a function by `_target_`, which takes a GraphModule and the step's other keys, and returns a GraphModule.
    lowering.fx.transformations contains such functions.
    """

    source: ClassVar[Level] = Level.EXPORTED
    target: ClassVar[Level] = Level.EXPORTED

    steps: tuple[Mapping[str, Any], ...] = (
        {"_target_": "lowering.fx.transformations.fold_constants"},
        {"_target_": "lowering.fx.transformations.remove_noop_views"},
        {"_target_": "lowering.fx.transformations.remove_dead_inputs"},
    )

    def reads(self) -> frozenset[Read]:
        return frozenset({"model"})

    def requires(self, program: Program) -> Sequence[Problem]:
        """Check that every step names a callable."""
        problems = []
        for number, step in enumerate(self.steps):
            try:
                if not callable(recipe.locate(str(step.get(recipe.TARGET, "")))):
                    problems.append(Problem(f"steps[{number}]", f"{step[recipe.TARGET]} is not callable"))
            except ConfigError as error:
                problems += [Problem(f"steps[{number}]", problem.cause) for problem in error.problems]
        return problems

    def apply(self, program: Program, note: Note) -> Program:
        module = constants.unlift(program.ir)
        diffs = []
        for step in self.steps:
            before = _print_code(module)
            module = _run_step(step, module)
            name = str(step[recipe.TARGET]).rpartition(".")[2]
            lines = difflib.unified_diff(before.splitlines(), _print_code(module).splitlines(), "before", f"after {name}", lineterm="")
            diffs.append((name, "\n".join(lines)))
        result = constants.lift(module, program.ir)
        built: Built = program.at(Level.MODEL).ir  # type: ignore[union-attr]
        assert program.signature is not None
        arguments = exported.list_arguments(result, symbol_names(result, built.model))
        signature = replace(program.signature, arguments=arguments)  # its guards and counts cannot be read from a graph
        lowered = program.replace_ir(Level.EXPORTED, result, signature=signature, weights=exported.collect_weights(result))
        return Transformed(**{field.name: getattr(lowered, field.name) for field in fields(lowered)}, diffs=tuple(diffs))

    def ensures(self, program: Program) -> Sequence[Problem]:
        """Check that the graph is still functional and that the results are the same."""
        problems = [] if cleanup.is_functional(program.ir.graph_module) else [Problem("transform", "the transformed graph writes in place")]
        if program.above is not None and list_types(program.ir) != list_types(program.above.ir):
            problems.append(Problem("transform", "a step changed the results of the program", "keep the results in each transformation"))
        return problems

    def save(self, program: Program, stem: Path) -> list[Path]:
        """Write the graph as readable code, and the diff of each step that changed the graph."""
        readable = stem.with_name(stem.name + ".py")
        readable.write_text(_print_code(program.ir.graph_module), encoding="utf-8")
        saved = [readable]
        for number, (name, diff) in enumerate(program.diffs if isinstance(program, Transformed) else (), 1):
            if diff:
                saved.append(stem.with_name(f"{stem.name}-{number}-{name}.diff"))
                saved[-1].write_text(diff + "\n", encoding="utf-8")
        return saved

    def ops(self, program: Program) -> dict[str, int]:
        return cleanup.count_targets(program.ir.graph_module)


def _run_step(step: Mapping[str, Any], module: GraphModule) -> GraphModule:
    options = {key: value for key, value in step.items() if key != recipe.TARGET}
    name = str(step[recipe.TARGET])
    try:
        result = recipe.locate(name)(module, **options)
    except Exception as error:
        raise StageFailed(Problem(f"step {name}", f"raised {type(error).__name__}: {error}")) from error
    if not isinstance(result, GraphModule):
        raise StageFailed(Problem(f"step {name}", f"returned a {type(result).__name__}", "a transformation returns a GraphModule"))
    result.graph.lint()
    result.recompile()
    return result


def _print_code(module: GraphModule) -> str:
    return module.print_readable(print_output=False, include_stride=False, include_device=False) + "\n"
