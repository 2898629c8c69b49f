"""The requested dims at each level: the place of each dim in every program, and the first level where it is lost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.sizes import normal
from lowering.sizes.expression import Expression
from lowering.sizes.parsing import Unknown
from lowering.sizes.spelling import condense, spell_condition
from lowering.symbols.allowed import find_only, list_sizes
from lowering.symbols.reported import DYNAMIC
from lowering.symbols.schema import ITSELF, Place, Relation, Requested, SymbolRecord, Warned

NEEDS = "the exported program needs "  # prefix of the message of an asserted guard
ASSERTING = (Level.STABLEHLO, Level.MHLO)  # the levels whose programs can contain shape assertions
_TENSOR = re.compile(r"tensor<((?:(?:\?|\d+)x)*)")
_VTENSOR = re.compile(r"!torch\.v?tensor<\[([^\]]*)\]")
_ENTRY = re.compile(r"func\.func (?:public )?@[\w$.]+\(")
_ARGUMENT = re.compile(r"(%[\w$.]+): ")
_MESSAGE = re.compile(r'@shape_assertion\b.*?error_message = "((?:[^"\\]|\\.)*)"', re.DOTALL)


@dataclass(frozen=True)
class Argument:
    """An input of the entry function at one level, in the terms of that level."""

    value: str
    type: str
    dims: tuple[str, ...] = ()


@dataclass(frozen=True)
class LevelInputs:
    """The inputs of a program at one level, by name. asserted: messages of its shape assertions; None if the level cannot have any."""

    level: str
    arguments: Mapping[str, Argument]
    asserted: tuple[str, ...] | None = None


def follow(record: SymbolRecord, program: Program) -> SymbolRecord:
    """Add to `record` the place of every requested dim at each level of `program`, and the levels that check its relations."""
    found: dict[str, LevelInputs] = {}
    step: Program | None = program
    while step is not None:
        level_inputs = describe_inputs(step)
        if level_inputs is not None:
            found.setdefault(level_inputs.level, level_inputs)
        step = step.above
    return add_levels(record, tuple(found.values()))


def describe_inputs(program: Program) -> LevelInputs | None:
    """Return the state of the inputs of `program` at its level, from its IR and signature alone.

    Return None for a model, which has neither.
    """
    if program.signature is None or program.level is Level.MODEL:
        return None
    pairs = zip(program.signature.arguments, _list_entry_arguments(program), strict=False)
    arguments = {one.name: Argument(value, kind, tuple(parse_dims(kind))) for one, (value, kind) in pairs if one.kind == "input"}
    checks = [f"{NEEDS}{result.name.partition(' at ')[0]}" for result in program.signature.results if result.kind == "check"]
    return LevelInputs(program.level.word, arguments, (*list_assertions(program.ir), *checks) if program.level in ASSERTING else None)


def add_levels(record: SymbolRecord, inputs: Sequence[LevelInputs]) -> SymbolRecord:
    """Add the same to `record` from the inputs at all levels.

    Warns of dims that are lost, and of guards that the lowest level does not check.
    """
    ranks = {level.word: level.rank for level in Level}
    ordered = sorted(inputs, key=lambda level_inputs: ranks[level_inputs.level])
    dims = tuple(_follow_dim(dim, ordered) for dim in record.requested)
    found = tuple(_add_checkers(relation, ordered) for relation in record.relations)
    warnings = [*record.warnings, *(_warn_lost(dim) for dim in dims if dim.lost_at)]
    if ordered and ordered[-1].asserted is not None:
        lowest = ordered[-1].level
        warnings += [_warn_unchecked(relation, lowest) for relation in found if lowest not in relation.checked_by and _may_break(relation)]
    return replace(record, requested=dims, relations=found, warnings=tuple(dict.fromkeys(warnings)))


def _follow_dim(dim: Requested, inputs: Sequence[LevelInputs]) -> Requested:
    levels = []
    for level_inputs in inputs:
        argument = level_inputs.arguments.get(dim.argument)
        if argument is not None and dim.dim == ITSELF:
            levels.append(Place(level_inputs.level, argument.value, "?", argument.type))
        elif argument is not None and dim.dim < len(argument.dims):
            levels.append(Place(level_inputs.level, argument.value, argument.dims[dim.dim], argument.type))
    dynamic_above = dim.lost_at is not None or dim.verdict in DYNAMIC
    lost = next(((place.level, int(place.size), "static") for place in levels if place.static), None) or _find_asserted_size(dim, inputs)
    if lost is None or not dynamic_above:
        return replace(dim, levels=tuple(levels))
    level, size, how = lost
    return replace(dim, levels=tuple(levels), lost_at=level, verdict="specialized", value=size,
                   why=f"dynamic after export, {how} at level {level}")


def _find_asserted_size(dim: Requested, inputs: Sequence[LevelInputs]) -> tuple[str, int, str] | None:
    """Return the first level whose assertions allow only one promised size, and that size.

    Return None if there is none or too many to try.
    """
    name = f"{dim.argument}_{dim.dim}" if dim.asked == "null" else dim.asked
    sizes = list_sizes(dim.promised, dim.multiple_of)
    for level_inputs in inputs:
        needs = [message.removeprefix(NEEDS) for message in level_inputs.asserted or () if message.startswith(NEEDS)]
        if (size := find_only(needs, name, sizes)) is not None:
            return level_inputs.level, size, "asserted"
    return None


def _list_entry_arguments(program: Program) -> list[tuple[str, str]]:
    """Return the values and types of the entry's arguments, in order."""
    if program.level is Level.EXPORTED:
        from torch.export.graph_signature import ConstantArgument  # takes seconds to import, which readers of records avoid

        specs = {spec.arg.name: spec for spec in program.ir.graph_signature.input_specs}
        nodes = [node for node in program.ir.graph.nodes
                 if node.op == "placeholder" and not isinstance(specs[node.name].arg, ConstantArgument)]
        return [(node.name, _describe_fx_type(node.meta.get("val"))) for node in nodes]
    if program.level is Level.TORCHSCRIPT:
        return [(f"%{value.debugName()}", _describe_script_type(value.type())) for value in program.ir.inputs()]
    return parse_text_arguments(program.ir) if isinstance(program.ir, str) else list_mlir_arguments(program.ir)


def _describe_fx_type(value: Any) -> str:
    return f"Tensor[{', '.join(map(str, value.shape))}]" if hasattr(value, "shape") else type(value).__name__


def _describe_script_type(kind: Any) -> str:
    sizes = kind.varyingSizes() if kind.kind() == "TensorType" else None
    return str(kind) if sizes is None else f"Tensor[{', '.join('?' if size is None else str(size) for size in sizes)}]"


def list_mlir_arguments(module: Any) -> list[tuple[str, str]]:
    """Return the values and types of the entry's arguments in an MLIR module of either build."""
    entry = mlir.find_entry(module)
    values = [] if entry is None else entry.regions[0].blocks[0].arguments
    return [(f"%arg{number}", str(value.type)) for number, value in enumerate(values)]


def parse_text_arguments(text: str) -> list[tuple[str, str]]:
    """Return the same from MLIR text that a stage saved."""
    match = _ENTRY.search(text)
    if match is None:
        return []
    found, at, depth = [], match.end(), 0
    starts = [(one.start(), one.end(), one[1]) for one in _ARGUMENT.finditer(text, at, _find_closing(text, at))]
    for _, end, name in starts:
        stop = end
        while depth or text[stop] not in ",){ ":
            depth += (text[stop] in "<[(") - (text[stop] in ">])")
            stop += 1
        found.append((name, text[end:stop]))
    return found


def _find_closing(text: str, at: int) -> int:
    depth = 1
    while depth and at < len(text):
        depth += (text[at] == "(") - (text[at] == ")")
        at += 1
    return at


def parse_dims(kind: str) -> list[str]:
    """Return the dims in a tensor type of FX, TorchScript, the torch dialect or HLO: `?`, an int, or an expression."""
    if kind.startswith("Tensor["):
        return [size.strip() for size in kind[len("Tensor[") : -1].split(",") if size.strip()]
    match = _VTENSOR.match(kind)
    if match is not None:
        return [size for size in match[1].split(",") if size]
    match = _TENSOR.match(kind)
    return [size for size in match[1].split("x") if size] if match else []


def list_assertions(module: Any) -> list[str]:
    """Return the messages of the shape assertions in an MLIR module or in MLIR text."""
    if isinstance(module, str):
        return [message.replace('\\"', '"').replace("\\0A", "\n") for message in _MESSAGE.findall(module)]
    calls = (op.operation for function in mlir.walk_functions(module) for op in function.regions[0].blocks[0].operations
             if op.operation.name.endswith(".custom_call"))
    return [_read_message(call) for call in calls if "shape_assertion" in str(call.attributes["call_target_name"])]


def _read_message(call: Any) -> str:
    return str(call.attributes["error_message"].value) if "error_message" in call.attributes else ""


def _add_checkers(relation: Relation, inputs: Sequence[LevelInputs]) -> Relation:
    levels = [level_inputs.level for level_inputs in inputs if any(_mentions(message, relation) for message in level_inputs.asserted or ())]
    return replace(relation, checked_by=tuple(dict.fromkeys((*relation.checked_by, *levels))))


def _mentions(message: str, relation: Relation) -> bool:
    """Return whether an assertion's message contains the relation, or needs the same in another order of terms."""
    guard = message.removeprefix(NEEDS)
    if condense(spell_condition(relation.text)) in condense(message if guard == message else spell_condition(guard)):
        return True
    form = _normalize(guard) if guard != message else None
    return form is not None and form == _normalize(relation.text)


@lru_cache(maxsize=1024)
def _normalize(condition: str) -> Expression | None:
    """Return the normal form of a condition, or None if it has none."""
    try:
        return normal.condition(condition, {})
    except Unknown:
        return None


def _warn_lost(dim: Requested) -> Warned:
    place = next(place for place in dim.levels if place.level == dim.lost_at)
    message = f"{dim.id}, requested as {dim.asked} and dynamic after export, is {dim.value} at level {place.level} ({place.value})"
    return Warned("lost_at_level", message, dim.id, dim.value, dim.line)


def _may_break(relation: Relation) -> bool:
    """Return whether promised sizes can break a guard, or data an assertion of the model's code."""
    if relation.kind == "runtime_assert":
        return relation.holds == "unknown" and relation.line is not None
    return relation.holds == "no" and relation.kind in ("guard", "equality", "divisibility")


def _warn_unchecked(relation: Relation, lowest: str) -> Warned:
    sizes = ", ".join(f"{name}={size}" for name, size in relation.fails_at.items())
    broken = f"fails at {sizes}" if sizes else "is asserted on data"
    message = f"{relation.text} {broken}, and no program at level {lowest} checks it"
    return Warned("guard_not_carried", message, relation.text, None, relation.line)
