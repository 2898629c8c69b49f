"""Follows the requested dims down the levels: where each stands in every program, and the first level where one is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lowering.level import Level, Program
from lowering.signature import Signature
from lowering.symbols.schema import Place, Relation, Requested, SymbolRecord, Warned
from lowering.symbols.spelling import condensed

_TENSOR = re.compile(r"tensor<((?:(?:\?|\d+)x)*)")
_VTENSOR = re.compile(r"!torch\.v?tensor<\[([^\]]*)\]")
_ENTRY = re.compile(r"func\.func (?:public )?@[\w$.]+\(")
_ARGUMENT = re.compile(r"(%[\w$.]+): ")
_MESSAGE = re.compile(r'@shape_assertion\b.*?error_message = "((?:[^"\\]|\\.)*)"', re.DOTALL)


def follow(record: SymbolRecord, program: Program) -> SymbolRecord:
    """`record` with the place of every requested dim at each level that `program` passed, and who checks its relations there."""
    steps: list[Program] = []
    step: Program | None = program
    while step is not None:
        if step.signature is not None and step.level is not Level.MODEL:
            steps.append(step)
        step = step.above
    latest = {step.level: step for step in reversed(steps)}
    places = {level: dict(_places(step)) for level, step in latest.items()}
    texts = {level: str(step.ir) for level, step in latest.items() if level is Level.MHLO or level is Level.STABLEHLO}
    return placed(record, places, {level.word: asserted(text) for level, text in texts.items()})


def placed(record: SymbolRecord, places: Mapping[Level, Mapping[str, tuple[str, str, Sequence[str]]]],
           assertions: Mapping[str, Sequence[str]]) -> SymbolRecord:
    """The same from plain data. places: by level and argument, its value, type and dims; assertions: by level, what it asserts."""
    dims = tuple(_followed(dim, places) for dim in record.requested)
    lowest = max(places, key=lambda level: level.rank, default=None)
    found = tuple(_checked(relation, assertions) for relation in record.relations)
    warnings = [*record.warnings, *(_lost(dim) for dim in dims if dim.lost_at)]
    if lowest is not None and lowest.word in assertions:
        warnings += [_uncarried(relation, lowest) for relation in found if relation.holds == "no" and lowest.word not in relation.checked_by
                     and relation.kind in ("guard", "equality", "divisibility")]
    return replace(record, requested=dims, relations=found, warnings=tuple(dict.fromkeys(warnings)))


def _followed(dim: Requested, places: Mapping[Level, Mapping[str, tuple[str, str, Sequence[str]]]]) -> Requested:
    levels = []
    for level in sorted(places, key=lambda level: level.rank):
        value, kind, sizes = places[level].get(dim.argument, ("", "", ()))
        if dim.dim < len(sizes):
            levels.append(Place(level.word, value, sizes[dim.dim], kind))
    dynamic_above = dim.verdict in ("dynamic", "merged", "derived")
    lost_at = next((place.level for place in levels if place.static), None) if dynamic_above else None
    return replace(dim, levels=tuple(levels), lost_at=lost_at)


def _places(program: Program) -> Iterator[tuple[str, tuple[str, str, list[str]]]]:
    """Argument name, value, type and dims of every input of the entry function."""
    signature = program.signature
    assert signature is not None
    for argument, (value, kind) in zip(signature.arguments, _entry(program, signature), strict=False):
        if argument.kind == "input":
            yield argument.name, (value, kind, dims_of(kind))


def _entry(program: Program, signature: Signature) -> list[tuple[str, str]]:
    """Values and types of the entry's arguments, in order."""
    if program.level is Level.EXPORTED:
        specs = {spec.arg.name: spec for spec in program.ir.graph_signature.input_specs}
        nodes = [node for node in program.ir.graph.nodes if node.op == "placeholder" and _is_argument(specs[node.name], signature)]
        return [(node.name, _fx_type(node.meta.get("val"))) for node in nodes]
    if program.level is Level.TORCHSCRIPT:
        return [(f"%{value.debugName()}", _script_type(value.type())) for value in program.ir.inputs()]
    return text_arguments(program.ir) if isinstance(program.ir, str) else mlir_arguments(program.ir)


def _is_argument(spec: Any, signature: Signature) -> bool:
    """Constants that the caller passes to forward are placeholders of FX and arguments nowhere else."""
    return {spec.target, spec.arg.name} & {argument.name for argument in signature.arguments} != set()


def _fx_type(value: Any) -> str:
    return f"Tensor[{', '.join(map(str, value.shape))}]" if hasattr(value, "shape") else type(value).__name__


def _script_type(kind: Any) -> str:
    sizes = kind.varyingSizes() if kind.kind() == "TensorType" else None
    return str(kind) if sizes is None else f"Tensor[{', '.join('?' if size is None else str(size) for size in sizes)}]"


def mlir_arguments(module: Any) -> list[tuple[str, str]]:
    """Values and types of the arguments of the first public function of an MLIR module of either build."""
    for operation in module.body.operations:
        op = operation.operation
        private = "sym_visibility" in op.attributes and "private" in str(op.attributes["sym_visibility"])
        if op.name == "func.func" and not private and len(op.regions[0].blocks):
            return [(f"%arg{number}", str(value.type)) for number, value in enumerate(op.regions[0].blocks[0].arguments)]
    return []


def text_arguments(text: str) -> list[tuple[str, str]]:
    """The same from MLIR text as a stage saved it."""
    match = _ENTRY.search(text)
    if match is None:
        return []
    found, at, depth = [], match.end(), 0
    starts = [(one.start(), one.end(), one[1]) for one in _ARGUMENT.finditer(text, at, _closing(text, at))]
    for _, end, name in starts:
        stop = end
        while depth or text[stop] not in ",){ ":
            depth += (text[stop] in "<[(") - (text[stop] in ">])")
            stop += 1
        found.append((name, text[end:stop]))
    return found


def _closing(text: str, at: int) -> int:
    depth = 1
    while depth and at < len(text):
        depth += (text[at] == "(") - (text[at] == ")")
        at += 1
    return at


def dims_of(kind: str) -> list[str]:
    """The dims in a tensor type of FX, TorchScript, the torch dialect or HLO: `?`, an int, or an expression."""
    if kind.startswith("Tensor["):
        return [size.strip() for size in kind[len("Tensor[") : -1].split(",") if size.strip()]
    match = _VTENSOR.match(kind)
    if match is not None:
        return [size for size in match[1].split(",") if size]
    match = _TENSOR.match(kind)
    return [size for size in match[1].split("x") if size] if match else []


def asserted(text: str) -> list[str]:
    """The messages of the shape assertions in MLIR text."""
    return [message.replace('\\"', '"').replace("\\0A", "\n") for message in _MESSAGE.findall(text)]


def _checked(relation: Relation, assertions: Mapping[str, Sequence[str]]) -> Relation:
    levels = [level for level, messages in assertions.items() if any(_says(message, relation) for message in messages)]
    return replace(relation, checked_by=tuple(dict.fromkeys((*relation.checked_by, *levels))))


def _says(message: str, relation: Relation) -> bool:
    return condensed(relation.text) in condensed(message)


def _lost(dim: Requested) -> Warned:
    place = next(place for place in dim.levels if place.level == dim.lost_at)
    message = f"{dim.id}, asked as {dim.asked} and {dim.verdict} after export, is {place.size} at level {place.level} ({place.value})"
    return Warned("lost_at_level", message, dim.id, int(place.size), dim.line)


def _uncarried(relation: Relation, lowest: Level) -> Warned:
    sizes = ", ".join(f"{name}={size}" for name, size in relation.fails_at.items())
    message = f"{relation.text} fails at {sizes}, and no program at level {lowest.word} checks it"
    return Warned("guard_not_carried", message, relation.text, None, relation.line)
