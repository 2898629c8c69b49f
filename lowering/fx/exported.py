"""The signature of an exported program: its arguments and results, with dims in the symbols that the model declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, OutputKind

from lowering.errors import Problem, Unsupported
from lowering.fx.names import Names, describe_type, input_names, symbol_names
from lowering.fx.results import Extra, list_results, mark_states
from lowering.fx.tracing.guards import list_guards
from lowering.model import Model
from lowering.signature import Argument, Signature
from lowering.sizes.ranges import Bound
from lowering.types import NUMBERS

_WEIGHT_KINDS = {InputKind.PARAMETER: "parameter", InputKind.BUFFER: "buffer", InputKind.CONSTANT_TENSOR: "constant"}


@dataclass(frozen=True)
class Exported:
    """An exported program, with data that torch.export.ExportedProgram cannot hold.

    assumed: conditions on sizes that traces after the capture assumed, in torch's symbols.
    deferred: assertions on sizes that the capture deferred to the run, in the model's symbols.
    extra: further values that the program returns, after its results.
    """

    program: ExportedProgram
    assumed: tuple[sympy.Expr, ...] = ()
    deferred: tuple[str, ...] = ()
    extra: Extra | None = None


def read_signature(exported: Exported, model: Model) -> Signature:
    """Return the arguments, results, symbols and guards of a program.

    Constants passed to forward are baked into the graph, so they are not among the arguments. Raises Unsupported if forward writes to a
    parameter.
    """
    program = exported.program
    if written := [str(spec.target) for spec in program.graph_signature.output_specs if spec.kind is OutputKind.PARAMETER_MUTATION]:
        raise Unsupported([Problem(f"parameter '{name}'", "forward writes to it", "register it as a buffer (register_buffer)")
                           for name in written])
    names = symbol_names(program, model)
    arguments = list_arguments(program, names)
    results = mark_states(arguments, tuple(list_results(program, names, exported.extra)), model)
    guards = dict.fromkeys([*list_guards(program, names, exported.assumed), *exported.deferred])
    return Signature(arguments, results, _find_bounds(program, model, names), tuple(guards))


def list_arguments(program: ExportedProgram, names: Names) -> tuple[Argument, ...]:
    """Return the arguments of a program, weights first."""
    placeholders = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    given = input_names(program)
    return tuple(
        Argument(_WEIGHT_KINDS.get(spec.kind, "input"), _name_argument(spec, given),  # type: ignore[arg-type]
                 *_describe_argument(placeholders[spec.arg.name], names))
        for spec in program.graph_signature.input_specs
        if not isinstance(spec.arg, ConstantArgument)
    )


def _name_argument(spec: InputSpec, names: Mapping[str, str]) -> str:
    """Return the FQN of a weight, or the name by which the user passes an input (see `input_names`)."""
    return spec.target if spec.kind in _WEIGHT_KINDS and spec.target else names.get(str(spec.arg.name), str(spec.arg.name))


def _describe_argument(value: Any, names: Names) -> tuple[str, tuple[int | str, ...], str | None]:
    """Return the dtype, dims and value of an argument. The value of an int is its symbol."""
    if isinstance(value, torch.SymInt):
        return NUMBERS["SymInt"], (), str(sympy.sympify(value.node.expr).subs(names))
    return (*describe_type(value, names), None)


def _find_bounds(program: ExportedProgram, model: Model, names: Names) -> dict[str, Bound]:
    bounds = {name: Bound(symbol.min, symbol.max, symbol.multiple_of) for name, symbol in model.symbols.items()}
    for expression, interval in program.range_constraints.items():
        named = sympy.sympify(expression).subs(names)
        if isinstance(named, sympy.Symbol) and str(named) not in bounds:
            lower, upper = (None if bound.is_infinite or abs(bound) > 2**48 else int(bound) for bound in (interval.lower, interval.upper))
            bounds[str(named)] = Bound(lower or 0, upper)
    return bounds


def collect_weights(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Return the parameters, buffers and constants by FQN, in the order of the signature."""
    weights: dict[str, torch.Tensor] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in _WEIGHT_KINDS and spec.target is not None:
            held = program.state_dict if spec.target in program.state_dict else program.constants
            weights[spec.target] = held[spec.target].detach()
    return weights
