"""Print TorchScript graphs and parse them again without loss. `parse_ir` alone drops the names of values and the user lines."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch

from lowering.ir import source_lines
from lowering.ir.source_lines import SourceLine
from lowering.torchscript.nodes import blocks, inputs, outputs

Graph: TypeAlias = torch._C.Graph

_NAME = re.compile(r"%([\w.]+) : ")
_SILENT = re.compile(r"^( +) = ", re.MULTILINE)
_STANDING_IN = "silent_"
_LINE = re.compile(r" # (?P<file>\S[^#]*):(?P<line>\d+):0$")


def parse(text: str) -> Graph:
    """Return the graph that prints as `text` (`str(graph)` of a named graph). Raises RuntimeError if it is not TorchScript."""
    graph = parse_unnamed(text)
    definitions = iter(_parse_definitions(text))
    _restore(graph.nodes(), definitions)
    return graph


def parse_unnamed(text: str) -> Graph:
    """Return the graph of `text` without the names of its values.

    Unlike `parse_ir`, it accepts nodes without results (ops that write in place).
    """
    numbers = itertools.count()
    graph = torch._C.parse_ir(_SILENT.sub(lambda match: f"{match[1]}%{_STANDING_IN}{next(numbers)} : NoneType = {_STANDING_IN}", text))
    _restore_silent(graph, graph.nodes())
    return graph


def _restore_silent(graph: Graph, nodes: Iterator[torch._C.Node]) -> None:
    """Replace the nodes that stand in for nodes without results by the originals."""
    for node in list(nodes):
        for block in blocks(node):
            _restore_silent(graph, block.nodes())
        if node.kind().startswith(_STANDING_IN):
            created = graph.create(node.kind().removeprefix(_STANDING_IN), inputs(node), 0)
            created.copyAttributes(node)
            created.insertBefore(node)
            node.destroy()


def name_values(graph: Graph) -> None:
    """Name every value that only has a number. Parsing assigns numbers again, but keeps names."""
    for number, value in enumerate(_iterate_values(graph.nodes())):
        if value.debugName().isdigit():
            value.setDebugName(f"v{number}")


def _iterate_values(nodes: Iterator[torch._C.Node]) -> Iterator[torch._C.Value]:
    for node in nodes:
        yield from outputs(node)
        for block in blocks(node):
            yield from block.inputs()
            yield from _iterate_values(block.nodes())


def _parse_definitions(text: str) -> Iterator[tuple[list[str], SourceLine | None]]:
    """Yield the names and the user line of each line that defines values or begins a block."""
    for line in text.splitlines()[1:]:
        stripped = line.strip()
        if stripped.startswith("block"):
            yield _NAME.findall(stripped), None
        elif line.startswith("  ") and (" = " in line or "::" in line) and not stripped.startswith(("->", "return")):
            place = _LINE.search(line)
            yield _NAME.findall(line.partition(" = ")[0]), SourceLine(place["file"], int(place["line"])) if place else None


def _restore(nodes: Iterator[torch._C.Node], definitions: Iterator[tuple[list[str], SourceLine | None]]) -> None:
    for node in nodes:
        names, line = next(definitions)
        _assign_names(outputs(node), names)
        if line is not None:
            node.copyMetadata(source_lines.build_script_prototype(line))
        for block in blocks(node):
            _assign_names(block.inputs(), next(definitions)[0])
            _restore(block.nodes(), definitions)


def _assign_names(values: Iterable[torch._C.Value], names: list[str]) -> None:
    for value, name in zip(values, names, strict=True):
        if not name.isdigit():
            value.setDebugName(name)
