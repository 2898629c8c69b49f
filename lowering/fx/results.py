"""The results of an exported program: their names, kinds, dtypes and dims."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind, OutputSpec, SymIntArgument

from lowering.eager.pytrees import name_leaves
from lowering.errors import Problem, Unsupported, suggest
from lowering.fx.names import Names, describe_type, input_names, name_dim
from lowering.model import GRADIENT, Model
from lowering.signature import Argument, Result, Signature
from lowering.trees import iterate

_RESULT_KINDS = {OutputKind.BUFFER_MUTATION: "buffer_mutation", OutputKind.USER_INPUT_MUTATION: "input_mutation",
                 OutputKind.GRADIENT_TO_PARAMETER: "gradient"}


@dataclass(frozen=True)
class Extra:
    """The values that a program returns beside its results, and the sizes of padded results (see `lowering.capacity`).

    sizes: of each padded result, by its number, the true sizes. counts: the sizes whose counts follow the results, with their capacities.
    checks: the message of each run-time condition; the conditions follow the counts.
    """

    sizes: Mapping[int, tuple[sympy.Expr, ...]]
    counts: Mapping[sympy.Expr, sympy.Expr]
    checks: tuple[str, ...]


def list_results(program: ExportedProgram, names: Names, extra: Extra | None) -> Iterator[Result]:
    """Yield the results in order, then the counts of padded dims and the conditions of the run."""
    specs = program.graph_signature.output_specs
    added = len(extra.counts) + len(extra.checks) if extra else 0
    for number, result in enumerate(_list_own_results(program, names, specs[: len(specs) - added])):
        sizes = extra.sizes.get(number) if extra else None
        yield result if sizes is None else replace(result, dims=tuple(name_dim(size, names) for size in sizes))
    if extra:
        yield from (Result("count", str(name_dim(size, names)), "int64", value=str(name_dim(capacity, names)))
                    for size, capacity in extra.counts.items())
        words = {str(symbol): str(meaning) for symbol, meaning in names.items()}
        yield from (Result("check", re.sub(r"\b[su]\d+\b", lambda match: words.get(match[0], match[0]), text), "bool")
                    for text in extra.checks)


def _list_own_results(program: ExportedProgram, names: Names, specs: Sequence[OutputSpec]) -> Iterator[Result]:
    values, given = {node.name: node.meta.get("val") for node in program.graph.nodes}, input_names(program)
    paths = iter(name_leaves(program.call_spec.out_spec))
    written = {str(spec.arg.name): given.get(str(spec.target), str(spec.target)) for spec in specs
               if spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)}
    for spec in specs:
        kind = _RESULT_KINDS.get(spec.kind, "output")
        name = given.get(str(spec.target), str(spec.target)) if spec.target is not None and kind != "output" else next(paths)
        name = f"{GRADIENT}{name}" if kind == "gradient" else name
        if isinstance(spec.arg, ConstantArgument):
            yield Result("constant", name, value=spec.arg.value)
        elif isinstance(spec.arg, SymIntArgument):
            yield Result(kind, name, "int")  # type: ignore[arg-type]
        elif kind == "output" and spec.arg.name in written:
            yield Result("state", name, *describe_type(values[spec.arg.name], names), state=written[spec.arg.name])
        else:
            yield Result(kind, name, *describe_type(values[spec.arg.name], names))  # type: ignore[arg-type]


def list_types(program: ExportedProgram) -> list[tuple[str, tuple[int | str, ...]]]:
    """Return the dtype and dims of each result, counts and conditions of the run included, in torch's symbols."""
    (returned,) = program.graph.output_node().args
    return [describe_type(one.meta.get("val") if isinstance(one, torch.fx.Node) else one, {}) for one in returned]  # type: ignore[union-attr]


def mark_states(arguments: tuple[Argument, ...], results: tuple[Result, ...], model: Model) -> tuple[Result, ...]:
    """Return the results that are new values of arguments: of those that forward writes to, and of inputs declared as states.

    Raises Unsupported for each declared state without such a result, and for each whose new value has another dtype or shape.
    """
    marked = {result.name: position for position, result in enumerate(results) if result.kind in ("buffer_mutation", "input_mutation")}
    outputs = {result.name: position for position, result in enumerate(results) if result.kind == "output"}
    taken = {argument.name: argument for argument in arguments}
    places = {leaf.name: f"models.{model.name}.{leaf.place}" for leaf in iterate(model.trees)}
    problems = []
    for name, wanted in model.states.items():
        if name in marked or name not in taken:
            continue
        place, argument = places[name], taken[name]
        if wanted not in outputs:
            problems.append(Problem(f"{place}.state", f"no result is called '{wanted}', and forward does not write to '{name}'",
                                    suggest(wanted, outputs) or f"name one of the results: {', '.join(outputs) or 'none'}"))
            continue
        result = results[outputs[wanted]]
        if (result.dtype, result.dims) != (argument.dtype, argument.dims):
            shown = [f"{value.dtype}[{', '.join(map(str, value.dims))}]" for value in (argument, result)]
            fix = ("a state keeps its shape, as a cache of fixed length does (transformers.StaticCache): remove `state`"
                   if result.dtype == argument.dtype else f"a state keeps its dtype: declare it as {result.dtype}, or remove `state`")
            problems.append(Problem(place, f"is a state, '{name}', of {shown[0]}, and its new value '{wanted}' is {shown[1]}", fix))
            continue
        marked[name] = outputs[wanted]
    if problems:
        raise Unsupported(problems)
    owners = {position: name for name, position in marked.items() if name in taken}
    return tuple(replace(result, state=owners.get(position, result.state)) for position, result in enumerate(results))


def drop_repeated(program: ExportedProgram, signature: Signature) -> torch.fx.GraphModule:
    """Return the graph of `program` without the outputs that repeat the new value of a state."""
    module: torch.fx.GraphModule = program.graph_module
    repeated = [result.kind == "state" for result in signature.results]
    if not any(repeated):
        return module
    graph = copy.deepcopy(module.graph)
    output = graph.output_node()
    output.args = (tuple(value for value, drop in zip(output.args[0], repeated, strict=True) if not drop),)  # type: ignore[arg-type]
    return torch.fx.GraphModule(module, graph)


def rename_results(program: ExportedProgram) -> None:
    """Update the output specs to the nodes that now produce the results. A decomposition may have replaced the former ones."""
    results = program.graph.output_node().args[0]
    for spec, result in zip(program.graph_signature.output_specs, results, strict=True):  # type: ignore[arg-type]
        if isinstance(result, torch.fx.Node):
            spec.arg.name = result.name
