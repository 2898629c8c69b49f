"""The signature of an ExportedProgram: its arguments and results, with dims in the symbols that the model declares."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, OutputKind, OutputSpec, SymIntArgument

from lowering import types
from lowering.eager.pytrees import build_marked, list_sources, name_leaves
from lowering.errors import Problem, Unsupported, suggest
from lowering.model import GRADIENT, Model
from lowering.signature import Argument, Result, Signature
from lowering.sizes.dims import Affine, name_flexible
from lowering.sizes.ranges import Bound
from lowering.trees import iterate
from lowering.types import NUMBERS

_WEIGHT_KINDS = {InputKind.PARAMETER: "parameter", InputKind.BUFFER: "buffer", InputKind.CONSTANT_TENSOR: "constant"}
_RESULT_KINDS = {OutputKind.BUFFER_MUTATION: "buffer_mutation", OutputKind.USER_INPUT_MUTATION: "input_mutation",
                 OutputKind.GRADIENT_TO_PARAMETER: "gradient"}

Names = Mapping[sympy.Symbol, sympy.Expr]


def signature_of(program: ExportedProgram, model: Model) -> Signature:
    """Return the arguments, results, symbols and guards of `program`.

    Constants passed to forward are baked into the graph, so they are not among the arguments. Raises Unsupported if forward writes to a
    parameter.
    """
    if written := [str(spec.target) for spec in program.graph_signature.output_specs if spec.kind is OutputKind.PARAMETER_MUTATION]:
        raise Unsupported([Problem(f"parameter '{name}'", "forward writes to it", "register it as a buffer (register_buffer)")
                           for name in written])
    placeholders = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    names, given = symbol_names(program, model), input_names(program)
    arguments = tuple(
        Argument(_WEIGHT_KINDS.get(spec.kind, "input"), argument_name(spec, given),  # type: ignore[arg-type]
                 *_describe_argument(placeholders[spec.arg.name], names))
        for spec in program.graph_signature.input_specs
        if not isinstance(spec.arg, ConstantArgument)
    )
    results = mark_states(arguments, tuple(_results(program, names)), model)
    return Signature(arguments, results, _bounds(program, model, names), _guards(program, names))


def mark_states(arguments: tuple[Argument, ...], results: tuple[Result, ...], model: Model) -> tuple[Result, ...]:
    """Return results with the arguments whose new values they are: what forward writes to, and the inputs that the model declares states.

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
            problems.append(Problem(place, f"is a state, '{name}', of {shown[0]}, and its new value '{wanted}' is {shown[1]}",
                                    "a state keeps its shape, as a cache of fixed length does (transformers.StaticCache): remove `state`"))
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


@contextmanager
def record_guards(program: ExportedProgram) -> Iterator[list[sympy.Expr]]:
    """Record the assumptions on sizes that retracing makes inside the block.

    The yielded list is complete when the block ends. It becomes `_assumed` of the retraced program. Assumptions that a size is not 0 or 1
    are left out: a dim of unknown size does not broadcast, which is also right at 1.
    """
    values = (node.meta.get("val") for node in program.graph.nodes)
    env = next((value.fake_mode.shape_env for value in values if isinstance(value, torch._subclasses.FakeTensor)), None)
    before = len(env.guards) if env is not None else 0
    found: list[sympy.Expr] = []
    yield found
    assumed = [guard.expr for guard in env.guards[before:]] if env is not None else []
    found += [expr for expr in assumed if not (isinstance(expr, sympy.Ne) and expr.rhs in (0, 1))]


def argument_name(spec: InputSpec, names: Mapping[str, str]) -> str:
    """Return the FQN of a weight, or the name by which the user passes an input (see `input_names`)."""
    return spec.target if spec.kind in _WEIGHT_KINDS and spec.target else names.get(str(spec.arg.name), str(spec.arg.name))


def input_names(program: ExportedProgram) -> dict[str, str]:
    """Return the name by which the user passes each input, by placeholder. torch's own names are in lower case and ASCII."""
    positional, named = program.call_spec.in_spec.children()  # type: ignore[union-attr]
    words = [""] * positional.num_leaves + (name_leaves(named) if named.num_leaves else [])
    inputs = [str(spec.arg.name) for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    return {name: word for name, word in zip(inputs, words, strict=False) if word}


def input_sources(program: ExportedProgram) -> dict[str, str]:
    """Return the name of each input by the way guards write it: `L['state'].hidden[0]`."""
    _, named = program.call_spec.in_spec.children()  # type: ignore[union-attr]
    return list_sources(build_marked(named)) if named.num_leaves else {}


def input_values(program: ExportedProgram, model: Model) -> dict[str, Any]:
    """Return the traced value of each input of the model, by the name by which the user passes it."""
    names = input_names(program)
    found = {names.get(node.name, node.name): node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    return {name: found[name] for name in model.leaves if name in found}


def is_static(size: Any) -> bool:
    """Return whether a size, or an input that is an int, is a number. torch may keep a SymInt after specializing it."""
    return isinstance(size, int) or (isinstance(size, torch.SymInt) and bool(sympy.sympify(size.node.expr).is_number))


def weights_of(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Return the parameters, buffers and constants by FQN, in the order of the signature."""
    weights: dict[str, torch.Tensor] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in _WEIGHT_KINDS and spec.target is not None:
            held = program.state_dict if spec.target in program.state_dict else program.constants
            weights[spec.target] = held[spec.target].detach()
    return weights


def symbol_names(program: ExportedProgram, model: Model) -> dict[sympy.Symbol, sympy.Expr]:
    """Return each symbol of the trace as an expression in the model's symbols: `s43 -> batch`, `s9 -> seq/8`.

    Flexible dims are named by `name_flexible`.
    """
    names: dict[sympy.Symbol, sympy.Expr] = {}
    values = input_values(program, model)
    flexible = []
    for input_name, declared in model.leaves.items():
        value = values.get(input_name)
        if isinstance(value, torch.SymInt):
            _solve_symbol(names, sympy.sympify(value.node.expr), _symbol(input_name))
        if not isinstance(value, torch.Tensor):
            continue
        for position, (dim, size) in enumerate(zip(declared.dims(), value.shape, strict=True)):
            if not isinstance(size, torch.SymInt):
                continue
            expression = sympy.sympify(size.node.expr)
            if isinstance(dim, Affine):
                _solve_symbol(names, expression, (_symbol(dim.symbol) * dim.scale) + dim.offset)
            else:
                flexible.append((expression, name_flexible(input_name, position)))
    for expression, word in flexible:
        _solve_symbol(names, expression, _symbol(word))
    return names


def _symbol(word: str) -> sympy.Symbol:
    return sympy.Symbol(word, integer=True, positive=True)


def _solve_symbol(names: dict[sympy.Symbol, sympy.Expr], expression: sympy.Expr, meaning: sympy.Expr) -> None:
    """Solve `expression == meaning` for its only unnamed symbol, and add the solution to `names`."""
    unnamed = [symbol for symbol in expression.free_symbols if symbol not in names]
    if len(unnamed) == 1:
        solutions = sympy.solve(expression.subs(names) - meaning, unnamed[0]) if expression != unnamed[0] else [meaning]
        if len(solutions) == 1:
            names[unnamed[0]] = solutions[0]


def dims_of(sizes: Iterator[Any] | tuple[Any, ...] | torch.Size, names: Names) -> tuple[int | str, ...]:
    """Return sizes as ints, or as expressions in the model's symbols."""
    return tuple(_dim(size, names) for size in sizes)


def _dim(size: Any, names: Names) -> int | str:
    """Return a size as an int or an expression. torch keeps a SymInt after specializing a dim."""
    expression = size if isinstance(size, sympy.Expr) else size.node.expr if isinstance(size, torch.SymInt) else int(size)
    meant = sympy.sympify(expression).subs(names)
    return int(meant) if meant.is_Integer else str(meant)


def _dtype_and_dims(value: Any, names: Names) -> tuple[str, tuple[int | str, ...]]:
    """Return the dtype and dims of a tensor or number."""
    if isinstance(value, torch.Tensor):
        return types.dtype_name(value.dtype), dims_of(value.shape, names)
    scalar = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool"}
    return next((word for kind, word in scalar.items() if isinstance(value, kind)), type(value).__name__), ()


def _describe_argument(value: Any, names: Names) -> tuple[str, tuple[int | str, ...], str | None]:
    """Return the dtype, dims and value of an argument. The value of an int is its symbol."""
    if isinstance(value, torch.SymInt):
        return NUMBERS["SymInt"], (), str(sympy.sympify(value.node.expr).subs(names))
    return (*_dtype_and_dims(value, names), None)


def _results(program: ExportedProgram, names: Names) -> Iterator[Result]:
    """Yield the results in order, then the counts of padded dims and the conditions of the run (see `lowering.capacity`)."""
    extra = getattr(program, "_extra", None)
    specs = program.graph_signature.output_specs
    added = len(extra.counts) + len(extra.checks) if extra else 0
    for number, result in enumerate(_own_results(program, names, specs[: len(specs) - added])):
        sizes = extra.sizes.get(number) if extra else None
        yield result if sizes is None else replace(result, dims=tuple(_dim(size, names) for size in sizes))
    if extra:
        yield from (Result("count", str(_dim(size, names)), "int64", value=str(_dim(capacity, names)))
                    for size, capacity in extra.counts.items())
        words = {str(symbol): str(meaning) for symbol, meaning in names.items()}
        yield from (Result("check", re.sub(r"\b[su]\d+\b", lambda match: words.get(match[0], match[0]), text), "bool")
                    for text in extra.checks)


def _own_results(program: ExportedProgram, names: Names, specs: Sequence[OutputSpec]) -> Iterator[Result]:
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
            yield Result("state", name, *_dtype_and_dims(values[spec.arg.name], names), state=written[spec.arg.name])
        else:
            yield Result(kind, name, *_dtype_and_dims(values[spec.arg.name], names))  # type: ignore[arg-type]


def _bounds(program: ExportedProgram, model: Model, names: Names) -> dict[str, Bound]:
    bounds = {name: Bound(symbol.min, symbol.max, symbol.multiple_of) for name, symbol in model.symbols.items()}
    for expression, interval in program.range_constraints.items():
        named = sympy.sympify(expression).subs(names)
        if isinstance(named, sympy.Symbol) and str(named) not in bounds:
            lower, upper = (None if bound.is_infinite or abs(bound) > 2**48 else int(bound) for bound in (interval.lower, interval.upper))
            bounds[str(named)] = Bound(lower or 0, upper)
    return bounds


_INT = re.compile(r"L\['(\w+)'\](?!\[|\.)")
_FLAT = re.compile(r"L\['flat_args'\]\[(\d+)\]")  # how a strict capture calls an input: its number, constants counted
_SIZE = re.compile(r"(L\['[^']+'\](?:\[[^\]]*\]|\.(?!size\()\w+)*)\.size\(\)\[(\d+)\]")


def _guards(program: ExportedProgram, names: Names) -> tuple[str, ...]:
    """Return the guards that torch checks only in `ep.module()`, as Python expressions in the symbols.

    Guards that the dims imply are left out.
    """
    given, sources = input_names(program), input_sources(program)
    values = {given.get(node.name, node.name): node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    sizes = {name: dims_of(value.shape, names) for name, value in values.items() if isinstance(value, torch.Tensor)}
    ints = {name for name, value in values.items() if isinstance(value, torch.SymInt)}
    flat = [given.get(str(spec.arg.name), str(spec.arg.name)) for spec in program.graph_signature.input_specs
            if spec.kind is InputKind.USER_INPUT]
    found = []
    for code in getattr(program, "_guards_code", None) or ():
        code = _FLAT.sub(lambda match: f"L['{flat[int(match[1])]}']", code)
        text = _SIZE.sub(lambda match: f"({sizes[sources[match[1]]][int(match[2])]})" if sources.get(match[1]) in sizes else match[0], code)
        text = _INT.sub(lambda match: match[1] if match[1] in ints else match[0], text)
        text = re.sub(r"(?<![\w])\((\w+)\)", r"\1", text)
        left, equals, right = text.partition(" == ")
        if not (equals and left == right):
            found.append(text)
    assumed = (sympy.sympify(expr).subs(names) for expr in getattr(program, "_assumed", ()))
    known = {symbol for meaning in names.values() for symbol in meaning.free_symbols}
    found += [str(expr) for expr in assumed if expr.free_symbols and expr.free_symbols <= known]
    found += getattr(program, "_deferred", ())
    return tuple(dict.fromkeys(found))
